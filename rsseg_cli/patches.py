"""From scenes on disk to batches: one of the three places where files meet tensors.

Crops are drawn by step number alone, so a resumed run sees what an uninterrupted one would have seen. Held-back ground
may lie in a crop, but has no labels there.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.windows import Window
from rsseg_models.batch import Batch, Clips, Domains
from torch.nn import functional

from rsseg_cli.classes import UNLABELLED
from rsseg_cli.domain import BLOCK_PX, Census, Crops, Domain
from rsseg_cli.holdout import MARGIN_PX, widened
from rsseg_cli.normalisation import Normalisation
from rsseg_cli.raster.grid import Grid
from rsseg_cli.target import Target
from rsseg_cli.timeline import Timeline

# No crop with more than this of one class, if another try finds one with less.
MOST_OF_ONE = 0.75
TRIES = 8
# Of the target's crops, where the person has labelled some of it.
AROUND_LABELS = 0.5
# A pixel of a source with little ground is drawn at most this many times as often as one of the largest source.
MOST_OFTEN = 4.0
AHEAD = 3

Drawn = TypeVar("Drawn")
Crop = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.uint8]]  # bands, where there are any, places
Dates = tuple[Crop, NDArray[np.int64]]  # a crop with one date more in front, places but for those; and the days


def class_weights(census: Census) -> torch.Tensor:
    """sqrt(median share / share), between 1 and 2: rare classes count more, never wildly."""
    shares = census.shares
    present = shares[shares > 0]
    weights = np.clip(np.sqrt(np.median(present) / np.maximum(shares, 1e-9)), 1, 2)
    return torch.tensor(np.where(shares > 0, weights, 1.0), dtype=torch.float32)


def worth(sources: Sequence[str], census: Census) -> NDArray[np.float64]:
    """Of a labelled pixel of each block, so that sources count alike, however much ground each has.

    A large town tells no more than a small one what yet another town is like.
    """
    _, of_scene = np.unique(sources, return_inverse=True)
    of_block = of_scene[census.places[:, 0]]
    totals = np.bincount(of_block, census.counts.sum(axis=1))
    return np.asarray(np.minimum(totals.max() / np.maximum(totals, 1), MOST_OFTEN)[of_block])


class Drawer(Generic[Drawn]):
    """What is drawn by step number, drawn a little ahead by threads."""

    def __init__(self, draw: Callable[[int], Drawn], steps: int, workers: int = 2) -> None:
        self.draw, self.steps = draw, steps
        self.pool = ThreadPoolExecutor(workers)
        self.waiting: dict[int, Future[Drawn]] = {}

    def __call__(self, number: int) -> Drawn:
        for ahead in range(number, min(number + AHEAD, self.steps)):
            if ahead not in self.waiting:
                self.waiting[ahead] = self.pool.submit(self.draw, ahead)
        return self.waiting.pop(number).result()

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)


class SourceCrops:
    """Batches of the source, by step number."""

    def __init__(self, domain: Domain, crops: Crops) -> None:
        self.domain, self.crops = domain, crops
        census = domain.training
        # Rarer classes are drawn around more often (temperature as in rare-class sampling).
        self.odds = np.exp((1 - census.shares) / 0.1) * (census.shares > 0)
        self.odds /= self.odds.sum()
        self.worth = worth([pair.source for pair in domain.pairs], census)

    def __call__(self, number: int) -> Batch:
        return _batch(self.clips(number, 1))

    def clips(self, number: int, dates: int) -> Clips:
        """With so many dates of each place, as far as it has them."""
        rng = np.random.default_rng([self.crops.seed, 11, number])
        return _clips([self._crop(rng, dates) for _ in range(self.crops.batch)])

    def _crop(self, rng: np.random.Generator, dates: int) -> Dates:
        """Of a few tries, the first one not all of one class."""
        best = None
        for _ in range(TRIES):
            scene, window, side = self._place(rng)
            places = self.domain.read_places(scene, window)
            places[self.domain.held_back[scene].nears(window)] = UNLABELLED
            most = _most_of_one(places)
            if best is None or most < best[0]:
                best = (most, scene, window, side, places)
            if most <= MOST_OF_ONE:
                break
        assert best is not None
        _, scene, window, side, places = best
        timeline = self.domain.timeline
        numbers = [scene, *timeline.beside(scene, dates - 1, rng)]
        seen = [
            _whole(normalisation, pair.scene.values(window), places, side, self.crops.crop_px)
            for pair, normalisation in ((self.domain.pairs[n], self.domain.normalisations[n]) for n in numbers)
        ]
        crop = _recoloured(_together(seen, dates), self.crops.radiometry, rng)
        return _turned(crop, rng), _days(timeline, numbers, dates)

    def _place(self, rng: np.random.Generator) -> tuple[int, Window, int]:
        """A scene, a window of it around a labelled block, and the side that it would have with room enough."""
        census = self.domain.training
        if rng.random() < self.crops.rare:
            counts = census.counts[:, rng.choice(len(self.odds), p=self.odds)]
        else:
            counts = census.counts.sum(axis=1)
        weights = counts * self.worth
        scene, *corner = census.places[rng.choice(len(weights), p=weights / weights.sum())].tolist()
        grid = self.domain.pairs[scene].scene.grid
        return scene, *_around(grid, corner, BLOCK_PX, self.crops, rng)


class TargetCrops:
    """Batches of the target, by step number. What is held back is not shown.

    Nothing has a label but what the person gave; half of the crops are drawn around such labels then.
    """

    def __init__(self, target: Target, crops: Crops) -> None:
        self.target, self.crops = target, crops

    def __call__(self, number: int) -> Batch:
        return _batch(self.clips(number, 1))

    def clips(self, number: int, dates: int) -> Clips:
        """With so many dates of each place, as far as it has them."""
        rng = np.random.default_rng([self.crops.seed, 17, number])
        return _clips([self._crop(rng, dates) for _ in range(self.crops.batch)])

    def _crop(self, rng: np.random.Generator, dates: int) -> Dates:
        target = self.target
        places = target.labelled if len(target.labelled) and rng.random() < AROUND_LABELS else target.places
        number, *corner = places[rng.integers(len(places))].tolist()
        scene = target.scenes[number]
        window, side = _around(scene.grid, corner, target.block_px, self.crops, rng)
        hidden, labels = target.held_back[number].nears(window), target.read_places(number, window)
        numbers = [number, *target.timeline.beside(number, dates - 1, rng)]
        raws = (np.where(hidden, np.float32(np.nan), target.scenes[each].values(window)) for each in numbers)
        seen = [_whole(target.normalisation, raw, labels, side, self.crops.crop_px) for raw in raws]
        return _turned(_together(seen, dates), rng), _days(target.timeline, numbers, dates)


@dataclass(frozen=True)
class OfBoth:
    """A batch of each domain, by step number."""

    source: SourceCrops
    target: TargetCrops

    def __call__(self, number: int) -> Domains[Batch]:
        return Domains(self.source(number), self.target(number))


@dataclass(frozen=True)
class ClipsOfBoth:
    """Clips of each domain, by step number, with up to so many dates; fewer where no series is as long."""

    source: SourceCrops
    target: TargetCrops
    frames: int

    def __call__(self, number: int) -> Domains[Clips]:
        of_source = min(self.frames, self.source.domain.timeline.most_dates)
        of_target = min(self.frames, self.target.target.timeline.most_dates)
        return Domains(self.source.clips(number, of_source), self.target.clips(number, of_target))


def _clips(drawn: Sequence[Dates]) -> Clips:
    crops, days = zip(*drawn, strict=True)
    bands, valid, places = (np.stack(part) for part in zip(*crops, strict=True))
    since = torch.from_numpy(np.stack(days).astype(np.float32))
    return Clips(torch.from_numpy(bands), torch.from_numpy(valid), since, torch.from_numpy(places.astype(np.int64)))


def _batch(clips: Clips) -> Batch:
    """Of the only date."""
    return Batch(clips.bands[:, 0], clips.valid[:, 0], clips.labels)


def _together(seen: Sequence[Crop], dates: int) -> Crop:
    """A crop of each date as one with many; dates that a place does not have show nothing."""
    bands, valid, places = zip(*seen, strict=True)
    missing = ((0, dates - len(seen)), *[(0, 0)] * bands[0].ndim)
    return np.pad(np.stack(bands), missing), np.pad(np.stack(valid), missing[:-1]), places[0]


def _days(timeline: Timeline, numbers: Sequence[int], dates: int) -> NDArray[np.int64]:
    """Of so many dates, counted from the first; a missing one is as far as the first from itself."""
    days = np.zeros(dates, np.int64)
    days[: len(numbers)] = timeline.days[list(numbers)] - timeline.days[numbers[0]]
    return days


def _around(
    grid: Grid, corner: Sequence[int], block_px: int, crops: Crops, rng: np.random.Generator
) -> tuple[Window, int]:
    """A window around a point of a block, and the side that it would have with room enough."""
    top, left = corner
    side = round(crops.crop_px * crops.scale ** rng.uniform(-1, 1))
    row = top + rng.uniform(0, min(block_px, grid.height - top)) - side / 2
    col = left + rng.uniform(0, min(block_px, grid.width - left)) - side / 2
    height, width = min(side, grid.height), min(side, grid.width)
    top, left = (int(np.clip(at, 0, most)) for at, most in ((row, grid.height - height), (col, grid.width - width)))
    return Window(left, top, width, height), side


def _whole(
    normalisation: Normalisation, raw: NDArray[np.float32], places: NDArray[np.uint8], side: int, crop_px: int
) -> Crop:
    """Standardised, and of the crop's size."""
    valid = np.asarray(np.isfinite(raw).all(axis=0))
    bands, valid, places = _zoomed(*_filled_up(normalisation.apply(raw), valid, places, side), crop_px)
    return np.where(valid, bands, 0).astype(np.float32), valid, places


