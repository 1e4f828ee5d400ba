"""Lays out a whole landscape from a street net."""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rsseg_cli.samples import grounds
from rsseg_cli.samples.clearance import cleared
from rsseg_cli.samples.houses import closed_rows, houses
from rsseg_cli.samples.landscape import Car, Landscape, Line, Point, Road
from rsseg_cli.samples.lattice import Lattice
from rsseg_cli.samples.river import river
from rsseg_cli.samples.sketch import Block, Site, Sketch, choice, plant, varied
from rsseg_cli.samples.streams import Kind, stream

USES = {
    "houses": houses,
    "rows": closed_rows,
    "field": grounds.fields,
    "grove": grounds.grove,
    "park": grounds.park,
    "yard": grounds.yard,
    "site": grounds.building_site,
    "lot": grounds.lot,
    "orchard": grounds.orchard,
}
CARRIAGEWAYS_M = {"main": (7.0, 1.7), "street": (4.8, 0.9), "track": (2.8, 0.0)}
"""Width of the carriageway and of the pavement beside it, by kind of line."""
NARROWEST_M = 16.0
"""Blocks that are not wider stay empty."""


def lay_out(lattice: Lattice, side_m: float) -> Landscape:
    """Return the landscape within half a side of the ground point (0, 0)."""
    sketch = Sketch()
    rows, columns = blocks_within(lattice, side_m)
    for row in rows:
        _long_line(lattice, row, columns, sketch)
        for column in columns:
            block = block_at(lattice, column, row)
            if block.u1 - block.u0 > NARROWEST_M:
                USES[use_of(lattice, column, row)](Site(block, lattice, sketch))
            _side_line(lattice, column, row, sketch)
    drawn = Landscape(
        seed=lattice.seed, ground=lattice.style.ground, side_m=side_m,
        patches=tuple(sketch.patches), waters=tuple(sketch.waters), roads=tuple(sketch.roads),
        sealed=tuple(sketch.sealed), buildings=tuple(sketch.buildings), trees=tuple(sketch.trees),
        cars=tuple(sketch.cars),
    )  # fmt: skip
    return cleared(drawn)


def blocks_within(lattice: Lattice, side_m: float) -> tuple[range, range]:
    """Return the rows and columns of blocks that reach into a landscape."""
    reach = side_m / math.sqrt(2) + lattice.style.warp_m
    rows, columns = (_numbers(lattice.shift[axis], reach, lattice.style.block_m[axis]) for axis in (1, 0))
    return rows, columns


def _numbers(middle: float, reach: float, pitch: float) -> range:
    return range(math.floor((middle - reach) / pitch) - 1, math.ceil((middle + reach) / pitch) + 2)


