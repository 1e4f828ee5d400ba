"""Target: scenes of the target brought to one size on the ground, and split into what is learned from and what is
held back, on which candidates are judged without labels. No tensors here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from rsseg_cli.classes import UNLABELLED
from rsseg_cli.domain import Crops, at_gsd, normalisation_of
from rsseg_cli.errors import RssegError
from rsseg_cli.holdout import HeldBack, block_size
from rsseg_cli.normalisation import Normalisation
from rsseg_cli.raster.align import align
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.held import fit_in_memory, held_whole
from rsseg_cli.raster.labels import Labels, align_labels
from rsseg_cli.raster.scene import Scene
from rsseg_cli.raster.tiles import block_count, blocks
from rsseg_cli.timeline import Timeline, laid_out, single

# Blocks of all scenes together that are looked at; crops are drawn around them. More would say nothing new.
MOST_LOOKED_AT = 1024
# Of a block that is worth drawing around.
LEAST_VALID = 0.25
HELD_BACK = 0.2  # of the blocks
# Judging a candidate takes several passes over what is held back.
MOST_JUDGED_PX = 600_000


@dataclass(frozen=True, eq=False)
class Target:
    """Scenes of the target ready to be drawn from."""

    scenes: list[Scene]
    normalisation: Normalisation
    held_back: list[HeldBack]  # one a scene
    places: NDArray[np.int32]  # (block, 3): scene, row and column of its first pixel
    block_px: int
    labels: list[Labels | None]  # one a scene: what the person labelled of it, as places among the source's classes
    labelled: NDArray[np.int32]  # as `places`, of blocks that hold such labels
    timeline: Timeline

    def read_places(self, scene: int, window: Window) -> NDArray[np.uint8]:
        """Places of the classes; 255 where the person has labelled nothing."""
        labels = self.labels[scene]
        return np.full((window.height, window.width), UNLABELLED, np.uint8) if labels is None else labels.read(window)


def open_target(
    scenes: Sequence[Scene],
    gsd_m: float | None,
    rule: str,
    crops: Crops,
    given: Mapping[str, Labels] | None = None,
    *,
    as_series: bool = False,
) -> Target:
    """Scenes of a target, some of their ground held back; read in a regular sample of blocks.

    `given` are labels of a few places, by the path of their scene; such places are not held back. As series, scenes of
    one place are brought onto one grid, and the same ground is held back on every date.
    """
    own, timeline = laid_out(scenes) if as_series else ([scene.grid for scene in scenes], single(len(scenes)))
    grids = [at_gsd(grid, gsd_m) for grid in own]
    placed = [align(scene, grid) for scene, grid in zip(scenes, grids, strict=True)]
    if fit_in_memory(placed):
        placed = list(map(held_whole, placed))
    block_px = block_size(grids, crops.crop_px)
    seen = _blocks_with_ground(placed, block_px)
    if not len(seen):
        raise RssegError(
            f"{scenes[0].path}: holds nothing but nodata",
            "leave it out, or check its nodata value",
            file=scenes[0].path,
        )
    known = [(given or {}).get(scene.path) for scene in scenes]
    labels = [found and align_labels(found, grid) for found, grid in zip(known, grids, strict=True)]
    labelled = _blocks_with_labels(labels, block_px)
    chosen = _chosen(_grounds(seen, timeline), _grounds(labelled, timeline), block_px, timeline, crops.seed)
    held_back = [
        _held_back(grid, chosen[chosen[:, 0] == place, 1:], block_px)
        for place, grid in zip(timeline.places, grids, strict=True)
    ]
    shown = seen[~_among(_grounds(seen, timeline), chosen)]
    return Target(placed, normalisation_of(placed, rule), held_back, shown, block_px, labels, labelled, timeline)


def _grounds(found: NDArray[np.int32], timeline: Timeline) -> NDArray[np.int32]:
    """Blocks of scenes as blocks of places."""
    return np.concatenate([timeline.places[found[:, :1]], found[:, 1:]], axis=1).astype(np.int32)


def _among(found: NDArray[np.int32], chosen: NDArray[np.int32]) -> NDArray[np.bool_]:
    wanted = set(map(tuple, chosen.tolist()))
    return np.array([tuple(entry) in wanted for entry in found.tolist()], bool)


def _blocks_with_labels(labels: Sequence[Labels | None], block_px: int) -> NDArray[np.int32]:
    """Of all blocks: labels are few, and each is wanted."""
    found = [
        (number, window.row_off, window.col_off)
        for number, part in enumerate(labels)
        if part is not None
        for window in blocks(part.grid, block_px)
        if (part.read(window) != UNLABELLED).any()
    ]
    return np.array(found, np.int32).reshape(-1, 3)


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


def _chosen(
    seen: NDArray[np.int32], labelled: NDArray[np.int32], block_px: int, timeline: Timeline, seed: int
) -> NDArray[np.int32]:
    """Which blocks of places are held back, none with labels; none of a single one."""
    grounds = list(dict.fromkeys(map(tuple, seen.tolist())))
    most = max(1, MOST_JUDGED_PX // (block_px**2 * timeline.most_dates))
    taken = set(map(tuple, labelled.tolist()))
    order = np.random.default_rng([seed, 13]).permutation(len(grounds))
    free = [grounds[number] for number in order.tolist() if grounds[number] not in taken]
    wanted = free[: min(round(HELD_BACK * len(grounds)), most)]
    return np.array(sorted(wanted), np.int32).reshape(-1, 3)


def _held_back(grid: Grid, corners: NDArray[np.int32], block_px: int) -> HeldBack:
    patches = np.zeros((-(-grid.height // block_px), -(-grid.width // block_px)), np.int32)
    rows, cols = (corners // block_px).T
    patches[rows, cols] = np.arange(1, len(corners) + 1)
    return HeldBack(block_px, patches, patches > 0)
