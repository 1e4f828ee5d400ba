"""Arcs: the borders between regions, each of them once, from node to node.

Side 2a of arc a is its left one, walked along; side 2a + 1 its right one, walked back: whoever walks a side has on
the left what lies on that side. A border that meets no node, such as an island's, is an arc that ends where it begins.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsseg_cli.vector.chains import Indices, Offsets, put_in_order
from rsseg_cli.vector.corners import EAST, NORTH, SOUTH, Corners


@dataclass(frozen=True)
class Arcs:
    """Arcs over the corners of a raster."""

    corners: Indices  # arc by arc, both ends among them
    offsets: Offsets
    ids: NDArray[np.uint8]  # of what lies on each side
    leaving: Indices  # (node, way) the side that is walked when one leaves the node that way; -1 where no arc leads

    def __len__(self) -> int:
        return len(self.offsets) - 1


def trace_arcs(corners: Corners) -> Arcs:
    """Follows every border."""
    at, way = _edges(corners)
    to = _ends(corners, at, way)
    order, offsets = put_in_order(_next_edges(corners, at, to))
    first, last = order[offsets[:-1]], order[offsets[1:] - 1]
    start, end = at[first], to[last]
    ids = np.stack([corners.around[way[first], start], corners.around[(way[first] + 1) % 4, start]], axis=1)
    along = np.insert(at[order], offsets[1:], end)
    leaving = _leaving(corners.is_node, (start, way[first]), (end, (way[last] + 2) % 4))
    return Arcs(along, offsets + np.arange(len(offsets)), ids.ravel(), leaving)


def _edges(corners: Corners) -> tuple[Indices, NDArray[np.uint8]]:
    """(corner, way) from which and in which each edge is walked."""
    leads = np.stack([corners.leads(way) for way in range(4)], axis=1)
    edges = np.flatnonzero(leads)
    return (edges >> 2).astype(np.int32), (edges & 3).astype(np.uint8)


def _ends(corners: Corners, at: Indices, way: NDArray[np.uint8]) -> Indices:
    """The corner to which each edge is walked: along a row, the next one or the one before."""
    to = np.where(way == EAST, at + 1, at - 1)
    upper, lower = corners.upright
    partner = np.empty(len(corners), np.int32)
    for heading, here, there in ((SOUTH, upper, lower), (NORTH, lower, upper)):
        partner[here] = there
        edges = np.flatnonzero(way == heading)
        to[edges] = partner[at[edges]]
    return to


def _next_edges(corners: Corners, at: Indices, to: Indices) -> Indices:
    """The edge on which the border goes on after each edge; none behind a node."""
    edge = np.empty(len(corners), np.int32)
    edge[at] = np.arange(len(at), dtype=np.int32)
    edge[corners.is_node] = len(at)
    return edge[to]


def _leaving(is_node: NDArray[np.bool_], *ends: tuple[Indices, NDArray[np.uint8]]) -> Indices:
    """The sides that leave each node, from (corner, way) of the arcs' beginnings and of their ends."""
    nodes = np.flatnonzero(is_node)
    leaving = np.full((len(nodes), 4), -1, np.int32)
    for side, (corner, way) in enumerate(ends):
        arcs = np.flatnonzero(is_node[corner])
        leaving[np.searchsorted(nodes, corner[arcs]), way[arcs]] = 2 * arcs + side
    return leaving
