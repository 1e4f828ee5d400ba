"""Outlines with right angles in the place of outlines that wobble around them.

Points are complex numbers: to turn them is to multiply. Of all outlines at once each is

    simplified -> turned upright -> cut into level and upright sides -> rid of short sides -> met in corners
"""

from dataclasses import dataclass, replace

import numpy as np
import shapely
from numpy.typing import NDArray

from rsseg_cli.vector.chains import Offsets, offsets_of

Complexes = NDArray[np.complex128]
Places = NDArray[np.int64]

# Steps between sides that are shorter are left out.
SHORTEST_SIDE = 2.0
RECTANGLE = 4
# Outlines with more sides are no buildings.
MOST_SIDES = 400


@dataclass(frozen=True)
class Loops:
    """Closed outlines, end to end; the first point of each is not repeated."""

    points: Complexes
    offsets: Offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def sizes(self) -> Places:
        return np.diff(self.offsets)

    @property
    def loop(self) -> Places:
        """The loop of each point."""
        return np.repeat(np.arange(len(self)), self.sizes)

    def take(self, loops: Places) -> "Loops":
        """Some of the loops, in that order."""
        sizes = self.sizes[loops]
        offsets = offsets_of(sizes)
        at = np.repeat(self.offsets[loops] - offsets[:-1], sizes) + np.arange(offsets[-1])
        return Loops(self.points[at], offsets)


@dataclass(frozen=True)
class _Sides:
    """Level and upright sides in turns, loop by loop."""

    upright: NDArray[np.bool_]
    along: Complexes  # from the beginning of the wobbling side to its end
    swept: Complexes  # by the wobbling side: towards the level axis, and times i towards the upright one
    offsets: Offsets

    @property
    def loop(self) -> Places:
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    @property
    def places(self) -> NDArray[np.float64]:
        """Where each side lies across its direction: there it sweeps what it swept, so that areas are kept."""
        along = np.where(self.upright, self.along.imag, self.along.real)
        return np.where(self.upright, self.swept.imag, self.swept.real) / np.where(along == 0, 1, along)

    def without(self, gone: NDArray[np.bool_]) -> "_Sides":
        offsets = offsets_of(np.bincount(self.loop[~gone], minlength=len(self.offsets) - 1))
        return _Sides(self.upright[~gone], self.along[~gone], self.swept[~gone], offsets)


def square(loops: Loops, group: Places, tolerance: float) -> Loops:
    """Each loop with right angles, walked the same way; without points where it has not even four sides.

    What sides are there is seen after the loops were simplified with a tolerance. Loops of a group, such as a building
    and its courtyards, get one direction.
    """
    loops = _from_far_corners(loops)
    begins, offsets = _simplified(loops, tolerance)
    turn = _first_turn(loops.points[begins], offsets, group)
    turn = turn * _correction(loops, begins, offsets, turn, group)
    middle = loops.points[loops.offsets[:-1]]
    sides = _without_short_sides(_few(_sides(loops, begins, offsets, turn)))
    corners = _corners(sides)
    return Loops(corners.points * turn[corners.loop] + middle[corners.loop], corners.offsets)


def following(offsets: Offsets) -> Places:
    """What comes after each element; after the last of a part, its first."""
    after = np.arange(1, offsets[-1] + 1)
    some = np.flatnonzero(np.diff(offsets))
    after[offsets[1:][some] - 1] = offsets[:-1][some]
    return after


def _from_far_corners(loops: Loops) -> Loops:
    """Each loop beginning with its point farthest from its middle: simplifying keeps where a loop begins."""
    sums = np.add.reduceat(loops.points, loops.offsets[:-1])
    away = np.abs(loops.points - np.repeat(sums / loops.sizes, loops.sizes))
    far = np.flatnonzero(away == np.repeat(np.maximum.reduceat(away, loops.offsets[:-1]), loops.sizes))
    _, first = np.unique(loops.loop[far], return_index=True)
    begin = loops.offsets[:-1]
    shift = np.repeat(far[first] - begin, loops.sizes)
    begin, size = np.repeat(begin, loops.sizes), np.repeat(loops.sizes, loops.sizes)
    return Loops(loops.points[begin + (np.arange(len(begin)) - begin + shift) % size], loops.offsets)


def _simplified(loops: Loops, tolerance: float) -> tuple[Places, Offsets]:
    """(points where the edges of the simplified loops begin, offsets of the loops in them)."""
    closed = np.insert(np.arange(len(loops.points)), loops.offsets[1:], loops.offsets[:-1])
    loop = np.repeat(np.arange(len(loops)), loops.sizes + 1)
    points = loops.points[closed]
    # The number of a point travels along as its height, which nobody looks at.
    lines = shapely.linestrings(np.stack([points.real, points.imag, closed], axis=1), indices=loop)
    kept = shapely.simplify(lines, tolerance, preserve_topology=False)
    numbers, loop = shapely.get_coordinates(kept, include_z=True, return_index=True)
    offsets = offsets_of(np.bincount(loop, minlength=len(loops)) - 1)
    is_begin = np.append(loop[1:] == loop[:-1], False)
    return numbers[is_begin, 2].astype(np.int64), offsets


