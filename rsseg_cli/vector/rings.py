"""Rings: the outlines of regions, walked along the sides of arcs with the region on the left."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsseg_cli.vector.chains import Indices, Offsets, offsets_of, put_in_order


@dataclass(frozen=True)
class Rings:
    """Closed walks: on a screen shells go anticlockwise, holes clockwise."""

    sides: Indices  # ring by ring
    offsets: Offsets
    straight: NDArray[np.bool_]  # of each of the sides: whether the ring does not turn where the side begins

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, rings: NDArray[np.int64]) -> "Rings":
        """Some of the rings, in that order."""
        sizes = np.diff(self.offsets)[rings]
        offsets = offsets_of(sizes)
        at = np.repeat(self.offsets[rings] - offsets[:-1], sizes) + np.arange(offsets[-1])
        return Rings(self.sides[at], offsets, self.straight[at])


def trace_rings(leaving: Indices, arcs: int) -> Rings:
    """The rings of all regions and of nothing, from the sides that leave each node."""
    after, straight = _next_sides(leaving, arcs)
    _cross(after, leaving, ring_of_sides(*put_in_order(after)))
    sides, offsets = put_in_order(after)
    return Rings(sides, offsets, straight[sides])


def ring_of_sides(sides: Indices, offsets: Offsets) -> Indices:
    """The ring to which each side belongs."""
    ring = np.empty_like(sides)
    ring[sides] = np.repeat(np.arange(len(offsets) - 1, dtype=np.int32), np.diff(offsets))
    return ring


def _next_sides(leaving: Indices, arcs: int) -> tuple[Indices, NDArray[np.bool_]]:
    """(the side after each side, whether a side goes straight on from the one before it)."""
    after = np.arange(2 * arcs, dtype=np.int32)  # an arc without nodes follows itself
    straight = np.zeros(2 * arcs, bool)
    for way in range(4):
        back, left, ahead, right = (leaving[:, (way + turn) % 4] for turn in range(4))
        here = back >= 0
        # Whoever comes from `way` with a region on the left goes on along the first arc clockwise from there.
        onward = np.where(left >= 0, left, np.where(ahead >= 0, ahead, right))[here]
        after[back[here] ^ 1] = onward
        straight[onward] = onward == ahead[here]
    return after, straight


def _cross(after: Indices, leaving: Indices, ring: Indices) -> None:
    """Lets a ring that comes to a node twice cross over there, and so fall into two rings that touch.

    There, two pixels of one region meet with their tips, and the region lies all around one of the two pixels between.
    """
    forks = leaving[(leaving >= 0).all(axis=1)]
    for way in range(2):
        one, other = forks[:, way] ^ 1, forks[:, way + 2] ^ 1
        same = ring[one] == ring[other]
        one, other = one[same], other[same]
        after[one], after[other] = after[other], after[one]
