"""From scenes on disk to batches: one of the three places where files meet tensors.

Crops are drawn by step number alone, so a resumed run sees what an uninterrupted one would have seen. What is held
back for validation lies in blocks of its own, a buffer around them is trained on by nobody.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from affine import Affine
from numpy.typing import NDArray
from rasterio.windows import Window
from rsseg_models.batch import Batch
from torch.nn import functional

from rsseg_cli.classes import UNLABELLED, ClassScheme
from rsseg_cli.errors import RssegError
from rsseg_cli.folders import Labelled, positions
from rsseg_cli.normalisation import Normalisation, fixed, robust
from rsseg_cli.raster.align import align
from rsseg_cli.raster.grid import SAME_GSD, Grid
from rsseg_cli.raster.labels import align_labels
from rsseg_cli.raster.scene import Scene
from rsseg_cli.raster.tiles import block_count, blocks

CENSUS_PX = 64  # side of the blocks whose labels are counted
SAMPLED_BLOCKS = 256  # of a domain, for its statistics
BUFFER_PX = 16  # around validation blocks
# No crop with more than this of one class, if another try finds one with less.
MOST_OF_ONE = 0.75
TRIES = 8
AHEAD = 3


@dataclass(frozen=True)
class Crops:
    """How crops are drawn and varied."""

    side_px: int = 128
    batch: int = 8
    seed: int = 0
    scale: float = 1.0  # zoomed in or out by up to this factor
    radiometry: float = 0.1  # spread of the random gain and shift of each band
    rare: float = 0.5  # part of the crops that is drawn around a class, the rarer the likelier


@dataclass(frozen=True, eq=False)
class Census:
    """Labelled pixels of each class in each block of each scene; what is held back is left out."""

    places: list[tuple[int, Window]]  # (scene, block)
    counts: NDArray[np.int64]  # (block, class)

    @property
    def shares(self) -> NDArray[np.float64]:
        totals = self.counts.sum(axis=0)
        return np.asarray(totals / max(1, totals.sum()))


@dataclass(frozen=True, eq=False)
class Domain:
    """Labelled scenes brought to one size on the ground, one order of bands and one scale of values."""

    pairs: list[Labelled]
    normalisations: list[Normalisation]  # one a scene
    scheme: ClassScheme
    held_back: list[list[Window]]  # validation blocks of each scene
    training: Census
    validation: Census

    def read(self, scene: int, window: Window) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """(raw bands with NaN, places of the classes)."""
        pair = self.pairs[scene]
        return pair.scene.read(window).values, positions(self.scheme)[pair.labels.read(window)]


def at_gsd(scene: Scene, gsd_m: float | None) -> Grid:
    """The scene's grid with pixels of another size on the ground; its own where that is about the same."""
    own = scene.grid.gsd_m
    if gsd_m is None or own is None or abs(own / gsd_m - 1) < SAME_GSD:
        return scene.grid
    factor = gsd_m / own
    height, width = max(1, round(scene.grid.height / factor)), max(1, round(scene.grid.width / factor))
    transform = scene.grid.transform @ Affine.scale(scene.grid.width / width, scene.grid.height / height)
    return replace(scene.grid, transform=transform, height=height, width=width)


def coarsest_gsd(scenes: Sequence[Scene]) -> float | None:
    """The size on the ground that every scene can be brought to without inventing detail."""
    sizes = [scene.grid.gsd_m for scene in scenes]
    return max(size for size in sizes if size is not None) if all(sizes) and sizes else None


