"""Plots with houses and gardens, and closed rows of town houses."""

import math
from dataclasses import dataclass

import numpy as np

from rsseg_cli.samples.landscape import Building, Point
from rsseg_cli.samples.sketch import Site, choice, varied
from rsseg_cli.samples.streams import Kind

STREETS = ("main", "street", "track")
TWO_ROWS_M = 30.0
"""Depth of a block that has room for two rows of plots."""


@dataclass(frozen=True)
class Row:
    """Plots that face one long line."""

    front: float
    """Block coordinate v of the street side."""
    inward: int
    """+1 if the plots lie above the street, -1 if below."""
    depth_m: float
    """From the street side to the back of the plots."""
    street: bool
    """Whether a street runs there; else the plots face open ground, such as a river."""

    def v(self, distance_m: float) -> float:
        """Return the block coordinate at a distance from the street side."""
        return self.front + self.inward * distance_m

    def area(self, u0: float, u1: float, near_m: float, far_m: float) -> tuple[float, float, float, float]:
        """Return a rectangle between two distances from the street side."""
        low, high = sorted((self.v(near_m), self.v(far_m)))
        return u0, u1, low, high


def rows(site: Site) -> list[Row]:
    """Return the rows of plots of a block: one per long street, and one on the water if there is room."""
    block = site.block
    faces = [(block.v0, 1, block.below), (block.v1, -1, block.above)]
    deep = block.v1 - block.v0 > TWO_ROWS_M
    faced = [(front, inward, kind in STREETS) for front, inward, kind in faces if deep or kind in STREETS]
    depth_m = (block.v1 - block.v0) / max(1, len(faced))
    return [Row(front, inward, depth_m, street) for front, inward, street in faced]


def build(
    site: Site, place: Point, size: tuple[float, float], shape: str, material: str, rng: np.random.Generator,
    across: bool = False, storeys: int = 1,
) -> None:  # fmt: skip
    """Put a building of (length along the street, depth) at block coordinates."""
    length_m, width_m = (size[1], size[0]) if across else size
    rise_m = 0.0 if shape == "flat" else width_m / 2 * math.tan(math.radians(rng.uniform(32, 46)))
    fittings = tuple(
        (round(float(rng.uniform(-0.35, 0.35)), 3), round(float(rng.choice([-0.15, 0.15])), 3))
        for _ in range(int(rng.integers(0, 3)))
    )
    angle = site.lattice.angle(*place) + (math.pi / 2 if across else 0.0)
    eaves_m = round(2.8 * storeys + float(rng.uniform(0.2, 1.0)), 2)
    site.sketch.buildings.append(
        Building(
            site.lattice.point(*place), round(length_m, 2), round(width_m, 2), round(angle, 5), eaves_m,
            round(rise_m, 2), shape, material, varied(rng, 0.12), fittings,
        )
    )  # fmt: skip


def houses(site: Site) -> None:
    """Lay out detached houses in gardens."""
    block = site.block
    plots = site.stream(Kind.PLOTS)
    site.ground(choice(plots, site.style.lawns), (block.u0, block.u1, block.v0, block.v1))
    number = 0
    # Square corners need room where the side streets lean.
    margin_m = min(5.5 * site.lean, 4.0)
    for row in rows(site):
        edge, end = block.u0 + margin_m, block.u1 - margin_m
        while end - edge > 11.5:
            frontage_m = float(plots.uniform(11.8, 16.5))
            if end - edge - frontage_m < 11.5:
                frontage_m = min(end - edge, 26.0)
            number += 1
            _plot(site, row, (edge, edge + frontage_m), number)
            edge += frontage_m


def _plot(site: Site, row: Row, span: tuple[float, float], number: int) -> None:
    u0, u1 = span
    rng, house = site.stream(Kind.PLOTS, number), site.stream(Kind.HOUSES, number)
    site.ground(choice(rng, site.style.lawns), row.area(u0, u1, 0.0, row.depth_m), varied(rng, 0.17))
    size = (float(rng.uniform(8.0, max(8.2, min(13.5, u1 - u0 - 2.5)))), float(rng.uniform(8.0, 11.5)))
    setback_m = float(rng.uniform(2.5, 5.5))
    left = bool(rng.uniform() < 0.5)
    slack_m = u1 - u0 - size[0] - 1.5
    middle = u0 + 1.0 + size[0] / 2 + (slack_m if left else 0.0)
    _house(site, row, (middle, row.v(setback_m + size[1] / 2)), size, house)
    if slack_m > 3.0 and row.street:
        _drive(site, row, (u0 + 0.4, u0 + 3.3) if left else (u1 - 3.3, u1 - 0.4), setback_m, house)
    reach = (setback_m + size[1] + 1.0, row.depth_m - 0.5)
    if reach[1] - reach[0] > 2.0:
        _beds(site, row, span, reach, rng)
        _garden(site, row, span, reach, site.stream(Kind.TREES, number))


def _house(site: Site, row: Row, place: Point, size: tuple[float, float], rng: np.random.Generator) -> None:
    flat = bool(rng.uniform() < site.style.flat_share)
    material = choice(rng, site.style.halls if flat else site.style.houses)
    shape = "flat" if flat else "hip" if rng.uniform() < 0.22 else "gable"
    across = bool(rng.uniform() < 0.35)
    build(site, place, size, shape, material, rng, across, int(rng.integers(1, 3)))
    if rng.uniform() < 0.35 and not across:
        wing = (size[0] * 0.45, float(rng.uniform(3.5, 5.5)))
        side = float(rng.choice([-1.0, 1.0])) * (size[0] - wing[0]) / 2
        back = (place[0] + side, place[1] + row.inward * (size[1] + wing[1]) / 2)
        build(site, back, wing, "gable" if not flat else "flat", material, rng, across=True)
    if rng.uniform() < 0.6:
        depth_m = float(rng.uniform(2.0, 3.5))
        terrace = place[1] + row.inward * size[1] / 2
        low, high = sorted((terrace, terrace + row.inward * depth_m))
        site.seal("paving", (place[0] - size[0] * 0.3, place[0] + size[0] * 0.35, low, high), varied(rng, 0.1))


