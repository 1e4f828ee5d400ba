"""From scenes on disk to batches: one of the three places where files meet tensors.

Crops are drawn by step number alone, so a resumed run sees what an uninterrupted one would have seen. Held-back ground
may lie in a crop, but has no labels there.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.windows import Window
from rsseg_models.batch import Batch
from torch.nn import functional

from rsseg_cli.classes import UNLABELLED
from rsseg_cli.domain import BLOCK_PX, Census, Crops, Domain

# No crop with more than this of one class, if another try finds one with less.
MOST_OF_ONE = 0.75
TRIES = 8
AHEAD = 3

Crop = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.uint8]]  # bands, where there are any, places


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
        bands, valid, places = (np.stack(part) for part in zip(*drawn, strict=True))
        return Batch(torch.from_numpy(bands), torch.from_numpy(valid), torch.from_numpy(places.astype(np.int64)))

    def _crop(self, rng: np.random.Generator) -> Crop:
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
        raw = self.domain.pairs[scene].scene.values(window)
        return self._varied(rng, scene, raw, places, side)

    def _place(self, rng: np.random.Generator) -> tuple[int, Window, int]:
        """A scene, a window of it around a labelled block, and the side that the window would have with room enough."""
        census = self.domain.training
        if rng.random() < self.crops.rare:
            weights = census.counts[:, rng.choice(len(self.odds), p=self.odds)].astype(float)
        else:
            weights = census.counts.sum(axis=1).astype(float)
        scene, top, left = census.places[rng.choice(len(weights), p=weights / weights.sum())].tolist()
        side = round(self.crops.crop_px * self.crops.scale ** rng.uniform(-1, 1))
        grid = self.domain.pairs[scene].scene.grid
        row = top + rng.uniform(0, min(BLOCK_PX, grid.height - top)) - side / 2
        col = left + rng.uniform(0, min(BLOCK_PX, grid.width - left)) - side / 2
        height, width = min(side, grid.height), min(side, grid.width)
        top, left = (int(np.clip(at, 0, most)) for at, most in ((row, grid.height - height), (col, grid.width - width)))
        return scene, Window(left, top, width, height), side

    def _varied(
        self, rng: np.random.Generator, scene: int, raw: NDArray[np.float32], places: NDArray[np.uint8], side: int
    ) -> Crop:
        """Zoomed to the crop's size, turned, mirrored, and every band a little brighter or darker."""
        valid = np.asarray(np.isfinite(raw).all(axis=0))
        bands = self.domain.normalisations[scene].apply(raw)
        bands, valid, places = _zoomed(*_filled_up(bands, valid, places, side), self.crops.crop_px)
        spread, shape = self.crops.radiometry, (len(bands), 1, 1)
        varied = bands * np.exp(rng.normal(0, spread, shape)) + rng.normal(0, spread, shape)
        bands = np.where(valid, varied, 0).astype(np.float32)
        turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
        return _turned(bands, turns, mirrored), _turned(valid, turns, mirrored), _turned(places, turns, mirrored)


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


def _turned(part: NDArray[Any], turns: int, mirrored: bool) -> NDArray[Any]:
    part = np.rot90(part, turns, axes=(-2, -1))
    return np.ascontiguousarray(part[..., ::-1] if mirrored else part)
