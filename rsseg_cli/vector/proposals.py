"""Square outlines proposed for the rings of regions, and where the lines around would have to meet them.

A proposal looks at its own ring and at the lines that end there; whether it gets in the way of anything else is for
others to see.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray

from rsseg_cli.raster.grid import Grid
from rsseg_cli.vector.chains import Indices
from rsseg_cli.vector.coverage import Coverage, Lines
from rsseg_cli.vector.polygons import outlines
from rsseg_cli.vector.right_angles import Complexes, Loops, Places, square

Flags = NDArray[np.bool_]
Shapes = NDArray[np.object_]

# What stays below are steps of pixels and the wobble of a network's edges, not corners of a building. Where that leaves
# too little of a small building, less is taken as wobble.
TOLERANCES = (1.5, 0.75)
# How far a point may lie from the new outline, and a new corner from the old one.
REACH_PX = 2.0
LEAST_IOU = 0.8
# Below, there is no telling what a region looks like.
LEAST_PX = 6
# A node this close to a corner is put there: the step between would show as a notch.
SNAP_PX = 0.75
# Nodes of a ring that come closer than this would be one.
APART_PX = 0.05
# Lines that end at a ring lose the points at that end that come this close to it.
CLEAR_PX = 0.5
# So many may.
END_POINTS = 32


@dataclass(frozen=True)
class End:
    """Where another line is to end."""

    side: int  # of its arc, that begins there
    place: complex
    lost: int  # points after it: the square ring has swallowed them


@dataclass(frozen=True)
class Proposal:
    """A ring, and the square one to take its place."""

    is_shell: bool
    sides: Indices  # of the arcs that the ring walks
    pieces: list[Complexes]  # of the square ring, one for each side, as they are walked
    nodes: Indices  # from which the sides leave
    ends: list[End]  # of other lines that end at the ring
    before: shapely.Polygon
    after: shapely.Polygon

    @property
    def arcs(self) -> Indices:
        return self.sides >> 1


def propose(coverage: Coverage, regions: Places) -> Iterator[Proposal]:
    """For large regions first, and for the shell of a region before its holes, which are squared only if it is."""
    regions = regions[coverage.pixels[regions] >= LEAST_PX]
    regions = regions[np.argsort(-coverage.pixels[regions], kind="stable")]
    if not len(regions):
        return
    rings = np.concatenate([np.arange(*coverage.parts[region : region + 2]) for region in regions])
    owner = np.repeat(regions, np.diff(coverage.parts)[regions])
    loops = walked(coverage, rings)
    before = polygons_of(loops)
    after = _fitting(coverage.grid, loops, owner, before)
    nodes, with_shell = nodes_of_sides(coverage), set[int]()
    for at in np.flatnonzero(~shapely.is_missing(after)):
        ring, region = int(rings[at]), int(owner[at])
        if ring == coverage.parts[region] or region in with_shell:
            proposal = _proposal(coverage, nodes, region, ring, before[at], after[at])
            if proposal is not None:
                with_shell.add(region)
                yield proposal


def _proposal(
    coverage: Coverage, nodes: Indices, region: int, ring: int, before: shapely.Polygon, after: shapely.Polygon
) -> Proposal | None:
    """With what becomes of the lines, if they can still meet at the nodes."""
    sides = coverage.rings.sides[slice(*coverage.rings.offsets[ring : ring + 2])]
    pieces = _split(coverage, sides, nodes[sides], shapely.get_coordinates(after) @ (1, 1j))
    if pieces is None:
        return None
    is_shell = bool(ring == coverage.parts[region])
    # What no other line may go through: a building, or all that lies around a courtyard.
    solid = after if is_shell else shapely.box(*after.buffer(REACH_PX).bounds) - after
    ends = _ends(coverage, region, nodes[sides], pieces, solid)
    return None if ends is None else Proposal(is_shell, sides, pieces, nodes[sides], ends, before, after)


def nodes_of_sides(coverage: Coverage) -> Indices:
    """The node that each side leaves from. The end of an arc that meets no node is a number beyond those of nodes."""
    nodes = len(coverage.leaving) + np.repeat(np.arange(len(coverage.region) // 2, dtype=np.int32), 2)
    at, way = np.nonzero(coverage.leaving >= 0)
    nodes[coverage.leaving[at, way]] = at
    return nodes


def walked(coverage: Coverage, rings: Places) -> Loops:
    """The points of some rings, in pixels, as they are walked."""
    # On a map that is no mirror image of the screen, outlines are not turned round.
    screen = replace(coverage.grid, transform=Affine.scale(1, -1))
    parts = np.arange(len(rings) + 1)
    some = replace(coverage, grid=screen, rings=coverage.rings.take(rings), parts=parts)
    found = outlines(some, 0, len(rings), corners_only=False)
    points = found.xy[:, 0] - 1j * found.xy[:, 1]
    return Loops(np.delete(points, found.rings[1:] - 1), found.rings - parts)


def polygons_of(loops: Loops) -> Shapes:
    """None for loops without points."""
    found = np.full(len(loops), None, object)
    some = np.flatnonzero(loops.sizes)
    xy = np.stack([loops.points.real, loops.points.imag], axis=1)
    number = np.repeat(np.arange(len(some)), loops.sizes[some])
    found[some] = shapely.polygons(shapely.linearrings(xy, indices=number))
    return found


def _fitting(grid: Grid, loops: Loops, owner: Places, before: Shapes) -> Shapes:
    """Square rings that are close to the others; None where there is none."""
    after = np.full(len(loops), None, object)
    for tolerance in TOLERANCES:
        left = np.flatnonzero(shapely.is_missing(after))
        if len(left):
            tried = polygons_of(_squared(grid, loops.take(left), owner[left], tolerance))
            fits = _fits(grid, before[left], tried)
            after[left[fits]] = tried[fits]
    return after


def _squared(grid: Grid, loops: Loops, owner: Places, tolerance: float) -> Loops:
    """Square on the ground, where pixels may be no squares."""
    ground = _Steps.on_ground(grid, loops.points[loops.offsets[:-1]])
    group = np.unique(owner, return_inverse=True)[1]
    corners = square(Loops(ground.of(loops), loops.offsets), group, tolerance)
    return Loops(ground.inverse().of(corners), corners.offsets)


@dataclass(frozen=True)
class _Steps:
    """What steps become in each of several places: `plain` times the step, and `mirrored` times its mirror image."""

    plain: Complexes
    mirrored: Complexes

    @classmethod
    def on_ground(cls, grid: Grid, at: Complexes) -> "_Steps":
        """Of steps in pixels, with pixels of area 1."""
        t = grid.transform
        east = np.ones(len(at))
        if grid.crs is not None and grid.crs.is_geographic:
            # Degrees of longitude shrink towards the poles.
            _, to_radians = grid.crs.units_factor
            east = np.cos((t.d * at.real + t.e * at.imag + t.f) * to_radians).clip(min=1e-3)
        along_row, along_column = t.a * east + 1j * t.d, t.b * east + 1j * t.e
        size = 2 * np.sqrt(np.abs(t.determinant) * east)
        return cls((along_row - 1j * along_column) / size, (along_row + 1j * along_column) / size)

    def inverse(self) -> "_Steps":
        size = np.abs(self.plain) ** 2 - np.abs(self.mirrored) ** 2
        return _Steps(self.plain.conj() / size, -self.mirrored / size)

    def of(self, loops: Loops) -> Complexes:
        """Of the points of a loop for each of the places."""
        plain, mirrored = self.plain[loops.loop], self.mirrored[loops.loop]
        return np.asarray(plain * loops.points + mirrored * loops.points.conj())


def _fits(grid: Grid, before: Shapes, after: Shapes) -> Flags:
    """Whether the square rings are close to the others, and neither is at the raster's frame."""
    fits = shapely.is_valid(before) & shapely.is_valid(after)
    fits[fits] = _within(grid, before[fits], after[fits])
    one, other = before[fits], after[fits]
    shared = shapely.area(shapely.intersection(one, other))
    close = shared >= LEAST_IOU * (shapely.area(one) + shapely.area(other) - shared)
    close &= shapely.is_ccw(shapely.get_exterior_ring(one)) == shapely.is_ccw(shapely.get_exterior_ring(other))
    close &= shapely.hausdorff_distance(shapely.boundary(one), shapely.boundary(other)) <= REACH_PX
    fits[fits] = close
    return np.asarray(fits)


