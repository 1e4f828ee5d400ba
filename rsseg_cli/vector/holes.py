"""Which shell each hole belongs to."""

import numpy as np
from numpy.typing import NDArray

from rsseg_cli.vector.arcs import Arcs
from rsseg_cli.vector.chains import Indices, offsets_of
from rsseg_cli.vector.corners import SOUTH, Corners, stable_order
from rsseg_cli.vector.rings import Rings, ring_of_sides


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
    begins = offsets_of(corners.y[lower] - corners.y[upper])
    edge = np.repeat(np.arange(len(upper), dtype=np.int32), np.diff(begins))
    # Edges come column by column, so that their pixels, sorted by row, lie from west to east.
    row = (corners.y[upper] - begins[:-1])[edge] + np.arange(begins[-1])
    order = stable_order(row.astype(np.int32))
    is_asked = np.zeros(len(corners), bool)
    is_asked[at] = True
    is_first = np.zeros(len(edge), bool)
    is_first[begins[:-1][is_asked[upper]]] = True
    return upper[edge[order[np.flatnonzero(is_first[order]) - 1]]]


def _sides_down(corners: Corners, arcs: Arcs, at: Indices) -> Indices:
    """The side that is walked south from each corner: what lies on it is east of there."""
    arc = np.empty(len(corners), np.int32)
    arc[arcs.corners] = np.repeat(np.arange(len(arcs), dtype=np.int32), np.diff(arcs.offsets))
    side = 2 * arc[at] + ~corners.leads(SOUTH)[at]
    from_node = np.flatnonzero(corners.is_node[at])
    side[from_node] = arcs.leaving[np.searchsorted(np.flatnonzero(corners.is_node), at[from_node]), SOUTH]
    return side
