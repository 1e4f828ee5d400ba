"""How different the two dates look at each pixel, in units of what noise and misregistration explain.

    a sample of the pair -> DistanceModel -> any window -> distance

Light, season and sensor are taken out by fitting what did not change (`level.py`), at two levels of sharpness. Where
both images are steep, a small shift makes large differences without any change: there it takes more. In the end the
distance is averaged over octaves of surroundings. No truth is asked anywhere, and the order of the dates is no matter.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from rsseg_cli.change.level import BANDS, CANONICAL, Level, fit_level
from rsseg_cli.change.pair import Pair
from rsseg_cli.change.spread import spread
from rsseg_cli.errors import RssegError

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

    def distance(self, before: Values, after: Values) -> Values:
        """Of a window (band, y, x) with a halo; NaN where there is nothing. Within the halo it is that of the whole."""
        held = np.isfinite(before[0]) & np.isfinite(after[0])
        views = _Views.of(before, after, held, self.spread)
        sharp = self.sharp.distance(views.before, views.after, views.steepness, self.ways)
        fine = self.fine.distance(views.fine_before, views.fine_after, views.steepness, self.ways)
        raw = ((sharp + fine) / 2)[np.newaxis]
        around = np.mean([_blurred(raw, held, scale)[0] for scale in SCALES_PX], axis=0)
        return np.where(held, around, np.nan).astype(np.float32)


def fit_distance(pair: Pair, ways: tuple[int, ...] = (CANONICAL, BANDS), seed: int = 0) -> DistanceModel:
    """From windows spread over the pair."""
    spreads = _spreads(pair)
    rng = np.random.default_rng(seed)
    windows = spread(pair.grid, SAMPLE_SIDE_PX, SAMPLE_WINDOWS)
    parts = [_sample(pair, window, spreads, SAMPLE_PIXELS // len(windows), rng) for window in windows]
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


def _spreads(pair: Pair) -> NDArray[np.float64]:
    """(date, band) standard deviations over the windows of the sample."""
    pixels, sums = 0, np.zeros((2, 2, len(pair.before.bands)))
    for window in spread(pair.grid, SAMPLE_SIDE_PX, SAMPLE_WINDOWS):
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
        fine_before, fine_after = _blurred(before, held, FINE_PX), _blurred(after, held, FINE_PX)
        shared = np.minimum(_steepness(fine_before, spreads[0]), _steepness(fine_after, spreads[1]))
        return cls(before, after, fine_before, fine_after, _blurred(shared[np.newaxis], held, FINE_PX)[0])


def _steepness(image: Values, spreads: NDArray[np.float64]) -> Values:
    """Squared gradient, summed over bands in units of their spread."""
    slopes = [np.square(np.gradient(image, axis=axis)) for axis in (1, 2)]
    return np.tensordot(1 / np.square(spreads), sum(slopes), 1).astype(np.float32)


def _blurred(image: NDArray[Any], held: Flags, sigma: float) -> Values:
    """By a Gaussian that does not look at pixels with nothing."""
    from scipy.ndimage import gaussian_filter

    weight = np.maximum(gaussian_filter(held.astype(np.float32), sigma, truncate=TRUNCATE), 1e-6)
    soft = [gaussian_filter(np.where(held, band, 0), sigma, truncate=TRUNCATE) for band in image]
    blurred: Values = np.stack(soft).astype(np.float32) / weight
    return blurred
