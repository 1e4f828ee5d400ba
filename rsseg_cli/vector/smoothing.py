"""Staircases taken out of a coverage: the straight lines that pixels were drawn along.

Points slide along their gates (`gates.py`) until they are in line, and a straight line replaces all the points that it
skips if it goes through their gates.
"""

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from rsseg_cli.vector.chains import Offsets, offsets_of
from rsseg_cli.vector.coverage import NOTHING, Coverage, Lines, swept_by_arcs
from rsseg_cli.vector.gates import SLIDE_PX, Flags, Floats, Numbers, Path, between, blocked
from rsseg_cli.vector.widening import widen

# Each round goes part of the way to where points would be in line, and back by a little more: bends that are longer
# than pixels make survive, and round shapes do not shrink.
ROUNDS = 8
SHARES = (0.5, -0.53)
# Coordinates are rounded to what arithmetic keeps, wherever on Earth they lie.
STEP_PX = 2.0**-10
# A corner between edges as long as this was drawn, not made by pixels.
DRAWN_PX = 3
# Regions of fewer pixels would be pressed flat between their neighbours: their points do not slide.
FIRM_PIXELS = 9
# Points, and steps between points that stay, looked at together: few enough for the processor's cache.
SLICE_POINTS = 1 << 16
SLICE_STEPS = 1 << 15


def smoothed(coverage: Coverage) -> Coverage:
    """The coverage with lines as straight as its pixels allow; lines must not have been moved."""
    if not len(coverage):
        return coverage
    path = middles(coverage)
    x, y = _slid(coverage, path)
    kept = _needed(path, x, y)
    widen(path, x, y, kept, _along_frame(path, coverage.grid.shape), *_islands(coverage))
    x, y = (np.round(at / STEP_PX) * STEP_PX for at in (x, y))
    offsets = offsets_of(np.add.reduceat(kept, path.offsets[:-1], dtype=np.int64))
    return replace(coverage, lines=Lines(x[kept], y[kept], offsets))


def middles(coverage: Coverage) -> Path:
    """What arcs pass: the first and the last edge of pixels between two corners, drawn corners, and their ends."""
    lines, offsets = coverage.lines, coverage.lines.offsets
    first, last = offsets[:-1], offsets[1:] - 1
    run = _within_arcs(offsets)
    stride = np.stack([lines.x[run + 1] - lines.x[run], lines.y[run + 1] - lines.y[run]])
    way, lengths = np.sign(stride).astype(np.int8), np.abs(stride).sum(axis=0)
    fixed = _fixed(coverage, lengths)
    rings = np.flatnonzero(~fixed[first])
    # Around each corner: the last edge before it, itself, and the first edge behind it.
    has = np.zeros((len(lines.x), 3), bool)
    has[run + 1, 0], has[:, 1], has[run, 2] = lengths > 1, fixed, True
    ways = np.zeros((2, len(lines.x), 3), np.int8)
    ways[:, run + 1, 0] = ways[:, run, 2] = way
    # A ring that nothing holds ends in the gate where it begins.
    has[last[rings], 2], ways[:, last[rings], 2] = True, ways[:, first[rings], 2]
    aside = ways * np.array([-0.5, 0.0, 0.5])
    x, y = ((at[:, np.newaxis] + by)[has] for at, by in zip((lines.x, lines.y), aside, strict=True))
    return Path(x, y, ways[0][has], ways[1][has], offsets_of(np.add.reduceat(has.sum(axis=1), first)))


def _within_arcs(offsets: Offsets) -> Numbers:
    """All points but the last of each arc."""
    within = np.ones(offsets[-1], bool)
    within[offsets[1:] - 1] = False
    return np.flatnonzero(within)


