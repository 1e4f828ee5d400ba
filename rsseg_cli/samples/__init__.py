"""Procedural sample landscapes with exact labels."""

from rsseg_cli.samples.classes import CLASSES, UNLABELLED
from rsseg_cli.samples.scenes import DEFAULT_SIZE_PX, SampleScene, draw_samples
from rsseg_cli.samples.sheet import contact_sheet

__all__ = ["CLASSES", "DEFAULT_SIZE_PX", "UNLABELLED", "SampleScene", "contact_sheet", "draw_samples"]