def _drive(site: Site, row: Row, span: tuple[float, float], setback_m: float, rng: np.random.Generator) -> None:
    surface = str(rng.choice(["paving", "worn asphalt", "asphalt"]))
    site.seal(surface, row.area(*span, -1.5, setback_m + 4.0), varied(rng, 0.1))
    middle = (span[0] + span[1]) / 2
    if rng.uniform() < 0.55:
        place = (middle, row.v(setback_m + 6.5))
        build(site, place, (3.2, 6.0), "flat", choice(rng, site.style.halls), rng)


def _garden(
    site: Site, row: Row, span: tuple[float, float], reach: tuple[float, float], rng: np.random.Generator
) -> None:
    (u0, u1), (start_m, end_m) = span, reach
    if rng.uniform() < 0.5:
        site.hedge((u0, row.v(1.0)), (u0, row.v(end_m)), rng)
    if rng.uniform() < 0.6:
        site.hedge((u0, row.v(end_m)), (u1, row.v(end_m)), rng)
    number = rng.poisson((u1 - u0) * (end_m - start_m) / 100 * site.style.green_garden)
    for _ in range(int(number) + 1):
        radius_m = float(rng.uniform(1.1, 3.4))
        near_m = min(start_m + 1.0 + radius_m, end_m - 0.5)
        place = (float(rng.uniform(u0 + 1.5, u1 - 1.5)), row.v(float(rng.uniform(near_m, end_m))))
        site.tree(place, radius_m, choice(rng, site.style.foliage), rng)


def _beds(
    site: Site, row: Row, span: tuple[float, float], reach: tuple[float, float], rng: np.random.Generator
) -> None:
    """Dig a bed and put up a shed, now and then."""
    u0, u1 = span
    if rng.uniform() < 0.45:
        left = float(rng.uniform(u0 + 0.5, u1 - 6.0))
        near_m = float(rng.uniform(reach[0], max(reach[1] - 4.0, reach[0])))
        size = (float(rng.uniform(3.0, 6.0)), float(rng.uniform(2.5, 5.0)))
        site.ground(choice(rng, site.style.bare), row.area(left, left + size[0], near_m, near_m + size[1]))
    if rng.uniform() < 0.4:
        place = (float(rng.uniform(u0 + 2.5, u1 - 2.5)), row.v(reach[1] - 2.2))
        build(site, place, (3.4, 2.6), "flat", str(rng.choice(["green metal", "brown tiles", "planted roof"])), rng)


def closed_rows(site: Site) -> None:
    """Lay out attached town houses along the streets, with courtyards behind."""
    block = site.block
    plots = site.stream(Kind.PLOTS)
    site.ground(choice(plots, site.style.lawns), (block.u0, block.u1, block.v0, block.v1))
    for row in rows(site):
        depth_m = float(plots.uniform(8.0, 11.0))
        edge = block.u0 + 0.5
        while block.u1 - edge > 6.5:
            width_m = min(float(plots.uniform(6.5, 11.5)), block.u1 - edge)
            if plots.uniform() > 0.08:
                _town_house(site, row, (edge, edge + width_m), depth_m + float(plots.uniform(-0.8, 1.2)), plots)
            edge += width_m
        _courtyards(site, row, depth_m + 2.0, plots)


def _town_house(site: Site, row: Row, span: tuple[float, float], depth_m: float, rng: np.random.Generator) -> None:
    flat = bool(rng.uniform() < site.style.flat_share)
    material = choice(rng, site.style.halls if flat else site.style.houses)
    place = ((span[0] + span[1]) / 2, row.v(0.8 + depth_m / 2))
    shape = "flat" if flat else "gable"
    build(site, place, (span[1] - span[0], depth_m), shape, material, rng, storeys=int(rng.integers(2, 4)))


def _courtyards(site: Site, row: Row, start_m: float, rng: np.random.Generator) -> None:
    edge, end = site.block.u0, site.block.u1
    while end - edge > 6.0:
        width_m = min(float(rng.uniform(7.0, 16.0)), end - edge)
        area = row.area(edge + 0.2, edge + width_m - 0.2, start_m - 2.0, row.depth_m)
        use = rng.uniform()
        if use < 0.2:
            site.seal("paving", area, varied(rng, 0.12))
        else:
            site.ground(choice(rng, site.style.bare if use < 0.5 else site.style.lawns), area, varied(rng, 0.1))
        _yard_things(site, row, (edge, edge + width_m), start_m, rng)
        edge += width_m


def _yard_things(site: Site, row: Row, span: tuple[float, float], start_m: float, rng: np.random.Generator) -> None:
    room_m = row.depth_m - start_m
    middle = (span[0] + span[1]) / 2
    if rng.uniform() < 0.3 and room_m > 6.0:
        size = (float(rng.uniform(3.0, 5.0)), float(rng.uniform(3.0, 5.0)))
        build(site, (middle, row.v(row.depth_m - 3.0)), size, "flat", choice(rng, site.style.halls), rng)
    for _ in range(int(rng.poisson((span[1] - span[0]) * max(room_m, 0.0) / 100 * site.style.green_garden))):
        place = (float(rng.uniform(*span)), row.v(float(rng.uniform(min(start_m + 2.0, row.depth_m), row.depth_m))))
        site.tree(place, float(rng.uniform(1.3, 3.2)), choice(rng, site.style.foliage), rng)
