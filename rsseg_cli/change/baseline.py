"""A constant between two processing baselines of one sensor: no change on the ground, though every pixel differs.

Sentinel-2 products of baseline 04.00 and later, those since January 2022, hold all values 1000 higher.
"""

import logging

import numpy as np
from numpy.typing import NDArray

from rsseg_cli.change.pair import Pair
from rsseg_cli.change.spread import spread
from rsseg_cli.raster.scene import Scene

OFFSET = 1000
# Dark ground itself differs by no more than this from season to season.
TOLERANCE = 250
# Reflectance times 10 000, and bright clouds above it.
LARGEST = 20_000
WINDOW_PX, MOST_WINDOWS = 256, 16
# Of the darkest part of each band: there, what is added weighs more than what the light multiplies.
DARK_PERCENT = (1, 5)
BRIGHT_PERCENT = 99

logger = logging.getLogger(__name__)


def note_offset(pair: Pair) -> float:
    """Says where one date lies 1000 above the other in all bands; gives what it found, 0 where it is not so."""
    if not (_is_reflectance_like(pair.before) and _is_reflectance_like(pair.after)):
        return 0.0
    dark, bright = _levels(pair)
    differences = dark[1] - dark[0]
    if not len(differences) or bright.max() > LARGEST:
        return 0.0
    offset = float(np.median(differences))
    if np.abs(np.abs(differences) - OFFSET).max() > TOLERANCE or np.ptp(np.sign(differences)):
        return 0.0
    upper, lower = (pair.after, pair.before) if offset > 0 else (pair.before, pair.after)
    logger.warning(
        "%s holds values about %d higher than %s in all bands: Sentinel-2 products have been so since processing "
        "baseline 04.00 (January 2022)",
        upper.path,
        OFFSET,
        lower.path,
    )
    return offset


def _is_reflectance_like(scene: Scene) -> bool:
    """Whole numbers of 16 bits that nothing says the scale of."""
    return all(band.dtype in ("int16", "uint16") and (band.scale, band.offset) == (1, 0) for band in scene.bands)


def _levels(pair: Pair) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(dark levels (date, level of a band), bright levels alike), of a sample; empty where it holds nothing."""
    parts = []
    for window in spread(pair.grid, WINDOW_PX, MOST_WINDOWS):
        both = np.stack(pair.read(window))
        parts.append(both[:, :, np.isfinite(both[0, 0])])
    sample = np.concatenate(parts, axis=-1)
    if sample.shape[-1] == 0:
        return np.empty((2, 0), np.float32), np.empty((2, 0), np.float32)
    dark = np.percentile(sample, DARK_PERCENT, axis=-1)
    bright = np.asarray(np.percentile(sample, BRIGHT_PERCENT, axis=-1))
    return np.moveaxis(dark, 1, 0).reshape(2, -1), bright
