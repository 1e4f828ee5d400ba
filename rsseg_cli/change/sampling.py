"""What `metric-cd` learns from: some pixels of a pair, as it is and with known changes in either date."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from rsseg_cli.change.distance import SAMPLE_SIDE_PX, SAMPLE_WINDOWS
from rsseg_cli.change.jitter import again
from rsseg_cli.change.known import Chips, with_changes
from rsseg_cli.change.pair import Pair
from rsseg_cli.change.spread import spread
from rsseg_cli.change.threshold import count, threshold
from rsseg_cli.progress import Track

if TYPE_CHECKING:
    from rsseg_cli.change.levels import Levels

Values = NDArray[np.float32]
Flags = NDArray[np.bool_]

# Pixels of the pair as it is, and with known changes.
REAL_PIXELS, KNOWN_PIXELS = 200_000, 60_000
# Ground is taken for unchanged where the distance stays below this part of the limit.
UNCHANGED = 0.7
# One window in so many is kept back. A raster of fewer shows too little to keep any.
KEEP_BACK = 4


@dataclass(frozen=True, eq=False)
class Table:
    """Some pixels."""

    as_it_is: Values  # the classical distance without known changes
    classical: Values  # and with them
    levels: Values  # (pixel, level) with them
    changed: Flags

    @classmethod
    def of(cls, as_it_is: Values, classical: Values, levels: Values, changed: Flags, at: NDArray[np.int64]) -> "Table":
        """Of images, at some places."""
        return cls(as_it_is.ravel()[at], classical.ravel()[at], _at(levels, at), changed.ravel()[at])

    @classmethod
    def joined(cls, parts: "list[Table]") -> "Table":
        names = ("as_it_is", "classical", "levels", "changed")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def below(self, limit: float) -> "Table":
        """Where nothing had changed before."""
        low = self.as_it_is < limit
        return Table(self.as_it_is[low], self.classical[low], self.levels[low], self.changed[low])


@dataclass(frozen=True, eq=False)
class Drawn:
    """What is known of a pair before anything is learned."""

    real: Table
    again: Values  # its levels, had both dates been taken once more; NaN where that is not known
    known: Table
    kept_back: Table  # from other ground
    limit: float  # of the classical distance


def draw(pair: Pair, levels: "Levels", share: float, seed: int, track: Track) -> Drawn:
    """From windows spread over the pair."""
    rng, of_jitter = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    windows = spread(pair.grid, SAMPLE_SIDE_PX, SAMPLE_WINDOWS)
    chips = [Chips.of((pair.read(window)[date] for window in windows), rng) for date in (0, 1)]
    real: list[Table] = []
    once_more: list[Values] = []
    known: tuple[list[Table], list[Table]] = ([], [])  # learned from, kept back
    kept = kept_back(windows)
    counts = np.zeros((), np.int64)
    for window in track(windows, "learning", len(windows)):
        dates = pair.read(window)
        classical, all_levels = levels.of(*dates)
        counts = counts + count(classical)
        at = _some(classical, REAL_PIXELS // len(windows), rng)
        real.append(Table.of(classical, classical, all_levels, np.zeros(classical.shape, np.bool_), at))
        taken_again = (again(date, own.spread, of_jitter) for date, own in zip(dates, chips, strict=True))
        once_more.append(_at(levels.of(*taken_again)[1], at))
        for date in (0, 1):
            changed = list(dates)
            changed[date], where = with_changes(dates[date], chips[date], share, rng)
            # On a small raster, windows overlap.
            free = classical if window in kept else np.where(within(kept, window), np.float32(np.nan), classical)
            at = _some(free, KNOWN_PIXELS // (2 * len(windows)), rng)
            known[window in kept].append(Table.of(classical, *levels.of(*changed), where, at))
    limit = threshold(counts)
    tables = [Table.joined(parts).below(UNCHANGED * limit) for parts in known if parts]
    # Where gaps leave one of them nothing, the other serves for both.
    useful = [table for table in tables if table.changed.any()] or tables
    return Drawn(Table.joined(real), np.concatenate(once_more), useful[0], useful[-1], limit)


def _at(levels: Values, places: NDArray[np.int64]) -> Values:
    """(pixel, level) of images (level, y, x)."""
    return np.ascontiguousarray(levels.reshape(len(levels), -1)[:, places].T)


def kept_back(windows: Sequence[Window]) -> Sequence[Window]:
    """Those that are never learned from."""
    return windows[KEEP_BACK - 1 :: KEEP_BACK]


def within(others: Sequence[Window], window: Window) -> Flags:
    """Which pixels of a window lie in any of others."""
    rows, cols = (
        start + np.arange(side) for start, side in ((window.row_off, window.height), (window.col_off, window.width))
    )
    found = np.zeros((window.height, window.width), np.bool_)
    for other in others:
        row, col = rows - other.row_off, cols - other.col_off
        found |= np.logical_and.outer((row >= 0) & (row < other.height), (col >= 0) & (col < other.width))
    return found


def _some(classical: Values, most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    at = np.flatnonzero(np.isfinite(classical))
    return np.sort(rng.choice(at, min(most, len(at)), replace=False))
