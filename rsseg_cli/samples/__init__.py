"""Procedural sample landscapes with exact labels, and one at two dates with known changes."""

from rsseg_cli.samples.classes import CLASSES, UNLABELLED
from rsseg_cli.samples.pair import SamplePair, draw_pair
from rsseg_cli.samples.scenes import DEFAULT_SIZE_PX, SampleScene, draw_samples
from rsseg_cli.samples.sheet import contact_sheet, pair_sheet

__all__ = [
    "CLASSES",
    "DEFAULT_SIZE_PX",
    "UNLABELLED",
    "SamplePair",
    "SampleScene",
    "contact_sheet",
    "draw_pair",
    "draw_samples",
    "pair_sheet",
]
