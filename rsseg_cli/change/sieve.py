"""Changed patches that are too small count as unchanged. Patches are joined over the edges of pixels, as polygons are.

The mask is labelled strip by strip, and patches that go on from one strip to the next are joined: what is remembered is
the size of each part, and no pixel.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from rsseg_cli.change.scheme import CHANGED, UNCHANGED
from rsseg_cli.progress import Track, untracked
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.labels import Ids

STRIP_ROWS = 128
KEPT_STRIPS = 5
# Sums of areas are off by so much at most: a patch of just the least size stays.
ROUNDING = 1e-9

Parts = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Sieved:
    """A change mask without its small patches."""

    strip: Callable[[int], NDArray[np.uint8]]  # by number, from north to south
    strip_rows: int

    def read(self, window: Window) -> NDArray[np.uint8]:
        first, last = window.row_off // self.strip_rows, (window.row_off + window.height - 1) // self.strip_rows
        cols = slice(window.col_off, window.col_off + window.width)
        rows = np.concatenate([self.strip(number)[:, cols] for number in range(first, last + 1)])
        return rows[window.row_off - first * self.strip_rows :][: window.height]


def sieved(mask: Ids, grid: Grid, least: float, strip_rows: int = STRIP_ROWS, track: Track = untracked) -> Ids:
    """Without patches of less than so many square metres, or pixels where there is no coordinate system."""
    if not least:
        return mask
    sizes, pairs = _sizes(mask, grid, strip_rows, track)
    is_small = _of_patches(np.concatenate(sizes), pairs) < least * (1 - ROUNDING)
    ends = np.cumsum([len(some) for some in sizes])
    goes = [np.append(False, some) for some in np.split(is_small, ends[:-1])]  # number 0 is no part

    @lru_cache(KEPT_STRIPS)  # blocks that lie side by side ask for the same ones
    def strip(number: int) -> NDArray[np.uint8]:
        ids = mask.read(_strip(grid, number, strip_rows))
        ids[goes[number][_parts(ids)[0]]] = UNCHANGED
        return ids

    return Sieved(strip, strip_rows)


def _sizes(mask: Ids, grid: Grid, strip_rows: int, track: Track) -> tuple[list[NDArray[np.float64]], NDArray[np.int64]]:
    """(by strips, the size of each part of a patch; pairs of parts that touch across two strips)."""
    sizes, pairs = [], []
    above, count, row_areas = np.zeros(grid.width, np.int64), 0, grid.row_areas()
    strips = -(-grid.height // strip_rows)
    for number in track(range(strips), "measuring patches", strips):
        window = _strip(grid, number, strip_rows)
        parts, here = _parts(mask.read(window))
        areas = np.repeat(row_areas[window.row_off : window.row_off + window.height], grid.width)
        sizes.append(np.bincount(parts.ravel(), areas, here + 1)[1:].astype(np.float64))
        top, bottom = (_numbered(parts[row], count) for row in (0, -1))
        pairs.append(np.stack([above, top], axis=1)[(above > 0) & (top > 0)])
        above, count = bottom, count + here
    return sizes, np.concatenate(pairs) - 1


def _of_patches(sizes: NDArray[np.float64], pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """For each part, the size of the patch that it belongs to."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    one, other = np.unique(pairs, axis=0).T
    links = coo_array((np.ones(len(one), bool), (one, other)), (len(sizes), len(sizes)))
    count, patch = connected_components(links, directed=False)
    return np.asarray(np.bincount(patch, sizes, count)[patch])


def _parts(ids: NDArray[np.uint8]) -> tuple[Parts, int]:
    """(by pixel, the number of the part of a patch, 0 elsewhere; how many there are)."""
    from scipy.ndimage import label

    parts, count = label(ids == CHANGED)
    return parts, int(count)


def _numbered(row: Parts, before: int) -> NDArray[np.int64]:
    return np.where(row > 0, row.astype(np.int64) + before, 0)


def _strip(grid: Grid, number: int, rows: int) -> Window:
    top = number * rows
    return Window(0, top, grid.width, min(rows, grid.height - top))
