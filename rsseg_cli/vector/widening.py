"""Islands given back the ground that straight lines cut off: round ones would shrink, and small ones most."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsseg_cli.vector.chains import Offsets
from rsseg_cli.vector.gates import SLIDE_PX, Flags, Floats, Numbers, Path, blocked

ROUNDS = 2
# Parts of the way that are tried: lines that would miss a gate go less far, or stay as they are.
SHARES = (1.0, 0.6, 0.3)


def widen(path: Path, x: Floats, y: Floats, kept: Flags, still: Flags, arcs: Numbers, pixels: Numbers) -> None:
    """Slides the points of closed arcs along their gates, all as far, until they enclose what their pixels did.

    `pixels` is that, signed as in `swept_by_arcs`; points that are `still` stay.
    """
    if not len(arcs):
        return
    rings = _Rings.of(path, kept, still, arcs)
    was = x[rings.at], y[rings.at]
    missing = np.ones(len(rings.at), bool)
    for share in SHARES:
        for _ in range(ROUNDS):
            rings.slide(path, x, y, pixels, missing * share)
        missing = rings.blocked(path, x, y)
        x[rings.at[missing]], y[rings.at[missing]] = was[0][missing], was[1][missing]
    rings.close(x, y)


@dataclass(frozen=True)
class _Rings:
    """Points of closed arcs, each once, arc by arc."""

    at: Numbers
    offsets: Offsets
    before: Numbers
    behind: Numbers
    ends: Numbers  # of the arcs, where their first point is repeated
    dx: NDArray[np.int8]  # through their gates
    dy: NDArray[np.int8]

    @classmethod
    def of(cls, path: Path, kept: Flags, still: Flags, arcs: Numbers) -> "_Rings":
        ends = path.offsets[arcs + 1] - 1
        is_on = np.zeros(len(kept) + 1, np.int8)
        np.add.at(is_on, path.offsets[arcs], 1)
        np.add.at(is_on, ends, -1)
        at = np.flatnonzero(kept & (np.cumsum(is_on[:-1]) > 0))
        offsets = np.append(np.searchsorted(at, path.offsets[arcs]), len(at))
        before, behind = np.roll(at, 1), np.roll(at, -1)
        before[offsets[:-1]], behind[offsets[1:] - 1] = at[offsets[1:] - 1], at[offsets[:-1]]
        moves = ~still[at]
        return cls(at, offsets, before, behind, ends, path.dx[at] * moves, path.dy[at] * moves)

    def slide(self, path: Path, x: Floats, y: Floats, pixels: Numbers, share: Floats) -> None:
        at, before, behind, dx, dy, begins = self.at, self.before, self.behind, self.dx, self.dy, self.offsets[:-1]
        swept = np.add.reduceat(x[at] * y[behind] - x[behind] * y[at], begins)
        gain = np.add.reduceat(-dy * (y[behind] - y[before]) + dx * (x[before] - x[behind]), begins)
        step = np.divide(-2.0 * pixels - swept, gain, out=np.zeros_like(swept), where=np.abs(gain) > 1)
        aside = (y[at] - path.y[at]) * dx - (x[at] - path.x[at]) * dy
        aside = (aside + share * np.repeat(step, np.diff(self.offsets))).clip(-SLIDE_PX, SLIDE_PX)
        x[at], y[at] = path.x[at] - aside * dy, path.y[at] + aside * dx

    def close(self, x: Floats, y: Floats) -> None:
        first = self.at[self.offsets[:-1]]
        x[self.ends], y[self.ends] = x[first], y[first]

    def blocked(self, path: Path, x: Floats, y: Floats) -> Flags:
        """Points of arcs that miss a gate."""
        self.close(x, y)
        last = self.behind.copy()
        last[self.offsets[1:] - 1] = self.ends
        skips = np.flatnonzero(last - self.at > 1)
        fails = np.zeros(len(self.at), bool)
        if len(skips):
            fails[skips] = blocked(path, x, y, self.at[skips], last[skips])
        return np.repeat(np.maximum.reduceat(fails, self.offsets[:-1]), np.diff(self.offsets))
