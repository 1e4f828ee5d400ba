"""How different the two dates look at each pixel, in units of what noise and misregistration explain.

    a sample of the pair -> DistanceModel -> any window -> distance

Light, season and sensor are taken out by fitting what did not change (`level.py`), at two levels of sharpness. Where
both images are steep, a small shift makes large differences without any change: there it takes more. In the end the
distance is averaged over octaves of surroundings. No truth is asked anywhere, and the order of the dates is no matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from rsseg_cli.change.level import BANDS, CANONICAL, Level, fit_level
from rsseg_cli.change.pair import Pair
from rsseg_cli.change.spread import spread
from rsseg_cli.errors import RssegError
from rsseg_cli.progress import Track, untracked

Values = NDArray[np.float32]
Flags = NDArray[np.bool_]

FINE_PX = 0.7  # the less sharp level; steepness is taken at it
SCALES_PX = (1, 2, 4, 8)  # octaves of surroundings
TRUNCATE = 3.0  # Gaussians end after so many sigmas
REACH_PX = 2 * round(TRUNCATE * FINE_PX) + 2  # of what is known of a pixel before surroundings are averaged
HALO_PX = REACH_PX + round(TRUNCATE * SCALES_PX[-1])
SAMPLE_PIXELS = 60_000
SAMPLE_WINDOWS, SAMPLE_SIDE_PX = 64, 256
FEWEST_PIXELS = 100


@dataclass(frozen=True, eq=False)
class DistanceModel:
    """Fitted to one pair."""

    spread: NDArray[np.float64]  # (2, n) of each date's bands, in which steepness is measured
    sharp: Level
    fine: Level
    ways: tuple[int, ...] = (CANONICAL, BANDS)  # of subtracting, that are taken together

    def levels(self, before: Values, after: Values) -> Values:
        """(level, y, x) of a window: by sharpness and way of subtracting. Their mean is the distance."""
        held = np.isfinite(before[0]) & np.isfinite(after[0])
        views = _Views.of(before, after, held, self.spread)
        sharp, fine = (views.before, views.after), (views.fine_before, views.fine_after)
        raw = np.stack(
            [
                level.distance(*dates, views.steepness, (way,))
                for level, dates in ((self.sharp, sharp), (self.fine, fine))
                for way in self.ways
            ]
        )
        around = np.mean([blurred(raw, held, scale) for scale in SCALES_PX], axis=0)
        return np.where(held, around, np.float32(np.nan))

    def distance(self, before: Values, after: Values) -> Values:
        """Of a window (band, y, x) with a halo; NaN where there is nothing. Within the halo it is that of the whole."""
        found: Values = self.distances(before, after, (self.ways,))[0]
        return found

    def distances(self, before: Values, after: Values, several: Sequence[tuple[int, ...]]) -> Values:
        """(n, y, x): the distance by each of several sets of ways, which share most of the work."""
        held = np.isfinite(before[0]) & np.isfinite(after[0])
        views = _Views.of(before, after, held, self.spread)
        raw = np.stack([self._raw(views, ways) for ways in several])
        around = np.mean([blurred(raw, held, scale) for scale in SCALES_PX], axis=0)
        return np.where(held, around, np.float32(np.nan))

    def _raw(self, views: "_Views", ways: tuple[int, ...]) -> Values:
        """Of both levels of sharpness, without surroundings."""
        sharp = self.sharp.distance(views.before, views.after, views.steepness, ways)
        fine = self.fine.distance(views.fine_before, views.fine_after, views.steepness, ways)
        return (sharp + fine) / np.float32(2)


def fit_distance(
    pair: Pair, ways: tuple[int, ...] = (CANONICAL, BANDS), seed: int = 0, track: Track = untracked
) -> DistanceModel:
    """From windows spread over the pair."""
    spreads = _spreads(pair, track)
    rng = np.random.default_rng(seed)
    windows = spread(pair.grid, SAMPLE_SIDE_PX, SAMPLE_WINDOWS)
    samples = (_sample(pair, window, spreads, SAMPLE_PIXELS // len(windows), rng) for window in windows)
    parts = list(track(samples, "fitting", len(windows)))
    sharp_before, sharp_after, fine_before, fine_after, steepness = (
        np.concatenate(values, axis=-1) for values in zip(*parts, strict=True)
    )
    if steepness.shape[-1] < FEWEST_PIXELS:
        raise RssegError(
            f"{pair.before.path} and {pair.after.path}: {steepness.shape[-1]} pixels hold something at both dates",
            "that is too little to say what noise is; take a larger area",
            file=pair.after.path,
        )
    return DistanceModel(
        spreads,
        fit_level(sharp_before, sharp_after, steepness),
        fit_level(fine_before, fine_after, steepness),
        ways,
    )


def _spreads(pair: Pair, track: Track) -> NDArray[np.float64]:
    """(date, band) standard deviations over the windows of the sample."""
    pixels, sums = 0, np.zeros((2, 2, len(pair.before.bands)))
    windows = spread(pair.grid, SAMPLE_SIDE_PX, SAMPLE_WINDOWS)
    for window in track(windows, "looking at both dates", len(windows)):
        both = np.stack(pair.read(window)).astype(np.float64)
        held = both[:, :, np.isfinite(both[0, 0])]
        pixels += held.shape[2]
        sums += held.sum(axis=2), np.square(held).sum(axis=2)
    means, squares = sums / max(pixels, 1)
    variances = np.maximum(squares - np.square(means), 0)
    for scene, of_date, mean in zip((pair.before, pair.after), variances, means, strict=True):
        # Beside an image that shows nothing, everything would seem to have changed.
        if pixels and (of_date <= 1e-12 * np.square(mean)).all():
            raise RssegError(
                f"{scene.path}: holds the same value everywhere that was looked at",
                "is it a mask, or an empty image? Look at it in QGIS",
                file=scene.path,
            )
    return np.asarray(np.sqrt(variances) + 1e-12)


def _sample(
    pair: Pair, window: Window, spreads: NDArray[np.float64], most: int, rng: np.random.Generator
) -> tuple[Values, ...]:
    """(before, after, both less sharp, steepness) of some pixels of a window."""
    before, after = pair.read(window)
    held = np.isfinite(before[0])
    views = _Views.of(before, after, held, spreads)
    at = np.flatnonzero(held)
    at = np.sort(rng.choice(at, min(most, len(at)), replace=False))
    images = (views.before, views.after, views.fine_before, views.fine_after)
    return *(image.reshape(len(image), -1)[:, at] for image in images), views.steepness.ravel()[at]


@dataclass(frozen=True, eq=False)
class _Views:
    """Two dates as they are and less sharp, 0 where there is nothing, and the steepness that both share."""

    before: Values
    after: Values
    fine_before: Values
    fine_after: Values
    steepness: Values

    @classmethod
    def of(cls, before: Values, after: Values, held: Flags, spreads: NDArray[np.float64]) -> "_Views":
        before, after = np.where(held, before, 0), np.where(held, after, 0)
        fine_before, fine_after = blurred(before, held, FINE_PX), blurred(after, held, FINE_PX)
        shared = np.minimum(_steepness(fine_before, spreads[0]), _steepness(fine_after, spreads[1]))
        return cls(before, after, fine_before, fine_after, blurred(shared[np.newaxis], held, FINE_PX)[0])


def _steepness(image: Values, spreads: NDArray[np.float64]) -> Values:
    """Squared gradient, summed over bands in units of their spread."""
    slopes = sum(np.square(np.gradient(image, axis=axis)) for axis in (1, 2))
    return np.asarray(np.tensordot((1 / np.square(spreads)).astype(np.float32), slopes, 1))


def blurred(image: NDArray[Any], held: Flags, sigma: float) -> Values:
    """By a Gaussian that does not look at pixels with nothing."""
    from scipy.ndimage import gaussian_filter

    def soft(band: NDArray[Any]) -> Values:
        return np.asarray(gaussian_filter(band, sigma, truncate=TRUNCATE), np.float32)

    if held.all():  # as most windows are: then the weight is one
        return np.stack([soft(band) for band in image])
    weight = np.maximum(soft(held.astype(np.float32)), np.float32(1e-6))
    return np.asarray(np.stack([soft(np.where(held, band, 0)) for band in image]) / weight, np.float32)