def _recoloured(crop: Crop, spread: float, rng: np.random.Generator) -> Crop:
    """Every band a little brighter or darker, on all dates alike."""
    bands, valid, places = crop
    shape = (bands.shape[1], 1, 1)
    varied = bands * np.exp(rng.normal(0, spread, shape)) + rng.normal(0, spread, shape)
    return np.where(valid[:, None], varied, 0).astype(np.float32), valid, places


def _most_of_one(places: NDArray[np.uint8]) -> float:
    """Share of the most frequent class among what is labelled; beyond 1 where nothing is."""
    counts = np.bincount(places.ravel(), minlength=256)[:UNLABELLED]
    return float(counts.max() / counts.sum()) if counts.any() else 2.0


def _filled_up(bands: NDArray[np.float32], valid: NDArray[np.bool_], places: NDArray[np.uint8], side: int) -> Crop:
    """A square, filled up with nothing where the scene is smaller."""
    height, width = places.shape
    pad = ((0, side - height), (0, side - width))
    if height == width == side:
        return bands, valid, places
    return np.pad(bands, ((0, 0), *pad)), np.pad(valid, pad), np.pad(places, pad, constant_values=UNLABELLED)


def _zoomed(bands: NDArray[np.float32], valid: NDArray[np.bool_], places: NDArray[np.uint8], side: int) -> Crop:
    """A square of another size."""
    full = len(places)
    if full == side:
        return bands, valid, places
    nearest = np.minimum(((np.arange(side) + 0.5) * full / side).astype(int), full - 1)
    at = np.ix_(nearest, nearest)
    smooth = functional.interpolate(
        torch.from_numpy(bands)[None], size=(side, side), mode="bilinear", align_corners=False, antialias=full > side
    )
    return smooth[0].numpy(), valid[at], places[at]