def normalisation_of(scenes: Sequence[Scene], rule: str) -> Normalisation:
    """Of a whole domain, from a regular sample of its pixels."""
    first = scenes[0]
    if rule == "fixed":
        return fixed(first.dtype, len(first.bands))
    share = max(1, SAMPLED_BLOCKS // len(scenes))
    return robust((sample for scene in scenes for sample in _samples(scene, share)), first.names, first.path)


def _samples(scene: Scene, most: int) -> Iterator[NDArray[np.float32]]:
    """Valid pixels (band, n) of blocks spread over the scene, every fourth one."""
    count = block_count(scene.grid, CENSUS_PX)
    wanted = set(np.linspace(0, count - 1, min(count, most)).astype(int).tolist())
    for number, window in enumerate(blocks(scene.grid, CENSUS_PX)):
        if number in wanted:
            values = scene.read(window).values
            yield values[:, np.isfinite(values).all(axis=0)][:, ::4]


def open_domain(
    pairs: Sequence[Labelled], gsd_m: float | None, rule: str, crops: Crops, validation_share: float = 0.2
) -> Domain:
    """Labelled scenes ready to be drawn from, with blocks held back for validation."""
    placed = [_at_gsd(pair, gsd_m) for pair in pairs]
    scheme = placed[0].labels.scheme
    table = positions(scheme)
    whole = _census(placed, len(scheme.classes), table, [[] for _ in placed], within=False)
    if not whole.counts.sum():
        raise RssegError(
            f"{placed[0].scene.path}: no pixel of the {len(placed)} scenes is labelled",
            "check with `rsseg info` that labels and images lie in the same place",
            file=placed[0].scene.path,
        )
    held_back = _hold_back(placed, whole, validation_share, crops.seed)
    normalisation = normalisation_of([pair.scene for pair in placed], rule)
    return Domain(
        placed,
        [normalisation] * len(placed),
        scheme,
        held_back,
        _census(placed, len(scheme.classes), table, held_back, within=False),
        _census(placed, len(scheme.classes), table, held_back, within=True),
    )


def _at_gsd(pair: Labelled, gsd_m: float | None) -> Labelled:
    grid = at_gsd(pair.scene, gsd_m)
    return Labelled(align(pair.scene, grid), align_labels(pair.labels, grid))


def _census(
    pairs: Sequence[Labelled], classes: int, table: NDArray[np.uint8], held_back: list[list[Window]], within: bool
) -> Census:
    """Counts outside the held-back blocks, or within them."""
    places, counts = [], []
    for number, pair in enumerate(pairs):
        for window in blocks(pair.scene.grid, CENSUS_PX):
            ids = table[pair.labels.read(window)]
            held = _held(window, held_back[number], 0 if within else BUFFER_PX)
            ids = np.where(held == within, ids, UNLABELLED)
            found = np.bincount(ids.ravel(), minlength=256)[:classes]
            if found.any():
                places.append((number, window))
                counts.append(found)
    return Census(places, np.array(counts, np.int64).reshape(len(places), classes))


def _held(window: Window, held_back: Sequence[Window], buffer_px: int) -> NDArray[np.bool_]:
    """Where a window lies within held-back blocks, widened by a buffer."""
    held = np.zeros((window.height, window.width), bool)
    for block in held_back:
        top, left = block.row_off - buffer_px - window.row_off, block.col_off - buffer_px - window.col_off
        bottom, right = top + block.height + 2 * buffer_px, left + block.width + 2 * buffer_px
        held[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = True
    return held


def _hold_back(pairs: Sequence[Labelled], census: Census, share: float, seed: int) -> list[list[Window]]:
    """Blocks for validation: of many random choices, the one whose classes are spread most like those of the whole."""
    wanted = max(1, round(share * len(census.places)))
    rng = np.random.default_rng([seed, 7])
    best, least = np.arange(wanted), np.inf
    for _ in range(200 if len(census.places) > 1 and share > 0 else 0):
        chosen = rng.choice(len(census.places), min(wanted, len(census.places) - 1), replace=False)
        found = census.counts[chosen].sum(axis=0)
        distance = (
            np.abs(found / max(1, found.sum()) - census.shares).sum() + 10 * ((found == 0) & (census.shares > 0)).sum()
        )
        if distance < least:
            best, least = chosen, distance
    held: list[list[Window]] = [[] for _ in pairs]
    for place in best if np.isfinite(least) else []:
        number, window = census.places[place]
        held[number].append(window)
    return held


def class_weights(census: Census) -> torch.Tensor:
    """sqrt(median share / share), between 1 and 2: rare classes count more, never wildly."""
    shares = census.shares
    present = shares[shares > 0]
    weights = np.clip(np.sqrt(np.median(present) / np.maximum(shares, 1e-9)), 1, 2)
    return torch.tensor(np.where(shares > 0, weights, 1.0), dtype=torch.float32)


class Drawer:
    """Batches of a domain by step number, read a little ahead by threads."""

    def __init__(self, domain: Domain, crops: Crops, steps: int, workers: int = 2) -> None:
        self.domain, self.crops, self.steps = domain, crops, steps
        self.pool = ThreadPoolExecutor(workers)
        self.waiting: dict[int, Future[Batch]] = {}
        census = domain.training
        # Rarer classes are drawn around more often (temperature as in rare-class sampling).
        self.odds = np.exp((1 - census.shares) / 0.1) * (census.shares > 0)
        self.odds /= self.odds.sum()

    def __call__(self, number: int) -> Batch:
        for ahead in range(number, min(number + AHEAD, self.steps)):
            if ahead not in self.waiting:
                self.waiting[ahead] = self.pool.submit(self._draw, ahead)
        return self.waiting.pop(number).result()

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)

    def _draw(self, number: int) -> Batch:
        rng = np.random.default_rng([self.crops.seed, 11, number])
        drawn = [self._crop(rng) for _ in range(self.crops.batch)]
        bands, valid, labels = (np.stack(part) for part in zip(*drawn, strict=True))
        return Batch(torch.from_numpy(bands), torch.from_numpy(valid), torch.from_numpy(labels.astype(np.int64)))

    def _crop(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.uint8]]:
        best = None
        for _ in range(TRIES):
            scene, window = self._place(rng)
            raw, labels = self.domain.read(scene, window)
            labels = np.where(_held(window, self.domain.held_back[scene], BUFFER_PX), UNLABELLED, labels)
            most = _most_of_one(labels)
            if best is None or most < best[0]:
                best = (most, scene, raw, labels)
            if most <= MOST_OF_ONE:
                break
        assert best is not None
        _, scene, raw, labels = best
        return self._varied(rng, scene, raw, labels.astype(np.uint8))

    def _place(self, rng: np.random.Generator) -> tuple[int, Window]:
        """A scene and a window of it, around a labelled block."""
        census = self.domain.training
        if rng.random() < self.crops.rare:
            weights = census.counts[:, rng.choice(len(self.odds), p=self.odds)].astype(float)
        else:
            weights = census.counts.sum(axis=1).astype(float)
        scene, block = census.places[rng.choice(len(weights), p=weights / weights.sum())]
        side = round(self.crops.side_px * self.crops.scale ** rng.uniform(-1, 1))
        grid = self.domain.pairs[scene].scene.grid
        row = block.row_off + rng.uniform(0, block.height) - side / 2
        col = block.col_off + rng.uniform(0, block.width) - side / 2
        height, width = min(side, grid.height), min(side, grid.width)
        top, left = (int(np.clip(at, 0, most)) for at, most in ((row, grid.height - height), (col, grid.width - width)))
        return scene, Window(left, top, width, height)

    def _varied(
        self, rng: np.random.Generator, scene: int, raw: NDArray[np.float32], labels: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.uint8]]:
        """Zoomed to the crop's size, turned, mirrored, and every band a little brighter or darker."""
        valid = np.asarray(np.isfinite(raw).all(axis=0))
        bands = self.domain.normalisations[scene].apply(raw)
        bands, valid, labels = _to_side(bands, valid, labels, self.crops.side_px)
        spread, shape = self.crops.radiometry, (len(bands), 1, 1)
        varied = bands * np.exp(rng.normal(0, spread, shape)) + rng.normal(0, spread, shape)
        bands = np.where(valid, varied, 0).astype(np.float32)
        turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
        return _turned(bands, turns, mirrored), _turned(valid, turns, mirrored), _turned(labels, turns, mirrored)