def _within(grid: Grid, before: Shapes, after: Shapes) -> Flags:
    size = np.array([grid.width, grid.height])
    inner, outer = shapely.bounds(before), shapely.bounds(after)
    inside = (inner[:, :2] > 0) & (inner[:, 2:] < size) & (outer[:, :2] >= 0) & (outer[:, 2:] <= size)
    return np.asarray(inside.all(axis=1))


def _split(coverage: Coverage, sides: Indices, nodes: Indices, ring: Complexes) -> list[Complexes] | None:
    """The square ring, closed, in a piece for each side; None if nodes would come in another order on it, or be one."""
    if nodes[0] >= len(coverage.leaving):
        return [ring]
    ends = np.append(0, np.cumsum(np.abs(np.diff(ring))))
    node = _along(ring, ends, _beginnings(coverage, sides))
    places = np.unique(np.concatenate([ends[:-1], node]))
    first, *cuts = np.searchsorted(places, node)
    points = np.interp(np.roll(places, -first), ends, ring)
    points = np.append(points, points[0])
    cuts = [0, *((cut - first) % len(places) for cut in cuts), len(places)]
    if np.diff(cuts).min() <= 0 or np.abs(np.diff(points)).min() < APART_PX:
        return None
    return [points[begin : end + 1] for begin, end in pairwise(cuts)]