def _first_turn(begins: Complexes, offsets: Offsets, group: Places) -> Complexes:
    """The main direction of each loop's group: that of its edges, whichever of the four each of them takes."""
    edges = begins[following(offsets)] - begins
    lengths = np.abs(edges)
    fourfold = edges**4 / np.where(lengths == 0, 1, lengths) ** 3
    total = _sums(np.repeat(group, np.diff(offsets)), fourfold, int(group.max()) + 1)[group]
    return np.asarray(np.exp(0.25j * np.angle(total)))


def _correction(loops: Loops, begins: Places, offsets: Offsets, turn: Complexes, group: Places) -> Complexes:
    """How much farther to turn so that the sides lie as close to their wobbling points as can be."""
    points, steps = _upright(loops, turn)
    side, upright, _ = _cut(points[begins], offsets)
    side = side[_edge_of_steps(begins, len(points))]
    middles, lengths = points + steps / 2, np.abs(steps)
    mean = _sums(side, lengths * middles, len(upright))
    spread = _sums(side, lengths * (middles**2 + steps**2 / 12), len(upright))
    total = np.bincount(side, lengths, len(upright))
    # The square of a direction and of its opposite are the same; that of a right angle is the negative one.
    spread = np.where(upright, -1, 1) * (spread - mean**2 / np.where(total == 0, 1, total))
    owner = np.empty(len(upright), np.int64)
    owner[side] = np.repeat(group, loops.sizes)
    return np.asarray(np.exp(0.5j * np.angle(_sums(owner, spread, int(group.max()) + 1))))[group]


def _sides(loops: Loops, begins: Places, offsets: Offsets, turn: Complexes) -> _Sides:
    points, steps = _upright(loops, turn)
    side, upright, parts = _cut(points[begins], offsets)
    side = side[_edge_of_steps(begins, len(points))]
    middles = points + steps / 2
    swept = steps.real * middles.imag + 1j * (steps.imag * middles.real)
    return _Sides(upright, _sums(side, steps, len(upright)), _sums(side, swept, len(upright)), parts)


def _upright(loops: Loops, turn: Complexes) -> tuple[Complexes, Complexes]:
    """(points of the loops turned upright around their beginnings, steps to the points after them)."""
    points = (loops.points - np.repeat(loops.points[loops.offsets[:-1]], loops.sizes)) / np.repeat(turn, loops.sizes)
    return points, points[following(loops.offsets)] - points


def _edge_of_steps(begins: Places, steps: int) -> Places:
    return np.repeat(np.arange(len(begins)), np.diff(begins, append=steps))


def _cut(begins: Complexes, offsets: Offsets) -> tuple[Places, NDArray[np.bool_], Offsets]:
    """(the side of each edge, whether each side is upright, offsets of the loops in sides)."""
    after = following(offsets)
    edges = begins[after] - begins
    upright = np.abs(edges.imag) > np.abs(edges.real)
    is_first = np.zeros(len(edges), bool)
    is_first[after] = upright[after] != upright
    loop = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    same_all_round = np.bincount(loop, is_first, len(offsets) - 1) == 0
    is_first[offsets[:-1][same_all_round]] = True
    parts = offsets_of(np.bincount(loop, is_first, len(offsets) - 1).astype(np.int64))
    side = np.cumsum(is_first) - 1
    # What comes before the first side of a loop belongs to its last.
    side += np.where(side < parts[loop], np.diff(parts)[loop], 0)
    return side, upright[is_first], parts


def _few(sides: _Sides) -> _Sides:
    """None of loops that have too many."""
    counts = np.diff(sides.offsets)
    return sides.without((counts > MOST_SIDES)[sides.loop])


def _without_short_sides(sides: _Sides) -> _Sides:
    """Lets the two sides around a short one be one side, the shortest in each loop first; a rectangle is left."""
    while len(short := _shortest(sides)):
        after, before = _around(sides.offsets, short)
        along, swept = sides.along.copy(), sides.swept.copy()
        along[before] += along[short] + along[after]
        swept[before] += swept[short] + swept[after]
        gone = np.zeros(len(along), bool)
        gone[short] = gone[after] = True
        sides = replace(sides, along=along, swept=swept).without(gone)
    return sides


def _shortest(sides: _Sides) -> Places:
    """The shortest side of each loop that has one too short."""
    every = np.arange(len(sides.along))
    after, before = _around(sides.offsets, every)
    places, loop = sides.places, sides.loop
    lengths = np.abs(places[after] - places[before])
    short = every[(lengths < SHORTEST_SIDE) & (np.diff(sides.offsets)[loop] > RECTANGLE)]
    short = short[np.lexsort((lengths[short], loop[short]))]
    return short[np.unique(loop[short], return_index=True)[1]]


def _around(offsets: Offsets, sides: Places) -> tuple[Places, Places]:
    """(the sides after these, the sides before them)."""
    after = following(offsets)
    before = np.empty_like(after)
    before[after] = np.arange(len(after))
    return after[sides], before[sides]


def _corners(sides: _Sides) -> Loops:
    """Where each side meets the one after it."""
    places, after = sides.places, following(sides.offsets)
    level, upright = np.where(sides.upright, [places[after], places], [places, places[after]])
    enough = np.diff(sides.offsets) >= RECTANGLE
    sizes = np.where(enough, np.diff(sides.offsets), 0)
    return Loops((upright + 1j * level)[enough[sides.loop]], offsets_of(sizes))


def _sums(number: Places, values: Complexes, count: int) -> Complexes:
    """Of the values with each number."""
    return np.bincount(number, values.real, count) + 1j * np.bincount(number, values.imag, count)