def _most_of_one(labels: NDArray[np.uint8]) -> float:
    """Share of the most frequent class among what is labelled; beyond 1 where nothing is."""
    counts = np.bincount(labels.ravel().astype(np.uint8), minlength=256)[:UNLABELLED]
    return float(counts.max() / counts.sum()) if counts.any() else 2.0


def _to_side(
    bands: NDArray[np.float32], valid: NDArray[np.bool_], labels: NDArray[np.uint8], side: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.uint8]]:
    """Resampled to a square; a scene smaller than a crop is filled up with nothing."""
    height, width = labels.shape
    full = max(height, width)
    if height != width:
        pad = ((0, full - height), (0, full - width))
        bands, valid = np.pad(bands, ((0, 0), *pad)), np.pad(valid, pad)
        labels = np.pad(labels, pad, constant_values=UNLABELLED)
    if full == side:
        return bands, valid, labels
    nearest = np.minimum(((np.arange(side) + 0.5) * full / side).astype(int), full - 1)
    at = np.ix_(nearest, nearest)
    smooth = functional.interpolate(
        torch.from_numpy(bands)[None], size=(side, side), mode="bilinear", align_corners=False, antialias=full > side
    )
    return smooth[0].numpy(), valid[at], labels[at]


def _turned(part: NDArray[Any], turns: int, mirrored: bool) -> NDArray[Any]:
    part = np.rot90(part, turns, axes=(-2, -1))
    return np.ascontiguousarray(part[..., ::-1] if mirrored else part)