def _turned(crop: Crop, rng: np.random.Generator) -> Crop:
    """Turned by quarters, and mirrored, by chance."""
    turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
    bands, valid, places = crop
    return _moved(bands, turns, mirrored), _moved(valid, turns, mirrored), _moved(places, turns, mirrored)


def _moved(part: NDArray[Any], turns: int, mirrored: bool) -> NDArray[Any]:
    part = np.rot90(part, turns, axes=(-2, -1))
    return np.ascontiguousarray(part[..., ::-1] if mirrored else part)


def held_back_ground(target: Target) -> tuple[torch.Tensor, torch.Tensor]:
    """Standardised blocks (B, N, S, S) that are held back, with what lies around them; and which pixels are theirs."""
    side = target.block_px + 2 * MARGIN_PX
    shown, inside = [], []
    for scene, held in zip(target.scenes, target.held_back, strict=True):
        for number, window in held.windows():
            seen = widened(window, scene.grid)
            bands, valid, _ = _whole(
                target.normalisation, scene.values(seen), np.zeros((seen.height, seen.width), np.uint8), side, side
            )
            own = np.zeros((side, side), bool)
            own[: seen.height, : seen.width] = held.holds(number, seen)
            shown.append(bands)
            inside.append(own & valid)
    if not shown:
        return torch.zeros(0), torch.zeros(0, dtype=torch.bool)
    return torch.from_numpy(np.stack(shown)), torch.from_numpy(np.stack(inside))
