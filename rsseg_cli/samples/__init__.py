"""Procedural sample landscapes with exact labels: scenes, one place at two dates, and two places on six dates each."""

from rsseg_cli.samples.classes import CLASSES, UNLABELLED
from rsseg_cli.samples.pair import SamplePair, draw_pair
from rsseg_cli.samples.scenes import DEFAULT_SIZE_PX, SampleScene, draw_samples
from rsseg_cli.samples.series import SERIES_SIZE_PX, SampleSeries, draw_all_series
from rsseg_cli.samples.sheet import contact_sheet, pair_sheet, series_sheet

__all__ = [
    "CLASSES",
    "DEFAULT_SIZE_PX",
    "SERIES_SIZE_PX",
    "UNLABELLED",
    "SamplePair",
    "SampleScene",
    "SampleSeries",
    "contact_sheet",
    "draw_all_series",
    "draw_pair",
    "draw_samples",
    "pair_sheet",
    "series_sheet",
]
