"""What people and weather do to a landscape between two dates: the known changes."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import shapely

from rsseg_cli.samples.classes import BARE, BUILDING, ROAD, TREE, WATER
from rsseg_cli.samples.clearance import cleared
from rsseg_cli.samples.houses import STREETS, build
from rsseg_cli.samples.landscape import Building, Landscape, Line, Patch, Road, Tree
from rsseg_cli.samples.lattice import Lattice
from rsseg_cli.samples.sketch import Block, Site, Sketch, blob, choice, varied
from rsseg_cli.samples.streams import Kind, placed, stream
from rsseg_cli.samples.town import CARRIAGEWAYS_M, NARROWEST_M, block_at, blocks_within, use_of

FELLED, REMOVED, DUG, FLOODED, PAVED, BUILT = range(1, 7)

LOST = {TREE: FELLED, BUILDING: REMOVED}
"""Kind of change by the class of what went."""
GAINED = {BARE: DUG, WATER: FLOODED, ROAD: PAVED, BUILDING: BUILT}
"""Kind of change by the class of what came."""
KINDS: tuple[tuple[int, str, str], ...] = (
    (FELLED, "felled trees", "#1b7837"),
    (REMOVED, "removed building", "#f4a582"),
    (DUG, "dug ground", "#d8b365"),
    (FLOODED, "flooded field", "#2b83ba"),
    (PAVED, "new road", "#6b6b6b"),
    (BUILT, "new building", "#d7301f"),
)

SMALL_M2 = 30.0
"""Sheds and garages are smaller; only they are torn down."""
TORN_DOWN = 0.25
"""Share of the small buildings that go."""
SINGLE_TREES = 0.02
"""Share of all trees that are felled one by one."""
COUNTRYSIDE = 0.3
"""Share of the blocks between towns where something happens; in town it does in all."""
STEM_M = 1.0
"""Trees whose stems stand closer to works than this are felled for them."""


@dataclass
class Works:
    """What is to be done, collected block by block."""

    new: Sketch = field(default_factory=Sketch)
    """What is added: pits among the patches, floods among the waters."""
    felled: list[Line] = field(default_factory=list)
    """Outlines of the ground where all trees go."""


def planned(lattice: Lattice, side_m: float) -> Works:
    """Return the works within a landscape; a larger one holds those of a smaller one."""
    works = Works()
    rows, columns = blocks_within(lattice, side_m)
    for row in rows:
        for column in columns:
            block = block_at(lattice, column, row)
            rng = stream(lattice.seed, Kind.WORKS, column, row)
            busy = rng.uniform() < COUNTRYSIDE or not lattice.countryside(column, row)
            plan = PLANS.get(use_of(lattice, column, row))
            if plan and busy and block.u1 - block.u0 > NARROWEST_M:
                plan(Site(block, lattice, works.new), works, rng)
    return works


def emptied(before: Landscape, works: Works) -> Landscape:
    """Fell woods, single trees and what stands in the way, and tear down small buildings."""
    cut = shapely.union_all([shapely.Polygon(outline) for outline in works.felled] + _sites(works.new))
    stems = np.array([tree.centre for tree in before.trees]).reshape(-1, 2)
    felled = shapely.contains_xy(cut, stems[:, 0], stems[:, 1])
    trees = (tree for tree, gone in zip(before.trees, felled, strict=True) if not gone)
    return replace(
        before,
        trees=tuple(tree for tree in trees if not _drawn_out(before.seed, tree, SINGLE_TREES)),
        buildings=tuple(building for building in before.buildings if not _torn_down(before.seed, building)),
    )


def filled(landscape: Landscape, works: Works) -> Landscape:
    """Dig, flood and build."""
    new = works.new
    return cleared(
        replace(
            landscape,
            patches=(*landscape.patches, *new.patches),
            waters=(*landscape.waters, *new.waters),
            roads=(*landscape.roads, *new.roads),
            buildings=(*landscape.buildings, *new.buildings),
        )
    )


def _field(site: Site, works: Works, rng: np.random.Generator) -> None:
    if rng.uniform() < 0.5:
        _flood(site, rng)
    else:
        _dig(site, rng)
        _barn(site, rng)


def _flood(site: Site, rng: np.random.Generator) -> None:
    """Let water stand in the low part of a field."""
    outline = blob(_place(site, rng, 0.3), _radius_m(site.block, 0.42), rng, 0.3)
    site.sketch.waters.append(Patch(outline, "turbid water", varied(rng, 0.1)))


def _dig(site: Site, rng: np.random.Generator) -> None:
    """Strip the top of a field and pile it up beside the pit."""
    block = site.block
    u, v = block.u0 + (block.u1 - block.u0) * 0.27, block.v0 + (block.v1 - block.v0) * float(rng.uniform(0.4, 0.6))
    radius_m = _radius_m(block, 0.32)
    for share, material in ((1.0, "soil"), (0.55, choice(rng, (("sand", 0.5), ("gravel", 0.5))))):
        outline = blob(site.lattice.point(u, v), radius_m * share, rng, 0.3)
        site.sketch.patches.append(Patch(outline, material, varied(rng, 0.08)))


def _barn(site: Site, rng: np.random.Generator) -> None:
    block = site.block
    place = (block.u0 + (block.u1 - block.u0) * 0.76, block.v0 + (block.v1 - block.v0) * float(rng.uniform(0.3, 0.7)))
    build(site, place, (float(rng.uniform(14, 18)), 10.0), "gable", choice(rng, site.style.halls), rng)


def _grove(site: Site, works: Works, rng: np.random.Generator) -> None:
    """Clear a part of a wood."""
    works.felled.append(blob(_place(site, rng, 0.35), _radius_m(site.block, 0.45), rng, 0.3))


def _estate(site: Site, works: Works, rng: np.random.Generator) -> None:
    """Build houses along a new street into an open lot."""
    block = site.block
    depth_m, middle = block.v1 - block.v0, (block.u0 + block.u1) / 2
    foot, inward = (block.v0, 1) if block.below in STREETS else (block.v1, -1)
    v = foot + inward * np.linspace(-2.0, depth_m * 0.8, 15)
    width_m, verge_m = CARRIAGEWAYS_M["street"]
    line = site.lattice.path(np.full(v.size, middle), v)
    site.sketch.roads.append(Road(line, width_m, "street", choice(rng, site.style.streets), verge_m, varied(rng, 0.1)))
    for side in (-1, 1):
        for share in (0.3, 0.72):
            size = (float(rng.uniform(8, 11)), float(rng.uniform(9, 13)))
            place = (middle + side * (width_m / 2 + verge_m + 3.5 + size[0] / 2), foot + inward * share * depth_m)
            build(site, place, size, "gable", choice(rng, site.style.houses), rng, across=bool(rng.uniform() < 0.5))


PLANS: dict[str, Callable[[Site, Works, np.random.Generator], None]] = {
    "field": _field,
    "grove": _grove,
    "lot": _estate,
}


def _place(site: Site, rng: np.random.Generator, edge: float) -> tuple[float, float]:
    """Return the ground point this share of the block away from two of its sides."""
    block = site.block
    u, v = (edge if rng.uniform() < 0.5 else 1 - edge for _ in range(2))
    return site.lattice.point(block.u0 + u * (block.u1 - block.u0), block.v0 + v * (block.v1 - block.v0))


def _radius_m(block: Block, share: float) -> float:
    return share * min(block.u1 - block.u0, block.v1 - block.v0)


def _sites(new: Sketch) -> list[shapely.Geometry]:
    """Return the ground that works need: round buildings and pits and along roads."""
    pits = [shapely.Polygon(pit.outline) for pit in new.patches]
    roads = [shapely.LineString(road.line).buffer(road.width_m / 2 + road.verge_m) for road in new.roads]
    houses = [shapely.Point(house.centre).buffer(max(house.length_m, house.width_m) / 2) for house in new.buildings]
    return [shapely.buffer(site, STEM_M) for site in (*pits, *roads, *houses)]


def _torn_down(seed: int, building: Building) -> bool:
    small = building.length_m * building.width_m < SMALL_M2
    return small and _drawn_out(seed, building, TORN_DOWN)


def _drawn_out(seed: int, item: Building | Tree, share: float) -> bool:
    return bool(placed(seed, Kind.WORKS, item.centre).uniform() < share)
