"""Other ids for the regions of a coverage: those of one id that share a border become one region."""

import numpy as np
from numpy.typing import NDArray

from rsseg_cli.classes import UNLABELLED
from rsseg_cli.vector.chains import Indices
from rsseg_cli.vector.corners import EAST, NORTH, SOUTH, WEST, Corners
from rsseg_cli.vector.coverage import NOTHING, Coverage, cover

UNSEEN = -1


def reclass(coverage: Coverage, ids: NDArray[np.uint8]) -> Coverage:
    """The coverage whose regions have these ids, UNLABELLED for none. Lines must not have been moved."""
    return cover(coverage.grid, _without_straight(_corners(coverage, ids)))


def _corners(coverage: Coverage, ids: NDArray[np.uint8]) -> Corners:
    """The corners along all arcs that still part two ids, with the new ids around them."""
    here, there, way, sides = _steps(coverage, ids)
    x, y = coverage.lines.x, coverage.lines.y
    width = coverage.grid.width + 1
    keys = y.astype(np.int64) * width + x
    place, at = np.unique(np.concatenate([keys[here], keys[there]]), return_inverse=True)
    around = np.full((4, len(place)), UNSEEN, np.int16)
    # A step out of a corner has its left side before its way, clockwise, and its right side behind it.
    for corner, out, (left, right) in (
        (at[: len(here)], way, sides),
        (at[len(here) :], (way + 2) % 4, sides[::-1]),
    ):
        around[out, corner] = left
        around[(out + 1) % 4, corner] = right
    rows, columns = np.divmod(place, width)
    return Corners(columns.astype(np.int32), rows.astype(np.int32), _filled(around))


def _steps(coverage: Coverage, ids: NDArray[np.uint8]) -> tuple[Indices, Indices, NDArray[np.uint8], NDArray[np.uint8]]:
    """(point, next point, way between them, (2, step) ids on the left and on the right)."""
    lines = coverage.lines
    beside = np.where(coverage.region == NOTHING, UNLABELLED, ids[coverage.region]).reshape(-1, 2)
    sizes = np.diff(lines.offsets)
    parts = beside[:, 0] != beside[:, 1]
    leads = np.repeat(parts, sizes)
    leads[lines.offsets[1:] - 1] = False  # from the end of an arc to the next arc
    here = np.flatnonzero(leads).astype(np.int32)
    there = here + np.int32(1)
    dx, dy = lines.x[there] - lines.x[here], lines.y[there] - lines.y[here]
    way = np.select([dy < 0, dx > 0, dy > 0], [NORTH, EAST, SOUTH], WEST).astype(np.uint8)
    return here, there, way, np.repeat(beside[parts], sizes[parts] - 1, axis=0).T


def _filled(around: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Where a border turns, it passes three of the four pixels; the fourth is one with those beside it."""
    for way in range(4):
        unseen = around[way] == UNSEEN
        around[way, unseen] = around[(way + 1) % 4, unseen]
    return around.astype(np.uint8)


def _without_straight(corners: Corners) -> Corners:
    edges = [corners.has_edge(way) for way in range(4)]
    straight = (edges[NORTH] == edges[SOUTH]) & (edges[EAST] == edges[WEST]) & (edges[NORTH] != edges[EAST])
    return Corners(corners.x[~straight], corners.y[~straight], corners.around[:, ~straight])
