"""How far two dates lie apart on the ground, to a part of a pixel, and whether that can be relied on.

A fixed number of windows spread over the pair is correlated. Change and clouds spoil some windows; the shift that all
of them together speak for is the answer, and the share of windows that come to it on their own is its reliability.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, hypot

import numpy as np

from rsseg_cli.change.correlation import Places, correlation, inner, is_by_chance, outlines, peak
from rsseg_cli.change.pair import Pair, Values
from rsseg_cli.change.spread import spread
from rsseg_cli.errors import RssegError

WINDOW_PX, MOST_WINDOWS = 256, 64
# Beyond what is accepted one must look too, to be able to refuse it; further than a quarter of a window nobody sees.
REACH_PX = 16
LARGEST_PX = WINDOW_PX // 8
# A window with less than this share of pixels in both dates is left out.
FEWEST_HELD = 0.5
# Windows that come this near to the common answer agree with it.
AGREE_PX = 1.0
# Fewer windows are too few to confirm one another.
ENOUGH_WINDOWS = 4
RELIABLE = 0.5
# Resampling blurs: it costs more than a shift smaller than this.
WORTHWHILE_PX = 0.1

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shift:
    """What lies at (x, y) before lies at (x + dx, y + dy) after, in pixels of the common grid."""

    dx: float
    dy: float
    reliability: float  # 0 to 1

    @property
    def length_px(self) -> float:
        return hypot(self.dx, self.dy)

    def __str__(self) -> str:
        return f"a shift of {self.dx:+.2f}, {self.dy:+.2f} pixels (reliability {self.reliability:.2f})"


def register(pair: Pair, max_shift_px: float = 5.0) -> tuple[Pair, Shift]:
    """The pair with its shift taken out, and the shift that was found; as it was where that is not reliable."""
    if not 0 <= max_shift_px <= LARGEST_PX:
        raise RssegError(f"--max-shift-px {max_shift_px:g}: not from 0 to {LARGEST_PX}", "leave it away: 5 pixels")
    shift = estimate(pair, max_shift_px)
    if shift.reliability < RELIABLE:
        logger.info("the dates are left where they are: %s cannot be relied on", shift)
        return pair, shift
    if shift.length_px > max_shift_px:
        raise _too_far(pair, shift, max_shift_px)
    if shift.length_px < WORTHWHILE_PX and not pair.is_resampled:
        logger.info("the dates lie upon one another: %s is left as it is", shift)
        return pair, shift
    logger.info("%s: %s against %s, taken out", pair.after.path, shift, pair.before.path)
    return pair.shifted(shift.dx, shift.dy), shift


def _too_far(pair: Pair, shift: Shift, max_shift_px: float) -> RssegError:
    return RssegError(
        f"{pair.after.path}: {shift} against {pair.before.path}, more than {max_shift_px:g}",
        f"bring them together first, or allow it: --max-shift-px {ceil(shift.length_px)}",
        file=pair.after.path,
    )


def estimate(
    pair: Pair, max_shift_px: float = 5.0, most_windows: int = MOST_WINDOWS, fewest_held: float = FEWEST_HELD
) -> Shift:
    """The shift between the dates, found without looking at anything but the two."""
    surfaces = _surfaces(pair, max_shift_px, most_windows, fewest_held)
    if not surfaces:
        return Shift(0.0, 0.0, 0.0)
    common = _common_peak(surfaces)
    own = np.array([peak(surface) for surface in surfaces])
    agrees = np.hypot(*(own - common).T) < AGREE_PX
    dx, dy = np.median(own[agrees], axis=0) if agrees.any() else common
    reliability = float(agrees.sum()) / max(ENOUGH_WINDOWS, len(surfaces))
    return Shift(round(float(dx), 3), round(float(dy), 3), round(reliability, 3))


def _surfaces(pair: Pair, max_shift_px: float, most_windows: int, fewest_held: float) -> list[Places]:
    """Correlation in each window in which there is anything to be seen: the sea says nothing."""
    windows = spread(pair.grid, WINDOW_PX, most_windows)
    reach = min(max(REACH_PX, 2 * ceil(max_shift_px)), windows[0].width // 4)
    found = [_surface(*pair.read(window), reach, fewest_held) for window in windows]
    return [surface for surface in found if surface is not None]


def _surface(before: Values, after: Values, reach_px: int, fewest_held: float) -> Places | None:
    held = np.isfinite(before[0])
    valid = inner(held)
    if valid.mean() < fewest_held:
        return None
    surface = correlation(outlines(before, held), outlines(after, held), valid, reach_px)
    return None if is_by_chance(surface, int(valid.sum())) else surface


def _common_peak(surfaces: Sequence[Places]) -> Places:
    """Where all windows together correlate best. Fisher's transform makes correlations add up."""
    return np.array(peak(np.mean([np.arctanh(np.clip(surface, -0.999, 0.999)) for surface in surfaces], axis=0)))