def use_of(lattice: Lattice, column: int, row: int) -> str:
    """Return the land use of a block; each group of blocks gets a shuffled share of all uses."""
    uses = lattice.style.countryside if lattice.countryside(column, row) else lattice.style.uses
    across = len(uses) // 2
    dealt = stream(lattice.seed, Kind.USES, column // across, row // 2).permutation(len(uses))
    return uses[int(dealt[column % across + across * (row % 2)])]


def block_at(lattice: Lattice, column: int, row: int) -> Block:
    """Return the ground between four lines of the street net."""
    below, above = lattice.row_kind(row), lattice.row_kind(row + 1)
    return Block(
        column, row,
        lattice.column_u(column, row) + lattice.half_width_m(lattice.column_kind(column, row)),
        lattice.column_u(column + 1, row) - lattice.half_width_m(lattice.column_kind(column + 1, row)),
        lattice.row_v(row) + lattice.half_width_m(below),
        lattice.row_v(row + 1) - lattice.half_width_m(above),
        below, above,
    )  # fmt: skip


def _long_line(lattice: Lattice, row: int, columns: range, sketch: Sketch) -> None:
    pitch, kind = lattice.style.block_m[0], lattice.row_kind(row)
    if kind == "river":
        river(lattice, row, (columns[0] * pitch, columns[-1] * pitch), sketch)
        return
    for column in columns:
        # One piece a block, so that a longer street does not change what stands along the shorter one.
        u = np.linspace(column * pitch, (column + 1) * pitch, 21)
        road(lattice, kind, lattice.path(u, np.full(u.size, lattice.row_v(row))), sketch, (0, column, row))
        if kind == "main":
            trees = stream(lattice.seed, Kind.STREET_TREES, 0, column, row)
            _street_trees(lattice, sketch.roads[-1], np.ones(u.size, bool), sketch, trees)


def _side_line(lattice: Lattice, column: int, row: int, sketch: Sketch) -> None:
    kind = lattice.column_kind(column, row)
    if kind == "none":
        return
    ends = [lattice.row_v(row), lattice.row_v(row + 1)]
    if kind != "main":
        # Only main roads bridge a river; others end on its bank.
        ends[0] += lattice.half_width_m("river") if lattice.row_kind(row) == "river" else 0.0
        ends[1] -= lattice.half_width_m("river") if lattice.row_kind(row + 1) == "river" else 0.0
    v = np.linspace(ends[0], ends[1], max(2, math.ceil((ends[1] - ends[0]) / 3.0)))
    line = lattice.path(np.full(v.size, lattice.column_u(column, row)), v)
    road(lattice, kind, line, sketch, (1, column, row))
    if kind == "main":
        dry = np.abs(v[:, None] - _rivers(lattice, row)).min(axis=1) > lattice.half_width_m("river") + 2.0
        trees = stream(lattice.seed, Kind.STREET_TREES, 1, column, row)
        _street_trees(lattice, sketch.roads[-1], dry, sketch, trees)


def road(lattice: Lattice, kind: str, line: Line, sketch: Sketch, place: tuple[int, int, int]) -> None:
    """Add a piece of road, with the cars on it."""
    axis, column, row = place
    # A long street keeps its surface over all its pieces.
    rng = stream(lattice.seed, Kind.EDGES, axis, column if axis else 0, row, 1)
    material = choice(rng, (("gravel", 0.7), ("soil", 0.3)) if kind == "track" else lattice.style.streets)
    material = "asphalt" if kind == "main" else material
    width_m, verge_m = CARRIAGEWAYS_M[kind]
    sketch.roads.append(Road(line, width_m, kind, material, verge_m, varied(rng, 0.13)))
    if kind != "track":
        sketch.cars.extend(street_cars(sketch.roads[-1], stream(lattice.seed, Kind.STREET_CARS, *place)))


def _stops(line: Line) -> Iterator[tuple[Point, float]]:
    """Yield every third corner of a line with the direction there."""
    for (x0, y0), (x1, y1) in zip(line[1:-3:3], line[2:-2:3], strict=False):
        yield (x0, y0), math.atan2(y1 - y0, x1 - x0)


def _beside(place: Point, angle: float, distance_m: float) -> Point:
    return round(place[0] - math.sin(angle) * distance_m, 3), round(place[1] + math.cos(angle) * distance_m, 3)


def _rivers(lattice: Lattice, row: int) -> NDArray[np.float64]:
    """Return where rivers run at the ends of a row of blocks; far away if there are none."""
    ends = [lattice.row_v(end) if lattice.row_kind(end) == "river" else math.inf for end in (row, row + 1)]
    return np.array(ends)


def _street_trees(
    lattice: Lattice, way: Road, dry: NDArray[np.bool_], sketch: Sketch, rng: np.random.Generator
) -> None:
    """Plant trees on the pavement wherever the line runs over dry ground."""
    for (place, angle), open_ground in zip(_stops(way.line), dry[1:-3:3], strict=False):
        side = float(rng.choice([-1.0, 1.0])) * (way.width_m / 2 + way.verge_m + 0.6)
        radius_m = float(rng.uniform(1.8, 3.2))
        if rng.uniform() < 0.62 and open_ground:
            plant(sketch, _beside(place, angle, side), radius_m, lattice.style.foliage[0][0], rng)


def street_cars(way: Road, rng: np.random.Generator) -> Iterator[Car]:
    """Yield cars under way on a piece of road."""
    for place, angle in _stops(way.line):
        side = float(rng.choice([-1.0, 1.0])) * way.width_m * 0.3
        if rng.uniform() < 0.16:
            yield Car(_beside(place, angle, side), round(angle, 5), choice(rng, grounds.CARS))
