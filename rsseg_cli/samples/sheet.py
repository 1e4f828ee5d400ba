"""A contact sheet of scenes for a quick look."""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from rsseg_cli.samples.classes import CLASSES
from rsseg_cli.samples.pair import SamplePair
from rsseg_cli.samples.scenes import SampleScene
from rsseg_cli.samples.series import SampleSeries
from rsseg_cli.samples.works import KINDS

GAP_PX = 6
THUMBNAIL_PX = 160
"""Longest side of a scene on the sheet."""
PAIR_PX = 256
"""Longest side of a date on the sheet of the pair."""
DATE_PX = 96
"""Longest side of a date on the sheet of the series."""
COLOUR_STEP = 8
"""Step of the brightness levels, coarse so that the sheet compresses well."""


def contact_sheet(scenes: Iterable[SampleScene]) -> NDArray[np.uint8]:
    """Return small pictures of the scenes in true colour in a row, with their labels below, as (3, y, x)."""
    columns = [_column(scene) for scene in scenes]
    height_px = max(column.shape[1] for column in columns)
    padded = [_padded(column, height_px) for column in columns]
    return np.concatenate(padded, axis=2)[:, :, :-GAP_PX]


def pair_sheet(pair: SamplePair) -> NDArray[np.uint8]:
    """Return pictures of both dates in true colour and of the kinds of change, side by side, as (3, y, x)."""
    step = math.ceil(max(pair.kinds.shape) / PAIR_PX)
    colours = _legend_colours(((0, "", "#e8e8e8"), *KINDS))
    kinds = colours[:, pair.kinds[step // 2 :: step, step // 2 :: step]]
    pictures = [_true_colour(pair.before, step), _true_colour(pair.after, step), kinds]
    return np.concatenate([_padded(picture, kinds.shape[1]) for picture in pictures], axis=2)[:, :, :-GAP_PX]


def series_sheet(places: Iterable[SampleSeries]) -> NDArray[np.uint8]:
    """Return small pictures of all dates of places in true colour, with their labels below, as (3, y, x)."""
    rows = [
        np.concatenate([_padded(_column(scene, DATE_PX), 0) for scene in series.scenes], axis=2) for series in places
    ]
    gap = np.full((3, GAP_PX, max(row.shape[2] for row in rows)), 255, np.uint8)
    stacked = [part for row in rows for part in (row, gap)]
    return np.concatenate(stacked, axis=1)[:, :-GAP_PX, :-GAP_PX]


def _padded(column: NDArray[np.uint8], height_px: int) -> NDArray[np.uint8]:
    return np.pad(column, ((0, 0), (0, max(0, height_px - column.shape[1])), (0, GAP_PX)), constant_values=255)


def _column(scene: SampleScene, longest_px: int = THUMBNAIL_PX) -> NDArray[np.uint8]:
    step = math.ceil(max(scene.labels.shape) / longest_px)
    colour = _true_colour(scene, step)
    labels = _legend_colours(CLASSES)[:, scene.labels[step // 2 :: step, step // 2 :: step]]
    labels = labels[:, : colour.shape[1], : colour.shape[2]]
    gap = np.full((3, GAP_PX, colour.shape[2]), 255, np.uint8)
    return np.concatenate([colour, gap, labels], axis=1)


def _true_colour(scene: SampleScene, step: int) -> NDArray[np.uint8]:
    colours = (scene.image[scene.bands.index(name)] for name in ("red", "green", "blue"))
    return np.stack([_stretched(band, step, scene.nodata) for band in colours])


def _stretched(band: NDArray[np.uint8], step: int, nodata: int | None) -> NDArray[np.uint8]:
    """Return a band shrunk by a whole step and stretched between its darkest and brightest hundredth."""
    rows, columns = (size // step for size in band.shape)
    small = band[: rows * step, : columns * step].reshape(rows, step, columns, step).mean(axis=(1, 3))
    low, high = np.percentile(small if nodata is None else small[small != nodata], [1, 99])
    levels = np.clip((small - low) / max(float(high - low), 1.0), 0, 1) * (255 // COLOUR_STEP)
    return np.asarray(np.rint(levels) * COLOUR_STEP, np.uint8)


def _legend_colours(legend: Iterable[tuple[int, str, str]]) -> NDArray[np.uint8]:
    """Return the colour (3, 256) of every id; those that are not in the legend are white."""
    colours = np.full((3, 256), 255, np.uint8)
    for number, _, code in legend:
        colours[:, number] = [int(code[at : at + 2], 16) for at in (1, 3, 5)]
    return colours
