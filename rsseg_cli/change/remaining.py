"""The shift that remains between the dates of a series, although all lie on one grid."""

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rsseg_cli.change.pair import Pair
from rsseg_cli.change.shift import RELIABLE, estimate
from rsseg_cli.change.spread import SMALLEST_PX, spread
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.scene import Scene

# Shadows turn with the sun, which looks like a shift of half a pixel where nothing is off (the sample series: 0.56).
LEAST_PX = 0.6
# Two, and what an estimate of two may be off. Farther is another fault than that of a sensor's orbit, and not put right
# in passing.
MOST_PX = 2.5
# Correlated between two dates; fewer than of a pair, since there are many dates.
WINDOW_PX, MOST_WINDOWS = 256, 16
# Of a window, what both dates must show: clouds and stripes of two dates leave less than those of a pair.
FEWEST_HELD = 0.2

logger = logging.getLogger(__name__)


def remaining_shifts(scenes: Sequence[Scene], grid: Grid) -> NDArray[np.float32]:
    """By how many pixels (down, right) each date lies off the one that shows most; 0 where that cannot be relied on."""
    if min(grid.shape) < SMALLEST_PX or len(scenes) < 2:
        return np.zeros((len(scenes), 2), np.float32)
    windows = spread(grid, WINDOW_PX, MOST_WINDOWS)
    shown = [sum(int(np.isfinite(scene.values(w)).all(axis=0).sum()) for w in windows) for scene in scenes]
    clearest = scenes[int(np.argmax(shown))]
    return np.array([_off(clearest, scene, grid) for scene in scenes], np.float32)


def _off(clearest: Scene, scene: Scene, grid: Grid) -> tuple[float, float]:
    if scene is clearest:
        return 0.0, 0.0
    pair = Pair(clearest, scene, grid, True, clearest)
    shift = estimate(pair, MOST_PX, MOST_WINDOWS, FEWEST_HELD)
    if shift.reliability >= RELIABLE and shift.length_px > MOST_PX:
        logger.warning(
            "%s: lies %.1f pixels off %s, which is too far to be allowed for: what one date says of a place is held "
            "against another. Register it first",
            *(scene.path, shift.length_px, clearest.path),
        )
        return 0.0, 0.0
    if shift.reliability < RELIABLE or shift.length_px < LEAST_PX:
        logger.debug("%s: left where it is: %s against %s", scene.path, shift, clearest.path)
        return 0.0, 0.0
    return shift.dy, shift.dx
