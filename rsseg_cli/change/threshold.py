"""From which distance on a pixel has changed: Otsu's cut, but never within what noise explains; or another rule.

Works on counts of the distance's logarithm, which add up over windows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rsseg_cli.errors import RssegError

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
Rule = Literal["auto", "otsu", "kittler", "null"]

LOW, HIGH, BINS = -8.0, 8.0, 4096
CENTRES = LOW + (np.arange(BINS) + 0.5) * (HIGH - LOW) / BINS
# Otsu's cut is of the distance to this power: between the distance itself and its logarithm.
POWER = 2 / 3
# How many sigmas of noise a change stands out at least, and which share of pixels has to for so few to do.
FLOORS = ((2.75, 0.02), (4.0, 0.002), (5.0, 0.0))
# However steady the noise, a change stands out by a factor.
LEAST_SIGMA = 0.2
# A distance of one is what noise explains: what reaches beyond this by a sigma is no noise, but changes and what lies
# around them.
FARTHEST = 1.0
# The share of unchanged ground that the rule `null` flags.
FALSE_ALARMS = 0.01
# The score at which the rules cut.
HALF = 0.5


@dataclass(frozen=True)
class Cut:
    """How it is decided what has changed."""

    rule: Rule = "auto"  # for the distance at which the score is one half
    score: float = HALF  # from which on a pixel has changed
    is_given: bool = False  # the score, by the person

    @classmethod
    def of(cls, text: str | float) -> "Cut":
        """`auto`, another rule, or a score between 0 and 1."""
        for rule in get_args(Rule):
            if text == rule:
                return cls(rule)
        try:
            score = float(text)
        except ValueError:
            score = -1.0
        if not 0 < score < 1:
            raise RssegError(
                f"--threshold {text}: is neither {', '.join(get_args(Rule))} nor a score between 0 and 1",
                "leave it out, or try 0.5",
            )
        return cls(score=score, is_given=True)


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
        """The lowest tall mode, and what lies below it: changes lie above. If those prevail, what noise explains."""
        from scipy.ndimage import gaussian_filter1d

        width = (_quantile(counts, 0.20) - _quantile(counts, 0.05)) / (CENTRES[1] - CENTRES[0])
        smooth = gaussian_filter1d(counts.astype(np.float64), max(width, 2.0))
        is_peak = (smooth >= np.roll(smooth, 1)) & (smooth > np.roll(smooth, -1)) & (smooth >= smooth.max() / 2)
        mode = int(np.argmax(is_peak))
        below = np.where(np.arange(BINS) <= mode, counts, 0)
        found = cls(float(CENTRES[mode]), max(float(CENTRES[mode] - _quantile(below, 1 - 0.6827)), LEAST_SIGMA))
        return found if found.centre + found.sigma <= FARTHEST else cls(0.0, LEAST_SIGMA)


def threshold(counts: Counts, rule: Rule = "auto") -> float:
    """The distance above which a pixel has changed."""
    return float(np.exp(_RULES[rule](counts)))


def _auto(counts: Counts) -> float:
    noise = Noise.of(counts)

    def share(sigmas: float) -> float:
        return float(counts[noise.centre + sigmas * noise.sigma < CENTRES].sum() / max(counts.sum(), 1))

    floor = next(sigmas for sigmas, needed in FLOORS if share(sigmas) >= needed)
    # A distance of one is what noise explains.
    return max(_otsu(counts, np.exp(CENTRES * POWER)), noise.centre + floor * noise.sigma, 0.0)


def _otsu(counts: Counts, values: Floats = CENTRES) -> float:
    """Parts the values into two groups that are as far apart as can be."""
    below, mass = np.cumsum(counts), np.cumsum(counts * values)
    between = (mass[-1] * below - mass * below[-1]) ** 2 / np.maximum(below * (below[-1] - below), 1)
    return _middle_of(between[:-1])


def _kittler(counts: Counts) -> float:
    """Kittler and Illingworth: where two normal laws part with the fewest pixels on the wrong side.

    Only above the middle of what noise leaves: below, a part of the noise itself would be taken for the unchanged.
    """
    total, step = max(counts.sum(), 1), CENTRES[1] - CENTRES[0]
    below = np.cumsum([counts, counts * CENTRES, counts * CENTRES**2], axis=1)
    cost = np.zeros(BINS)
    for pixels, first, second in (below, below[:, -1:] - below):
        weight = np.maximum(pixels, 1)
        sigma = np.sqrt(np.maximum(second / weight - (first / weight) ** 2, step**2))
        cost += pixels / total * np.log(sigma * total / weight)
    return _middle_of(np.where(Noise.of(counts).centre <= CENTRES, -cost, -np.inf)[:-1])


def _null(counts: Counts) -> float:
    """So that a hundredth of what did not change is flagged, if noise is as wide above its middle as below."""
    from scipy.stats import norm

    noise = Noise.of(counts)
    return noise.centre + float(norm.isf(FALSE_ALARMS)) * noise.sigma


_RULES: Mapping[Rule, Callable[[Counts], float]] = {
    "auto": _auto,
    "otsu": _otsu,
    "kittler": _kittler,
    "null": _null,
}


def _middle_of(quality: Floats) -> float:
    """The best place for a cut; in a gap, where no pixel lies, all places are as good, and the middle is taken."""
    best = np.flatnonzero(quality == quality.max())
    return float(CENTRES[best[[0, -1]]].mean())


def _quantile(counts: Counts, share: float) -> float:
    return float(CENTRES[min(np.searchsorted(np.cumsum(counts), share * counts.sum()), BINS - 1)])
