"""Whether moved lines still meet where they met, and nowhere else, with everything on the side where it was.

Only what was moved is looked at, and what lies near it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from rsseg_cli.vector.chains import Indices, offsets_of
from rsseg_cli.vector.coverage import Coverage, Lines
from rsseg_cli.vector.proposals import Proposal, nodes_of_sides
from rsseg_cli.vector.right_angles import Complexes, Places

Flags = NDArray[np.bool_]
Shapes = NDArray[np.object_]

# Points of a line that share a box: few enough for a small one, enough for few boxes.
PIECE = 16
# Steps from one point whose directions differ by less lie on one another.
SAME_WAY = 1e-9
# Shorter steps have no direction.
SHORTEST_PX = 1e-6


@dataclass(frozen=True)
class Change:
    """Lines of which some were moved."""

    lines: Lines
    owner: Indices  # the proposal that moved where each side begins; -1 where none did


def colliding(coverage: Coverage, change: Change, proposals: Sequence[Proposal]) -> set[int]:
    """The proposals to take back: of those that get in each other's way the last. None if nothing is in the way."""
    if not proposals:
        return set()
    steps = _Steps(change.lines, nodes_of_sides(coverage))
    before, after = np.array([p.before for p in proposals]), np.array([p.after for p in proposals])
    areas = shapely.box(*_joint_bounds(before, after).T)
    moved = _moved_steps(change, proposals)
    near = _near(change.lines, np.concatenate([areas, steps.boxes(moved)]))
    tree = shapely.STRtree(steps.shapes(near))
    crossing = steps.owners(change.owner, _crossing(steps, moved, near, tree)).max(axis=1)
    number, step = tree.query(areas)
    pairs = _foreign(number, steps.arc(near[step]), proposals)
    swallowing = pairs[0, _changes_side(coverage.lines, change.lines, before, after, pairs)]
    return {*crossing.tolist(), *swallowing.tolist()}


@dataclass(frozen=True)
class _Steps:
    """Steps from points of lines to the points after them, known by the number of the point."""

    lines: Lines
    nodes: Indices  # that sides leave from

    def arc(self, steps: Places) -> Places:
        return np.searchsorted(self.lines.offsets, steps, side="right") - 1

    def ends(self, steps: Places) -> Complexes:
        """(end, step) where they begin and end."""
        at = np.stack([steps, steps + 1])
        return np.asarray(self.lines.x[at] + 1j * self.lines.y[at])

    def owners(self, owner: Indices, steps: Places) -> Indices:
        """Who moved them: at one end of a line, at the other, or all of it."""
        arc = self.arc(steps)
        first, last = owner[2 * arc], owner[2 * arc + 1]
        is_first, is_last = steps == self.lines.offsets[arc], steps == self.lines.offsets[arc + 1] - 2
        both = np.where(is_first | (first == last), first, -1), np.where(is_last, last, -1)
        return np.maximum(*both)

    def names(self, steps: Places) -> Places:
        """(end, step) numbers of their ends, the same for all that end at a node."""
        arc, at = self.arc(steps), np.stack([steps, steps + 1])
        names = -1 - at
        first, last = at[0] == self.lines.offsets[arc], at[1] == self.lines.offsets[arc + 1] - 1
        names[0, first] = self.nodes[2 * arc[first]]
        names[1, last] = self.nodes[2 * arc[last] + 1]
        return names

    def shapes(self, steps: Places) -> Shapes:
        ends = self.ends(steps).T
        return np.asarray(shapely.linestrings(np.stack([ends.real, ends.imag], axis=2)))

    def boxes(self, steps: Places) -> Shapes:
        return np.asarray(shapely.box(*shapely.bounds(self.shapes(steps)).T))


