"""Which labelled ground is held back to score on, and never trained on.

Ground is looked at in cells of a few pixels. Labelled cells that touch make a patch: a polygon, or several side by
side. A patch is held back whole, because one half of a field tells all about the other. What is larger than a block,
such as a scene labelled everywhere, is cut into blocks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.labels import Labels
from rsseg_cli.raster.tiles import block_count, blocks

LEAST_CELL_PX, MOST_CELL_PX = 4, 64
# Counts of all cells and classes together, 64 MB of them; larger scenes have larger cells.
MOST_COUNTS = 1 << 25
READ_PX = 512
# What lies so near to held-back ground is not trained on either.
BUFFER_PX = 16
LEAST_BLOCK_PX = 32
# So many blocks the scenes should give, or the choice among them is none.
LEAST_BLOCKS = 24
# What a network sees around held-back ground.
MARGIN_PX = 64
# More ground than this makes the score no surer, and scoring slow.
MOST_SCORED_PX = 4_000_000
# Patches of a scene; more are specks, and are taken together block by block.
MOST_PATCHES = 4096
# The best of so many random choices, of fewer where there are many patches to look at.
DRAWS, LOOKS = 50, 20_000

Counts = NDArray[np.uint16]  # labelled pixels of a scene, (row, col, class) of its cells


@dataclass(frozen=True, eq=False)
class HeldBack:
    """What of a scene is scored on."""

    cell_px: int
    patches: NDArray[np.int32]  # (row, col) of a cell: the number of the patch held back here, from 1; else 0
    near: NDArray[np.bool_]  # held back, or too near to it to be trained on

    def nears(self, window: Window) -> NDArray[np.bool_]:
        """The pixels of a window that are not to be trained on."""
        return _pixels_of(self.near, self.cell_px, window)

    def windows(self) -> Iterator[tuple[int, Window]]:
        """Each patch's number, and the window that holds it; the last ones may stick out of the scene."""
        from scipy.ndimage import find_objects  # slow to import

        for number, place in enumerate(find_objects(self.patches), 1):
            if place is not None:
                top, left, bottom, right = (
                    at * self.cell_px for at in (place[0].start, place[1].start, place[0].stop, place[1].stop)
                )
                yield number, Window(left, top, right - left, bottom - top)

    def holds(self, number: int, window: Window) -> NDArray[np.bool_]:
        """The pixels of a window that belong to a patch."""
        return np.asarray(_pixels_of(self.patches, self.cell_px, window) == number)


def _pixels_of(cells: NDArray[Any], cell_px: int, window: Window) -> NDArray[Any]:
    rows = np.arange(window.row_off, window.row_off + window.height) // cell_px
    cols = np.arange(window.col_off, window.col_off + window.width) // cell_px
    return np.asarray(cells[np.ix_(rows, cols)])


def cell_size(grids: Sequence[Grid], classes: int) -> int:
    """Side of a cell in pixels: a power of two, so that cells fill the blocks that crops are drawn from."""
    side = LEAST_CELL_PX
    while side < MOST_CELL_PX and classes * sum(block_count(grid, side) for grid in grids) > MOST_COUNTS:
        side *= 2
    return side


def count_cells(labels: Labels, table: NDArray[np.uint8], classes: int, cell_px: int) -> Counts:
    """Labelled pixels of each class in each cell, (row, col, class); read window by window."""
    grid = labels.grid
    counts = np.zeros((ceil(grid.height / cell_px), ceil(grid.width / cell_px), classes), np.uint16)
    for window in blocks(grid, READ_PX):
        places = np.minimum(table[labels.read(window)], classes)  # what has no label counts as one class more
        rows, cols = np.arange(window.height) // cell_px, np.arange(window.width) // cell_px
        down, across = rows[-1] + 1, cols[-1] + 1
        keys = (rows[:, None] * across + cols) * (classes + 1) + places
        found = np.bincount(keys.ravel(), minlength=down * across * (classes + 1))
        top, left = window.row_off // cell_px, window.col_off // cell_px
        counts[top : top + down, left : left + across] = found.reshape(down, across, classes + 1)[..., :classes]
    return counts