def _beginnings(coverage: Coverage, sides: Indices) -> Complexes:
    """Where sides leave their nodes."""
    lines = coverage.lines
    at = np.where(sides & 1, lines.offsets[(sides >> 1) + 1] - 1, lines.offsets[sides >> 1])
    return np.asarray(lines.x[at] + 1j * lines.y[at])


def _along(ring: Complexes, ends: NDArray[np.float64], nodes: Complexes) -> NDArray[np.float64]:
    """How far along a ring the nodes come nearest to it; at a corner if they come near one."""
    line = shapely.LineString(np.stack([ring.real, ring.imag], axis=1))
    along = shapely.line_locate_point(line, shapely.points(nodes.real, nodes.imag))
    corner = ends[np.abs(ends - along[:, np.newaxis]).argmin(axis=1)]
    return np.asarray(np.where(np.abs(corner - along) < SNAP_PX, corner, along) % ends[-1])


def _ends(
    coverage: Coverage, region: int, nodes: Indices, pieces: list[Complexes], solid: shapely.Polygon
) -> list[End] | None:
    """Of all other lines that end at the nodes of a ring; None where the region comes to a node twice."""
    found = []
    for node, piece in zip(nodes[nodes < len(coverage.leaving)], pieces, strict=False):
        sides = [side for side in coverage.leaving[node].tolist() if side >= 0]
        others = [side for side in sides if region not in coverage.region[[side, side ^ 1]]]
        if len(sides) - len(others) > 2:
            return None
        found += [End(side, complex(piece[0]), _lost(coverage.lines, side, solid)) for side in others]
    return found


def _lost(lines: Lines, side: int, solid: shapely.Polygon) -> int:
    """How many points of a line, after its first, are too close to something solid."""
    first, last = lines.offsets[side >> 1], lines.offsets[(side >> 1) + 1] - 1
    if last - first == 1:
        return 0
    at = slice(last - 1, first, -1) if side & 1 else slice(first + 1, last)
    x, y = lines.x[at][:END_POINTS], lines.y[at][:END_POINTS]
    close = shapely.distance(solid, shapely.points(x, y)) <= CLEAR_PX
    return int(np.append(close, False).argmin())