def _fixed(coverage: Coverage, lengths: NDArray[np.int32]) -> Flags:
    """Points that lines keep: nodes, drawn corners, and the corners of the raster."""
    lines = coverage.lines
    first, last = lines.offsets[:-1], lines.offsets[1:] - 1
    is_circle = _is_circle(coverage)
    runs = np.diff(lines.offsets) - 1
    # A rectangle is no staircase, however small.
    behind = np.ones(len(lines.x), bool)
    behind[_within_arcs(lines.offsets)] = (lengths >= DRAWN_PX) | np.repeat(is_circle & (runs == 4), runs)
    before = np.roll(behind, 1)
    behind[last], before[first] = behind[first], behind[last - 1]
    fixed = behind & before
    fixed[first[~is_circle]] = fixed[last[~is_circle]] = True
    height, width = coverage.grid.shape
    return np.asarray(fixed | np.isin(lines.x, (0, width)) & np.isin(lines.y, (0, height)))


def _is_circle(coverage: Coverage) -> Flags:
    """Which arcs meet no node."""
    is_circle = np.ones(len(coverage.lines.offsets) - 1, bool)
    is_circle[coverage.leaving[coverage.leaving >= 0] >> 1] = False
    return is_circle


def _slid(coverage: Coverage, path: Path) -> tuple[Floats, Floats]:
    """Points moved along their gates, step by step, to where lines between their neighbours pass."""
    x, y = path.x.copy(), path.y.copy()
    is_firm = _is_firm(coverage)
    gates, nodes = _Gates.of(path, is_firm, coverage.grid.shape), _Nodes.of(coverage, path, is_firm)
    for _ in range(ROUNDS):
        for share in SHARES:
            gates.slide(x, y, share)
            nodes.slide(x, y, share)
    return x, y


def _islands(coverage: Coverage) -> tuple[Numbers, Numbers]:
    """(arcs that meet no node, the pixels that each encloses, signed)."""
    arcs = np.flatnonzero(_is_circle(coverage))
    return arcs, swept_by_arcs(coverage.lines)[arcs]


def _is_firm(coverage: Coverage) -> Flags:
    """Arcs beside a region of few pixels."""
    return np.asarray(
        ((coverage.pixels < FIRM_PIXELS)[coverage.region] & (coverage.region != NOTHING)).reshape(-1, 2).any(axis=1)
    )


def _along_frame(path: Path, frame: tuple[int, int]) -> Flags:
    """Gates through which lines go along the raster's frame, and not out of it."""
    height, width = frame
    upright = (path.dx == 0) & np.isin(path.x, (0, width))
    return np.asarray(upright | (path.dy == 0) & np.isin(path.y, (0, height)))


@dataclass(frozen=True)
class _Gates:
    """Points that lie in gates, and those before and behind them."""

    path: Path
    at: Numbers
    before: Numbers
    behind: Numbers
    closing: Numbers  # (2, ring) the first and the last point of rings, which are one

    @classmethod
    def of(cls, path: Path, is_firm: Flags, frame: tuple[int, int]) -> "_Gates":
        first, last = path.offsets[:-1], path.offsets[1:] - 1
        free = ((path.dx != 0) | (path.dy != 0)) & ~np.repeat(is_firm, np.diff(path.offsets))
        free &= ~_along_frame(path, frame)
        closing = np.stack([first, last])[:, free[first]]
        free[closing[1]] = False
        at = np.flatnonzero(free)
        before = at - 1
        before[np.searchsorted(at, closing[0])] = closing[1] - 1
        return cls(path, at, before, at + 1, closing)

    def slide(self, x: Floats, y: Floats, share: float) -> None:
        for begin in range(0, len(self.at), SLICE_POINTS):
            part = slice(begin, begin + SLICE_POINTS)
            at = self.at[part]
            x[at], y[at] = self._slid(x, y, at, self.before[part], self.behind[part], share)
        x[self.closing[1]], y[self.closing[1]] = x[self.closing[0]], y[self.closing[0]]

    def _slid(
        self, x: Floats, y: Floats, at: Numbers, before: Numbers, behind: Numbers, share: float
    ) -> tuple[Floats, Floats]:
        mx, my, dx, dy = self.path.x[at], self.path.y[at], self.path.dx[at], self.path.dy[at]
        # In terms of the gate: how far through it the neighbours lie, and how far along it.
        px, py, qx, qy = x[before] - mx, y[before] - my, x[behind] - mx, y[behind] - my
        short, far = px * dx + py * dy, qx * dx + qy * dy
        aside = ((py * dx - px * dy) * far - (qy * dx - qx * dy) * short) / (far - short)
        was = (y[at] - my) * dx - (x[at] - mx) * dy
        aside = (was + share * (aside - was)).clip(-SLIDE_PX, SLIDE_PX)
        return mx - aside * dy, my + aside * dx


