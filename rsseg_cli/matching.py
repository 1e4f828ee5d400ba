"""A target seen as the source: its bands brought to the source's statistics, so that what was learned there holds.

CORAL (Sun et al. 2016, arXiv 1511.05547), the other way round: what is mapped is the target, so that a network need
not learn anew, and what it was trained on stays as it is.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rsseg_cli.normalisation import Normalisation

Matrix = NDArray[np.float64]
# The target's values are taken as the source's are.
NO_MATCH = "none"
# A direction in which the bands vary less than this, as part of the most, is taken for no direction at all.
LEAST_VARIANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Moments:
    """Of the valid pixels of scenes, as a network gets them."""

    mean: Matrix  # (band,)
    covariance: Matrix  # (band, band)


def matched(normalisation: Normalisation, rule: str, target: Moments, source: Moments) -> Normalisation:
    """The target's normalisation, and after it what gives its pixels the source's statistics."""
    factors = MATCHES[rule](target.covariance, source.covariance)
    offsets = source.mean - factors @ target.mean
    return replace(normalisation, factors=tuple(map(tuple, factors.tolist())), offsets=tuple(offsets.tolist()))


def _by_deviation(own: Matrix, wanted: Matrix) -> Matrix:
    least = LEAST_VARIANCE * own.diagonal().max()
    return np.diag(np.sqrt(wanted.diagonal() / np.maximum(own.diagonal(), least)))


def _by_covariance(own: Matrix, wanted: Matrix) -> Matrix:
    """Whitened, then coloured as wanted."""
    return _power(wanted, 0.5) @ _power(own, -0.5)


def _power(covariance: Matrix, exponent: float) -> Matrix:
    variances, directions = np.linalg.eigh(covariance)
    # The longest direction is the last.
    powers = np.maximum(variances, LEAST_VARIANCE * variances[-1]) ** exponent
    return np.asarray((directions * powers) @ directions.T)


# By name: nothing, band by band, with what bands have in common.
MATCHES: dict[str, Callable[[Matrix, Matrix], Matrix]] = {
    "mean-std": _by_deviation,
    "coral": _by_covariance,
}
