"""What makes a change mask doubtful, in words."""

import numpy as np
from numpy.typing import NDArray

from rsseg_cli.change.pair import Pair
from rsseg_cli.change.shift import RELIABLE, Shift
from rsseg_cli.change.spread import spread

# More changed than this is more likely light, season or cloud. Of a half that changed, as little as 70 % is found.
MUCH = 1 / 3
# Two dates of one place that can be compared correlate better than this in some mixture of their bands; two places
# do not.
LEAST_LIKENESS = 0.4
SAMPLE_WINDOWS, SAMPLE_SIDE_PX = 16, 256
EVERY_PX = 7  # neighbours say the same again
RIDGE = 1e-6


def of_pair(pair: Pair, shift: Shift | None) -> list[str]:
    """Before it is compared."""
    doubts = []
    if shift is not None and shift.reliability < RELIABLE:
        doubts.append(
            f"whether the dates lie upon one another cannot be told (reliability {shift.reliability:.2f}): if one is "
            "shifted, outlines will seem changed"
        )
    alike = likeness(pair)
    if alike < LEAST_LIKENESS:
        doubts.append(
            f"the dates hardly resemble each other (correlation {alike:.2f}): they may differ too much in season, "
            "light or sensor, and too much or too little may be found"
        )
    return doubts


def of_share(share: float, flagged_share: float) -> list[str]:
    """Of what has changed, with and without small patches."""
    if flagged_share == 0:
        return ["nothing has changed, as far as these two dates can tell"]
    if share == 0:
        return ["nothing is left: all that changed are patches smaller than --min-area"]
    if share > MUCH:
        return [f"{share:.0%} of the ground seems changed: the dates may differ too much in season, light or cloud"]
    return []


def likeness(pair: Pair) -> float:
    """The first canonical correlation: how well a mixture of bands at one date tells a mixture of them at the other."""
    parts = []
    for window in spread(pair.grid, SAMPLE_SIDE_PX, SAMPLE_WINDOWS):
        both = np.stack(pair.read(window)).astype(np.float64)
        parts.append(both[:, :, np.isfinite(both[0, 0])][:, :, ::EVERY_PX])
    before, after = (_whitened(values) for values in np.concatenate(parts, axis=2))
    return float(np.linalg.svd(before @ after.T / max(before.shape[1], 1), compute_uv=False)[0])


def _whitened(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mixtures of bands (band, pixel) that have variance one and do not correlate."""
    pixels = max(values.shape[1], 1)
    centred = values - values.sum(axis=1, keepdims=True) / pixels
    covariance = centred @ centred.T / pixels
    covariance += (RIDGE * np.trace(covariance) / len(covariance) + np.finfo(np.float64).tiny) * np.eye(len(covariance))
    return np.asarray(np.linalg.solve(np.linalg.cholesky(covariance), centred))