def _moved_steps(change: Change, proposals: Sequence[Proposal]) -> Places:
    """All steps of the rings, and the first and the last ones of other lines that were moved."""
    offsets = change.lines.offsets
    rings = np.unique(np.concatenate([p.arcs for p in proposals]))
    whole = _ranges(offsets[rings], offsets[rings + 1] - 1)
    sides = np.flatnonzero(change.owner >= 0)
    ends = np.where(sides & 1, offsets[(sides >> 1) + 1] - 2, offsets[sides >> 1])
    return np.unique(np.concatenate([whole, ends]))


def _ranges(first: Places, last: Places) -> Places:
    """All numbers from each first to before each last."""
    offsets = offsets_of(last - first)
    return np.repeat(first - offsets[:-1], np.diff(offsets)) + np.arange(offsets[-1])


def _joint_bounds(before: Shapes, after: Shapes) -> NDArray[np.float64]:
    one, other = shapely.bounds(before), shapely.bounds(after)
    return np.concatenate([np.minimum(one, other)[:, :2], np.maximum(one, other)[:, 2:]], axis=1)


def _near(lines: Lines, areas: Shapes) -> Places:
    """The steps that may lie in one of the areas."""
    is_end = np.zeros(len(lines.x), bool)
    is_end[lines.offsets[1:] - 1] = True
    begins = np.unique(np.concatenate([lines.offsets[:-1], np.arange(0, len(lines.x), PIECE)]))
    west, east, north, south = (
        combine.reduceat(combine(points, np.where(is_end, points, np.roll(points, -1))), begins)
        for points in (lines.x, lines.y)
        for combine in (np.minimum, np.maximum)
    )
    tree = shapely.STRtree(shapely.box(west, north, east, south))
    pieces = np.unique(tree.query(areas)[1])
    steps = _ranges(begins[pieces], np.append(begins, len(lines.x))[pieces + 1])
    return steps[~is_end[steps]]


def _crossing(steps: _Steps, moved: Places, near: Places, tree: shapely.STRtree) -> Places:
    """(pair, 2) steps that meet where they have no end in common, or lie on one another."""
    one, other = tree.query(steps.shapes(moved), predicate="intersects")
    pairs = np.stack([moved[one], near[other]])
    pairs = pairs[:, pairs[0] != pairs[1]]
    names, points = steps.names(pairs), steps.ends(pairs)
    joined, folded = np.zeros((2, pairs.shape[1]), bool)
    for mine in range(2):
        for theirs in range(2):
            same = names[mine, 0] == names[theirs, 1]
            way, their_way = points[1 - mine, 0] - points[mine, 0], points[1 - theirs, 1] - points[theirs, 1]
            turn = way.conj() * their_way
            joined |= same
            folded |= same & (turn.real > 0) & (np.abs(turn.imag) <= SAME_WAY * np.abs(turn))
    begin, end = steps.ends(moved)
    short = moved[np.abs(end - begin) < SHORTEST_PX]
    return np.concatenate([pairs[:, ~joined | folded].T, np.stack([short, short], axis=1)])


def _foreign(number: Places, arc: Places, proposals: Sequence[Proposal]) -> Places:
    """(2, pair) proposals and arcs, without those of the proposals' own rings."""
    own = np.repeat(np.arange(len(proposals)), [len(p.sides) for p in proposals])
    count = max(arc.max(), max(p.arcs.max() for p in proposals)) + 1
    pairs = np.setdiff1d(number * count + arc, own * count + np.concatenate([p.arcs for p in proposals]))
    return np.stack(np.divmod(pairs, count))


def _changes_side(was: Lines, lines: Lines, before: Shapes, after: Shapes, pairs: Places) -> Flags:
    """Whether arcs lie inside the outlines before and not after, or the other way round; they cross neither."""
    number, arc = pairs
    inside = []
    for points, outlines in ((was, before), (lines, after)):
        first = points.offsets[arc]
        x, y = (values[first] + (values[first + 1] - values[first]) / 2 for values in (points.x, points.y))
        inside.append(shapely.contains_xy(outlines[number], x, y))
    return np.asarray(inside[0] != inside[1])
