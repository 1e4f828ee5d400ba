"""Unlabelled: scenes of the target brought to one size on the ground, and split into what is learned from and what is
held back, on which candidates are judged without labels. No tensors here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsseg_cli.domain import Crops, at_gsd, normalisation_of
from rsseg_cli.errors import RssegError
from rsseg_cli.holdout import HeldBack, block_size
from rsseg_cli.normalisation import Normalisation
from rsseg_cli.raster.align import align
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.scene import Scene
from rsseg_cli.raster.tiles import block_count, blocks

# Blocks of all scenes together that are looked at; crops are drawn around them. More would say nothing new.
MOST_LOOKED_AT = 1024
# Of a block that is worth drawing around.
LEAST_VALID = 0.25
HELD_BACK = 0.2  # of the blocks
# Judging a candidate takes several passes over what is held back.
MOST_JUDGED_PX = 600_000


@dataclass(frozen=True, eq=False)
class Unlabelled:
    """Scenes of the target ready to be drawn from."""

    scenes: list[Scene]
    normalisation: Normalisation
    held_back: list[HeldBack]  # one a scene
    places: NDArray[np.int32]  # (block, 3): scene, row and column of its first pixel
    block_px: int


def open_unlabelled(scenes: Sequence[Scene], gsd_m: float | None, rule: str, crops: Crops) -> Unlabelled:
    """Scenes of a target, some of their ground held back; read in a regular sample of blocks."""
    placed = [align(scene, at_gsd(scene, gsd_m)) for scene in scenes]
    grids = [scene.grid for scene in placed]
    block_px = block_size(grids, crops.crop_px)
    seen = _blocks_with_ground(placed, block_px)
    if not len(seen):
        raise RssegError(
            f"{scenes[0].path}: holds nothing but nodata",
            "leave it out, or check its nodata value",
            file=scenes[0].path,
        )
    is_held = _chosen(len(seen), block_px, crops.seed)
    held_back = [_held_back(grid, seen[is_held & (seen[:, 0] == n), 1:], block_px) for n, grid in enumerate(grids)]
    return Unlabelled(placed, normalisation_of(placed, rule), held_back, seen[~is_held], block_px)


def _blocks_with_ground(scenes: Sequence[Scene], block_px: int) -> NDArray[np.int32]:
    """Scene, row and column of blocks spread evenly over all scenes, of those that hold something."""
    counts = [block_count(scene.grid, block_px) for scene in scenes]
    total = sum(counts)
    looked_at = np.unique(np.linspace(0, total - 1, min(total, MOST_LOOKED_AT)).astype(int))
    found = []
    for number, (scene, first) in enumerate(zip(scenes, np.cumsum([0, *counts]), strict=False)):
        here = set((looked_at - first).tolist())
        for place, window in enumerate(blocks(scene.grid, block_px)):
            if place in here and np.isfinite(scene.values(window)).all(axis=0).mean() >= LEAST_VALID:
                found.append((number, window.row_off, window.col_off))
    return np.array(found, np.int32).reshape(-1, 3)


def _chosen(count: int, block_px: int, seed: int) -> NDArray[np.bool_]:
    """Which blocks are held back; none of a single one."""
    wanted = min(round(HELD_BACK * count), max(1, MOST_JUDGED_PX // block_px**2))
    chosen = np.zeros(count, bool)
    chosen[np.random.default_rng([seed, 13]).permutation(count)[:wanted]] = True
    return chosen


def _held_back(grid: Grid, corners: NDArray[np.int32], block_px: int) -> HeldBack:
    patches = np.zeros((-(-grid.height // block_px), -(-grid.width // block_px)), np.int32)
    rows, cols = (corners // block_px).T
    patches[rows, cols] = np.arange(1, len(corners) + 1)
    return HeldBack(block_px, patches, patches > 0)
