"""Two ways to subtract one date from the other, fitted to what did not change, and what noise makes of them.

Of the pixels of both dates together a robust covariance is taken: pixels weigh as much as it is likely that nothing
changed there (iteratively re-weighted multivariate alteration detection). One way subtracts canonical variates, in
which all bands work together; the other subtracts band from band, each in units of its own spread. What noise and
misregistration leave in the difference grows with the steepness of the image; a line says how.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Values = NDArray[np.float32]

CANONICAL, BANDS = range(2)
ROUNDS = 15
# Classes of steepness through whose medians the line of noise is drawn, and pixels that a class needs.
STEEPNESS_CLASSES = 24
CLASS_PIXELS = 20
RIDGE = 1e-6


@dataclass(frozen=True, eq=False)
class Level:
    """Differences are left @ before - right @ after - offset: first of canonical variates, then of bands."""

    left: Floats  # (2 n, n) of n bands
    right: Floats
    offset: Floats  # (2 n,)
    noise: Floats  # (2, 2) of each of the two ways: variance = first + second * steepness

    def distance(
        self, before: Values, after: Values, steepness: Values, ways: tuple[int, ...] = (CANONICAL, BANDS)
    ) -> Values:
        """The mean of some ways, in units of what noise explains; images (band, y, x)."""
        bands = len(before)
        total = np.zeros(steepness.shape, np.float32)
        for way in ways:
            rows = slice(way * bands, (way + 1) * bands)
            left, right, offset = (part[rows].astype(np.float32) for part in (self.left, self.right, self.offset))
            part = np.tensordot(left, before, 1) - np.tensordot(right, after, 1) - offset[:, np.newaxis, np.newaxis]
            floor, slope = self.noise[way].astype(np.float32)
            total += np.sqrt(np.square(part).sum(axis=0) / (floor + slope * steepness))
        return total / np.float32(len(ways))


def fit_level(before: Values, after: Values, steepness: Values) -> Level:
    """From pixels (band, pixel) of both dates."""
    bands = len(before)
    both = np.concatenate([before, after]).astype(np.float64)
    middle, unit = both.mean(axis=1), both.std(axis=1) + 1e-12
    mean, covariance = _of_unchanged((both - middle[:, np.newaxis]) / unit[:, np.newaxis])
    canonical = _canonical_differences(covariance)
    own = np.diag(1 / np.sqrt(np.diag(covariance)))
    left = np.concatenate([canonical[0], own[:bands, :bands]]) / unit[:bands]
    right = np.concatenate([canonical[1], own[bands:, bands:]]) / unit[bands:]
    centre = middle + mean * unit
    offset = left @ centre[:bands] - right @ centre[bands:]
    squares = np.square(left @ both[:bands] - right @ both[bands:] - offset[:, np.newaxis])
    ways = (squares[:bands].sum(axis=0), squares[bands:].sum(axis=0))
    return Level(left, right, offset, np.stack([_noise_line(way, steepness) for way in ways]))


def _of_unchanged(both: Floats) -> tuple[Floats, Floats]:
    """Mean and covariance of both dates' bands over what did not change."""
    from scipy import special

    bands, weights = len(both) // 2, np.ones(both.shape[1])
    for _ in range(ROUNDS):
        mean, covariance = _moments(both, weights)
        left, right = _canonical_differences(covariance)
        centred = both - mean[:, np.newaxis]
        distances = np.square(left @ centred[:bands] - right @ centred[bands:]).sum(axis=0)
        # Scaled so that their median is the law's: else each round would leave fewer pixels than the last.
        distances *= special.chdtri(bands, 0.5) / max(float(np.median(distances)), 1e-12)
        weights = np.maximum(special.chdtrc(bands, distances), 1e-6)
    return _moments(both, weights)


def _moments(both: Floats, weights: Floats) -> tuple[Floats, Floats]:
    mean = both @ weights / weights.sum()
    centred = both - mean[:, np.newaxis]
    covariance = (centred * weights) @ centred.T / weights.sum()
    return mean, covariance + RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))


def _canonical_differences(covariance: Floats) -> tuple[Floats, Floats]:
    """Rows for the bands of each date, whose differences have variance one."""
    bands = len(covariance) // 2
    one, other = (
        np.linalg.inv(np.linalg.cholesky(block)) for block in (covariance[:bands, :bands], covariance[bands:, bands:])
    )
    u, correlations, v = np.linalg.svd(one @ covariance[:bands, bands:] @ other.T)
    unit = np.sqrt(np.maximum(2 * (1 - correlations), 1e-6))[:, np.newaxis]
    return u.T @ one / unit, v @ other / unit


def _noise_line(squares: Floats, steepness: Values) -> Floats:
    """(floor, slope) of the squares' variance over steepness, neither negative, through medians: changes are few."""
    from scipy.optimize import nnls

    edges = np.quantile(steepness, np.linspace(0, 1, STEEPNESS_CLASSES + 1))
    of_pixel = np.clip(np.searchsorted(edges, steepness, "right") - 1, 0, STEEPNESS_CLASSES - 1)
    members = [of_pixel == number for number in range(STEEPNESS_CLASSES)]
    members = [member for member in members if np.count_nonzero(member) >= CLASS_PIXELS]
    if not members:
        return np.array([max(float(np.median(squares)), RIDGE), 0.0])
    x = np.array([steepness[member].mean() for member in members])
    y = np.maximum([np.median(squares[member]) for member in members], RIDGE)
    floor, slope = nnls(np.stack([1 / y, x / y], axis=1), np.ones(len(y)))[0]  # relative errors count
    return np.array([max(floor, RIDGE), slope])
