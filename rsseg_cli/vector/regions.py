"""What regions measure in pixels, and which of them share a border: what slivers are merged by.

Lengths count edges of pixels, along rows and along columns, and so ask for lines that nothing has moved.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsseg_cli.vector.coverage import NOTHING, Coverage, Lines


@dataclass(frozen=True)
class Neighbours:
    """Pairs of regions that share a border."""

    pairs: NDArray[np.int64]  # (pair, 2) the smaller number first
    lengths: NDArray[np.int64]  # (pair, 2) of the border


def neighbours(coverage: Coverage) -> Neighbours:
    """All pairs, by their numbers."""
    sides = np.sort(coverage.region.reshape(-1, 2), axis=1).astype(np.int64)
    inner = sides[:, 0] != NOTHING
    keys, pair = np.unique(sides[inner] @ (len(coverage), 1), return_inverse=True)
    lengths = [np.bincount(pair, along, len(keys)) for along in _arc_lengths(coverage.lines)[inner].T]
    return Neighbours(np.stack(np.divmod(keys, len(coverage)), axis=1), np.stack(lengths, axis=1).astype(np.int64))


def boxes(coverage: Coverage) -> NDArray[np.int32]:
    """(region, 4) west, north, east and south end."""
    points, begins = np.stack([coverage.lines.x, coverage.lines.y], axis=1), coverage.lines.offsets[:-1]
    ends = [_over_regions(best, coverage, best.reduceat(points, begins)) for best in (np.minimum, np.maximum)]
    return np.concatenate(ends, axis=1)


def _arc_lengths(lines: Lines) -> NDArray[np.int64]:
    steps = np.abs(np.diff([lines.x, lines.y], append=0)).astype(np.int64)
    steps[:, lines.offsets[1:] - 1] = 0  # from the end of an arc to the next arc
    return np.asarray(np.add.reduceat(steps, lines.offsets[:-1], axis=1).T)


def _over_regions(combine: np.ufunc, coverage: Coverage, of_arcs: NDArray[Any]) -> NDArray[Any]:
    """Of all arcs around each region, walked on one side or on the other."""
    rings = coverage.rings
    return np.asarray(combine.reduceat(of_arcs[rings.sides >> 1], rings.offsets[coverage.parts[:-1]]))