@dataclass(frozen=True)
class _Nodes:
    """Nodes that may move in their cells, and the lines that meet there."""

    x: Floats
    y: Floats
    ends: Numbers  # (node, way) the end of the line that leaves that way; -1 where none does
    next: Numbers  # (node, way) the point before the end

    @classmethod
    def of(cls, coverage: Coverage, path: Path, is_firm: Flags) -> "_Nodes":
        sides = coverage.leaving
        arc, is_back = sides >> 1, (sides & 1).astype(bool)
        ends = np.where(is_back, path.offsets[arc + 1] - 1, path.offsets[arc])
        here = ends.max(axis=1, where=sides >= 0, initial=0)
        x, y = path.x[here], path.y[here]
        height, width = coverage.grid.shape
        free = (x > 0) & (x < width) & (y > 0) & (y < height) & ~((sides >= 0) & is_firm[arc]).any(axis=1)
        following = np.where(is_back, ends - 1, ends + 1)
        return cls(x[free], y[free], np.where(sides >= 0, ends, -1)[free], following[free])

    def slide(self, x: Floats, y: Floats, share: float) -> None:
        """Onto the straightest way through the node, of all that lead from one neighbour to another."""
        here = self.ends.max(axis=1)
        px, py = (np.where(self.ends >= 0, at[self.next] - at[here][:, np.newaxis], np.nan) for at in (x, y))
        straightest, along = np.full(len(here), np.inf), np.zeros((2, len(here)))
        for one, other in combinations(range(4), 2):
            ux, uy, vx, vy = px[:, one], py[:, one], px[:, other], py[:, other]
            bend = (ux * vx + uy * vy) / (np.hypot(ux, uy) * np.hypot(vx, vy))
            better = bend < straightest  # never where one is missing
            straightest[better] = bend[better]
            wx, wy = vx - ux, vy - uy
            away = (uy * wx - ux * wy) / (wx * wx + wy * wy)
            along[:, better] = np.stack([-wy * away, wx * away])[:, better]
        moved_x = (x[here] + share * along[0]).clip(self.x - SLIDE_PX, self.x + SLIDE_PX)
        moved_y = (y[here] + share * along[1]).clip(self.y - SLIDE_PX, self.y + SLIDE_PX)
        for way in range(4):
            there = self.ends[:, way]
            x[there[there >= 0]], y[there[there >= 0]] = moved_x[there >= 0], moved_y[there >= 0]


def _needed(path: Path, x: Floats, y: Floats) -> Flags:
    """The points that are left: those between which the others' gates cannot be passed straight."""
    kept = np.asarray((path.dx == 0) & (path.dy == 0))
    kept[path.offsets[:-1]] = kept[path.offsets[1:] - 1] = True
    stops = np.flatnonzero(kept)
    steps = np.stack([stops[:-1], stops[1:]])[:, ~np.isin(stops[:-1], path.offsets[1:] - 1)]
    for begin in range(0, steps.shape[1], SLICE_STEPS):
        a, b = steps[:, begin : begin + SLICE_STEPS]
        while len(a := a[skips := b - a > 1]):
            a, at, b = _split(path, x, y, a, b[skips])
            kept[at] = True
            a, b = np.concatenate([a, at]), np.concatenate([at, b])
    return kept


def _split(path: Path, x: Floats, y: Floats, a: Numbers, b: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """(a, point between, b) of the steps from a to b that may not go straight: the point is the farthest aside."""
    at, step, begins = between(a, b)
    is_bad = blocked(path, x, y, a, b)
    aside = np.abs((x[b] - x[a])[step] * (y[at] - y[a][step]) - (y[b] - y[a])[step] * (x[at] - x[a][step]))
    farthest = np.where(is_bad, np.maximum.reduceat(aside, begins), -1)
    found = np.flatnonzero(aside == farthest[step])
    found = found[np.diff(step[found], prepend=-1) > 0]
    return a[is_bad], at[found], b[is_bad]
