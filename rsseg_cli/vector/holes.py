"""Which shell each hole belongs to."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from rsseg_cli.vector.arcs import Arcs
from rsseg_cli.vector.chains import Indices, offsets_of
from rsseg_cli.vector.corners import SOUTH, Corners, stable_order
from rsseg_cli.vector.rings import Rings, ring_of_sides

# Pieces of edges, a row long, that are looked at together.
SLICE_EDGES = 1 << 23


def top_corners(arcs: Arcs, rings: Rings) -> Indices:
    """The westernmost of the northernmost corners of each ring."""
    first = np.minimum.reduceat(arcs.corners, arcs.offsets[:-1])
    return np.asarray(np.minimum.reduceat(first[rings.sides >> 1], rings.offsets[:-1]))


def find_shells(corners: Corners, arcs: Arcs, rings: Rings, holes: NDArray[np.int64], tops: Indices) -> Indices:
    """The shell around each hole, of holes with tops in raster order.

    West of the top of a hole lies a pixel of its region, and west of that, in the same row, a border of the region:
    its shell, or a hole that has its top further up or further west.
    """
    ring = ring_of_sides(rings.sides, rings.offsets)
    shell = np.arange(len(rings), dtype=np.int32)
    shell[holes] = ring[_sides_down(corners, arcs, _west_of(corners, tops))]
    while not np.array_equal(further := shell[shell], shell):
        shell = further
    return shell[holes]


def _west_of(corners: Corners, at: Indices) -> Indices:
    """The upper corners of the nearest upright edges west of pixels, given by their north-west corners in raster order.

    Each of these corners has an edge south, and the edge in the west bounds the same row of pixels.
    """
    upper, lower = corners.upright
    rows = np.unique(corners.y[at])  # only these are looked at: long upright edges pass many others
    first, last = (np.searchsorted(rows, corners.y[ends]).astype(np.int32) for ends in (upper, lower))
    begun, ended = (np.bincount(ends, minlength=len(rows) + 1)[: len(rows)] for ends in (first, last))
    passing = np.cumsum(begun - ended)
    found = [np.empty(0, np.int32)]
    for begin, end in _slices(passing):
        here = np.flatnonzero((first < end) & (last > begin))
        span = (first[here].clip(min=begin), last[here].clip(max=end))
        asked = np.isin(upper[here], at, assume_unique=True) & (first[here] >= begin)
        found.append(upper[here[_before(*span, asked)]])
    return np.concatenate(found)


def _slices(passing: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Rows to look at together, by how many edges pass each."""
    total = np.cumsum(passing)
    cuts = np.searchsorted(total, np.arange(0, total[-1] if len(total) else 0, SLICE_EDGES), side="right")
    ends = [*np.unique(cuts[1:]).tolist(), len(passing)]
    return ((begin, end) for begin, end in pairwise([0, *ends]) if begin < end)


def _before(first: Indices, last: Indices, asked: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The edge west of each asked one, in the row where that begins; edges, given by rows, come column by column."""
    begins = offsets_of((last - first).astype(np.int64))
    edge = np.repeat(np.arange(len(first)), np.diff(begins))
    row = (first - begins[:-1])[edge] + np.arange(begins[-1])
    order = stable_order(row.astype(np.int32))
    is_asked = np.zeros(len(edge), bool)
    is_asked[begins[:-1][asked]] = True
    return edge[order[np.flatnonzero(is_asked[order]) - 1]]


def _sides_down(corners: Corners, arcs: Arcs, at: Indices) -> Indices:
    """The side that is walked south from each corner: what lies on it is east of there."""
    arc = np.empty(len(corners), np.int32)
    arc[arcs.corners] = np.repeat(np.arange(len(arcs), dtype=np.int32), np.diff(arcs.offsets))
    side = 2 * arc[at] + ~corners.leads(SOUTH)[at]
    from_node = np.flatnonzero(corners.is_node[at])
    side[from_node] = arcs.leaving[np.searchsorted(np.flatnonzero(corners.is_node), at[from_node]), SOUTH]
    return side
