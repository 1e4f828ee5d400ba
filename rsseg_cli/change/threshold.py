"""From which distance on a pixel has changed: Otsu's cut, but never within what noise explains.

Works on counts of the distance's logarithm, which add up over windows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]

LOW, HIGH, BINS = -8.0, 8.0, 4096
CENTRES = LOW + (np.arange(BINS) + 0.5) * (HIGH - LOW) / BINS
# Otsu's cut is of the distance to this power: between the distance itself and its logarithm.
POWER = 2 / 3
# How many sigmas of noise a change stands out at least, and which share of pixels has to for so few to do.
FLOORS = ((2.75, 0.02), (4.0, 0.002), (5.0, 0.0))
# However steady the noise, a change stands out by a factor.
LEAST_SIGMA = 0.2


def count(distance: NDArray[np.float32]) -> Counts:
    """How many pixels have which logarithm of the distance."""
    held = distance[np.isfinite(distance)]
    logarithms = np.log(np.maximum(held, 1e-9)).clip(LOW, HIGH)
    return np.histogram(logarithms, BINS, (LOW, HIGH))[0].astype(np.int64)


@dataclass(frozen=True)
class Noise:
    """The logarithm of the distance where nothing changed."""

    centre: float
    sigma: float

    @classmethod
    def of(cls, counts: Counts) -> "Noise":
        """The lowest tall mode, and what lies below it: changes lie above."""
        from scipy.ndimage import gaussian_filter1d

        width = (_quantile(counts, 0.20) - _quantile(counts, 0.05)) / (CENTRES[1] - CENTRES[0])
        smooth = gaussian_filter1d(counts.astype(np.float64), max(width, 2.0))
        is_peak = (smooth >= np.roll(smooth, 1)) & (smooth > np.roll(smooth, -1)) & (smooth >= smooth.max() / 2)
        mode = int(np.argmax(is_peak))
        below = np.where(np.arange(BINS) <= mode, counts, 0)
        return cls(float(CENTRES[mode]), max(float(CENTRES[mode] - _quantile(below, 1 - 0.6827)), LEAST_SIGMA))


def threshold(counts: Counts) -> float:
    """The distance above which a pixel has changed."""
    noise = Noise.of(counts)

    def share(sigmas: float) -> float:
        return float(counts[noise.centre + sigmas * noise.sigma < CENTRES].sum() / max(counts.sum(), 1))

    floor = next(sigmas for sigmas, needed in FLOORS if share(sigmas) >= needed)
    # A distance of one is what noise explains.
    return float(np.exp(max(_otsu(counts), noise.centre + floor * noise.sigma, 0.0)))


def _otsu(counts: Counts) -> float:
    values = np.exp(CENTRES * POWER)
    below, mass = np.cumsum(counts), np.cumsum(counts * values)
    between = (mass[-1] * below - mass * below[-1]) ** 2 / np.maximum(below * (below[-1] - below), 1)
    return float(CENTRES[np.argmax(between[:-1])])


def _quantile(counts: Counts, share: float) -> float:
    return float(CENTRES[min(np.searchsorted(np.cumsum(counts), share * counts.sum()), BINS - 1)])
