"""Domain: labelled scenes brought to one size on the ground, one scale of values, and split into what is trained on
and what is held back. No tensors here, so that all of it can be checked before they are loaded.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.windows import Window

from rsseg_cli.classes import ClassScheme
from rsseg_cli.errors import RssegError
from rsseg_cli.folders import Labelled, positions
from rsseg_cli.holdout import Counts, HeldBack, block_size, cell_size, count_cells, hold_back
from rsseg_cli.matching import Moments
from rsseg_cli.normalisation import Normalisation, fixed, robust
from rsseg_cli.raster.align import align
from rsseg_cli.raster.grid import SAME_GSD, Grid
from rsseg_cli.raster.held import fit_in_memory, held_labels, held_whole
from rsseg_cli.raster.labels import align_labels
from rsseg_cli.raster.scene import Scene
from rsseg_cli.raster.tiles import block_count, blocks
from rsseg_cli.timeline import Timeline, laid_out, single

BLOCK_PX = 64  # crops are drawn around a point of such a block
SAMPLED_BLOCKS = 256  # of a domain, for its statistics
HELD_BACK = 0.2  # of the labels
# Scenes are learned from as finely as the finest shows, unless that is hardly finer than the coarsest, which then need
# not be resampled; and at most so many times finer, for more shows nothing new and takes time.
LEAST_FINER, MOST_FINER = 1.25, 2.0
# What a person may ask for: each scene has so many pixels left along its longer side, and none so many times more.
LEAST_PX, MOST_ENLARGED = 16, 8.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Crops:
    """How crops are drawn and varied."""

    batch: int = 8
    """Crops a step."""
    crop_px: int = 128
    """Side of a crop."""
    seed: int = 0
    """The same seed gives the same model on a CPU."""
    scale: float = 1.0
    """Zoomed in or out by up to this factor."""
    radiometry: float = 0.1
    """Spread of the random gain and shift of each band."""
    rare: float = 0.5
    """Part of the crops that is drawn around a class, the rarer the likelier."""

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("batch", self.batch, 1, 4096),
            ("crop_px", self.crop_px, 32, 8192),
            ("seed", self.seed, 0, 2**31),
            ("scale", self.scale, 1, 4),
            ("radiometry", self.radiometry, 0, 1),
            ("rare", self.rare, 0, 1),
        ):
            if not least <= value <= most:
                raise RssegError(f"{name} = {value}: out of range", f"give between {least} and {most}")


@dataclass(frozen=True, eq=False)
class Census:
    """Labelled pixels of each class in the blocks that crops are drawn around; what is held back is left out."""

    places: NDArray[np.int32]  # (block, 3): scene, row and column of its first pixel
    counts: NDArray[np.uint16]  # (block, class)

    @property
    def totals(self) -> NDArray[np.int64]:
        return np.asarray(self.counts.sum(axis=0, dtype=np.int64))

    @property
    def shares(self) -> NDArray[np.float64]:
        return np.asarray(self.totals / max(1, self.totals.sum()))


@dataclass(frozen=True, eq=False)
class Domain:
    """Labelled scenes ready to be drawn from."""

    pairs: list[Labelled]
    normalisations: list[Normalisation]  # one a scene
    scheme: ClassScheme
    held_back: list[HeldBack]  # one a scene
    training: Census
    scored: NDArray[np.int64]  # held-back pixels of each class
    timeline: Timeline

    def read_places(self, scene: int, window: Window) -> NDArray[np.uint8]:
        """Places of the classes; 255 where nothing is labelled."""
        return positions(self.scheme)[self.pairs[scene].labels.read(window)]


def at_gsd(grid: Grid, gsd_m: float | None) -> Grid:
    """The grid with pixels of another size on the ground; as it is where that is about the same."""
    own = grid.gsd_m
    if gsd_m is None or own is None or abs(own / gsd_m - 1) < SAME_GSD:
        return grid
    factor = gsd_m / own
    height, width = max(1, round(grid.height / factor)), max(1, round(grid.width / factor))
    transform = grid.transform @ Affine.scale(grid.width / width, grid.height / height)
    return replace(grid, transform=transform, height=height, width=width)


@dataclass(frozen=True)
class Scale:
    """Sizes on the ground; None where none is known."""

    gsd_m: float | None = None
    """Of a pixel that is learned from."""
    detail_m: float | None = None
    """Of the coarsest pixels among scenes and learned ones; labelled scenes show no finer detail, for others cannot."""


def common_scale(scenes: Sequence[Scene], wanted: float | None = None) -> Scale:
    """What to learn at. A network that looks at every fourth pixel tells more from the same ground on finer ones."""
    known = [scene.grid.gsd_m for scene in scenes if scene.grid.gsd_m is not None]
    without = [scene.path for scene in scenes if scene.grid.gsd_m is None]
    coarsest = max(known, default=None)
    if wanted:
        _check_wanted(scenes, wanted)
    chosen = wanted or (coarsest and _worth_learning_at(min(known), coarsest))
    if without and chosen is not None:
        more = f" and {len(without) - 1} more" if len(without) > 1 else ""
        logger.info("%s%s: no size on the ground is known; a pixel is taken as %.4g m", without[0], more, chosen)
    elif len(without) > 1:
        logger.info("no scene has a size on the ground: their pixels are taken as equal")
    return Scale(chosen, max(filter(None, (chosen, coarsest)), default=None))


def _check_wanted(scenes: Sequence[Scene], wanted: float) -> None:
    """Refuses pixels so large that a scene is gone, or so small that all are huge."""
    known = [(scene, scene.grid.gsd_m) for scene in scenes if scene.grid.gsd_m is not None]
    if not known:
        return
    coarsest = [own * max(1.0, max(scene.grid.shape) / LEAST_PX) for scene, own in known]
    least, most = min(own for _, own in known) / MOST_ENLARGED, min(coarsest)
    if least <= wanted <= most:
        return
    scene, own = known[coarsest.index(most)]
    sides = " x ".join(str(max(1, round(side * own / wanted))) for side in reversed(scene.grid.shape))
    raise RssegError(
        f"--gsd {wanted:g}: {scene.path}, of pixels of {own:.4g} m, would have {sides} pixels",
        f"give between {1.01 * least:.3g} and {0.99 * most:.3g}, or leave --gsd away",
        file=scene.path,
    )


def _worth_learning_at(finest: float, coarsest: float) -> float:
    finer = min(coarsest / finest, MOST_FINER)
    return coarsest / finer if finer >= LEAST_FINER else coarsest


def normalisation_of(scenes: Sequence[Scene], rule: str) -> Normalisation:
    """Of a whole domain, from a regular sample of its pixels."""
    first = scenes[0]
    if rule == "fixed":
        return fixed(first.dtype, len(first.bands))
    share = max(1, SAMPLED_BLOCKS // len(scenes))
    return robust((sample for scene in scenes for sample in samples(scene, share)), first.names, first.path)


def moments_of(scenes: Sequence[Scene], normalisation: Normalisation) -> Moments:
    """From the same sample as the normalisation."""
    share = max(1, SAMPLED_BLOCKS // len(scenes))
    sampled = np.concatenate([sample for scene in scenes for sample in samples(scene, share)], axis=1)
    pixels = normalisation.apply(sampled[:, None])[:, 0].astype(np.float64)
    return Moments(pixels.mean(axis=1), np.cov(pixels, ddof=0).reshape(len(pixels), len(pixels)))


def samples(scene: Scene, most: int) -> Iterator[NDArray[np.float32]]:
    """Valid pixels (band, n) of blocks spread over the scene, every fourth one."""
    count = block_count(scene.grid, BLOCK_PX)
    wanted = set(np.linspace(0, count - 1, min(count, most)).astype(int).tolist())
    for number, window in enumerate(blocks(scene.grid, BLOCK_PX)):
        if number in wanted:
            values = scene.values(window)
            yield values[:, np.isfinite(values).all(axis=0)][:, ::4]


def open_domain(pairs: Sequence[Labelled], scale: Scale, rule: str, crops: Crops, *, as_series: bool = False) -> Domain:
    """Labelled scenes, some of their ground held back to score on. Labels are read once, window by window.

    As series, scenes of one place are brought onto one grid, and the same ground is held back on every date.
    """
    scenes = [pair.scene for pair in pairs]
    grids, timeline = laid_out(scenes) if as_series else ([scene.grid for scene in scenes], single(len(scenes)))
    placed = [_placed(pair, grid, scale) for pair, grid in zip(pairs, grids, strict=True)]
    if fit_in_memory(pair.scene for pair in placed):
        placed = [replace(pair, scene=held_whole(pair.scene), labels=held_labels(pair.labels)) for pair in placed]
    scheme = placed[0].labels.scheme
    grids, classes = [pair.scene.grid for pair in placed], len(scheme.classes)
    cell_px = cell_size(grids, classes)
    counts = [count_cells(pair.labels, positions(scheme), classes, cell_px) for pair in placed]
    totals = np.sum([scene.sum(axis=(0, 1), dtype=np.int64) for scene in counts], axis=0)
    _refuse_too_few_classes(placed, totals)
    held_back = _held_back(counts, timeline, cell_px, block_size(grids, crops.crop_px), crops.seed)
    training = _census(counts, [held.near for held in held_back], cell_px)
    if (training.totals[totals > 0] == 0).any():
        # Little ground: with the buffer left out as well, a class would be gone.
        held_back = [replace(held, near=held.patches > 0) for held in held_back]
        training = _census(counts, [held.near for held in held_back], cell_px)
    scored = _census(counts, [held.patches == 0 for held in held_back], cell_px).totals
    _tell_of_gaps(scheme, totals, scored)
    normalisation = normalisation_of([pair.scene for pair in placed], rule)
    return Domain(placed, [normalisation] * len(placed), scheme, held_back, training, scored, timeline)


def _held_back(counts: Sequence[Counts], timeline: Timeline, cell_px: int, block_px: int, seed: int) -> list[HeldBack]:
    """One a scene; of a place, what any date has labels for."""
    places = sorted(set(timeline.places.tolist()))
    together = [np.max([counts[scene] for scene in timeline.scenes_of(place)], axis=0) for place in places]
    held = hold_back(together, cell_px, block_px, HELD_BACK, seed)
    return [held[place] for place in timeline.places.tolist()]


def _placed(pair: Labelled, own: Grid, scale: Scale) -> Labelled:
    grid, shown = at_gsd(own, scale.gsd_m), align(pair.scene, at_gsd(own, scale.detail_m))
    return replace(pair, scene=align(shown, grid), labels=align_labels(pair.labels, grid))


def _refuse_too_few_classes(pairs: Sequence[Labelled], totals: NDArray[np.int64]) -> None:
    present = [name for name, total in zip(pairs[0].labels.scheme.names, totals, strict=True) if total]
    if not present:
        raise RssegError(
            f"{pairs[0].labels.path}: no pixel of the {len(pairs)} scenes is labelled",
            "check with `rsseg info` that labels and images lie in the same place",
            file=pairs[0].labels.path,
        )
    if len(present) == 1:
        raise RssegError(
            f"{pairs[0].labels.path}: all that is labelled is {present[0]}; a model tells two classes apart, or more",
            "label other ground too; or, if what no polygon covers is something else, give --background",
            file=pairs[0].labels.path,
        )


def _census(counts: Sequence[Counts], left_out: Sequence[NDArray[np.bool_]], cell_px: int) -> Census:
    """Cells taken together into blocks, without those left out."""
    cells = BLOCK_PX // cell_px
    places, found = [], []
    for number, (scene, out) in enumerate(zip(counts, left_out, strict=True)):
        down, across = (-side % cells for side in out.shape)
        kept = np.pad(np.where(out[..., None], 0, scene), ((0, down), (0, across), (0, 0)))
        shape = (kept.shape[0] // cells, cells, kept.shape[1] // cells, cells, -1)
        in_blocks = kept.reshape(shape).sum(axis=(1, 3), dtype=np.uint16)
        rows, cols = np.nonzero(in_blocks.any(axis=2))
        places.append(np.stack([np.full_like(rows, number), rows * BLOCK_PX, cols * BLOCK_PX], axis=1))
        found.append(in_blocks[rows, cols])
    return Census(np.concatenate(places).astype(np.int32), np.concatenate(found))


def _tell_of_gaps(scheme: ClassScheme, totals: NDArray[np.int64], scored: NDArray[np.int64]) -> None:
    named = list(zip(scheme.names, totals, scored, strict=True))
    if unknown := [name for name, total, _ in named if not total]:
        logger.warning("no pixel is labelled %s: the model cannot learn it", ", ".join(unknown))
    if not scored.any():
        logger.warning("there is too little labelled ground to hold some back: the model will have no score")
    elif unscored := [name for name, total, held in named if total and not held]:
        logger.warning("%s: labelled in one place only, so trained on and not scored", ", ".join(unscored))