def hold_back(scenes: Sequence[Counts], cell_px: int, block_px: int, share: float, seed: int) -> list[HeldBack]:
    """About a share of the labels of every class, in whole patches, out of the counts of all scenes."""
    patches = [_find_patches(np.asarray(counts.any(axis=2)), max(1, block_px // cell_px)) for counts in scenes]
    sums = [_sums(counts, found) for counts, found in zip(scenes, patches, strict=True)]
    share = min(share, MOST_SCORED_PX / max(1, sum(int(s.sum()) for s in sums)))
    chosen = _choose(np.concatenate(sums), share, seed)
    held = np.split(chosen, np.cumsum([len(s) for s in sums])[:-1])
    return [_held_back(found, which, cell_px) for found, which in zip(patches, held, strict=True)]


def block_size(grids: Sequence[Grid], crop_px: int) -> int:
    """Side of held-back blocks: more than a crop's, or scoring them would be interpolation; less in small scenes."""
    room = sqrt(sum(grid.height * grid.width for grid in grids) / LEAST_BLOCKS)
    return max(LEAST_BLOCK_PX, min(3 * crop_px // 2, int(room)))


def _find_patches(labelled: NDArray[np.bool_], block: int) -> NDArray[np.int32]:
    """The number of each cell's patch, from 1; 0 where nothing is labelled. `block` is in cells."""
    from scipy.ndimage import find_objects, label

    patches, count = label(labelled, np.ones((3, 3)), output=np.int32)
    if count > MOST_PATCHES:
        patches, large = labelled.astype(np.int32), np.array([False, True])
    else:
        extents = [max(side.stop - side.start for side in place) for place in find_objects(patches)]
        large = np.array([False, *(extent > block for extent in extents)])
    across, down = (_parts(side, block) for side in labelled.shape[::-1])
    parts = down[:, None] * (across[-1] + 1) + across + 1
    keys = patches.astype(np.int64) * (parts.max() + 1) + np.where(large[patches], parts, 0)
    _, numbers = np.unique(np.r_[0, np.where(labelled, keys, 0).ravel()], return_inverse=True)
    return numbers[1:].reshape(labelled.shape).astype(np.int32)


def _parts(side: int, block: int) -> NDArray[np.int64]:
    """The number of the block that each cell along a side lies in; the blocks are equal, and near the size wanted."""
    count = max(1, round(side / block))
    return np.arange(side) * count // side


def _sums(counts: Counts, patches: NDArray[np.int32]) -> NDArray[np.float64]:
    """Labelled pixels of each class in each patch, (patch, class), from the first patch on."""
    layers = np.moveaxis(counts, 2, 0)
    per_class = [np.bincount(patches.ravel(), layer.ravel(), patches.max() + 1) for layer in layers]
    return np.stack(per_class, axis=1)[1:].astype(float)


def _choose(sums: NDArray[np.float64], share: float, seed: int) -> NDArray[np.bool_]:
    """Patches whose classes come near to the share wanted; never more than half of a class."""
    totals = sums.sum(axis=0)
    parts = sums[:, totals > 0] / totals[totals > 0]
    best, least = np.zeros(len(sums), bool), np.inf
    for draw in range(max(1, min(DRAWS, LOOKS // max(1, len(sums))))):
        held, chosen = np.zeros(parts.shape[1]), np.zeros(len(sums), bool)
        distance = _distance(held, share)
        for number in np.random.default_rng([seed, 7, draw]).permutation(len(sums)):
            more = held + parts[number]
            if (more <= 0.5).all() and (nearer := _distance(more, share)) < distance:
                held, distance, chosen[number] = more, nearer, True
        if distance < least:
            best, least = chosen, distance
    return best


def _distance(held: NDArray[np.float64], share: float) -> float:
    """From the share of every class; a class that is not there at all counts as one more."""
    return float(np.abs(held - share).sum() + (held == 0).sum())


def _held_back(patches: NDArray[np.int32], chosen: NDArray[np.bool_], cell_px: int) -> HeldBack:
    from scipy.ndimage import binary_dilation

    held = np.where(np.r_[False, chosen][patches], patches, 0).astype(np.int32)
    near = binary_dilation(held > 0, np.ones((3, 3)), iterations=ceil(BUFFER_PX / cell_px))
    return HeldBack(cell_px, held, near)


def widened(window: Window, grid: Grid) -> Window:
    """What a network sees to score a window: that and a margin, as far as the scene reaches."""
    top, left = max(0, window.row_off - MARGIN_PX), max(0, window.col_off - MARGIN_PX)
    bottom = min(grid.height, window.row_off + window.height + MARGIN_PX)
    right = min(grid.width, window.col_off + window.width + MARGIN_PX)
    return Window(left, top, right - left, bottom - top)
