"""Blocks without houses: fields, groves, parks, yards, building sites and vacant lots."""

import math
from dataclasses import replace

import numpy as np

from rsseg_cli.samples.houses import build
from rsseg_cli.samples.landscape import Car, Patch, Point, Road
from rsseg_cli.samples.sketch import Site, blob, choice, varied
from rsseg_cli.samples.streams import Kind

CARS = (("white car", 0.4), ("dark car", 0.35), ("red car", 0.12), ("blue car", 0.13))


def fields(site: Site) -> None:
    """Lay out two or three strips of farmland."""
    block, rng = site.block, site.stream(Kind.PLOTS)
    number = int(rng.integers(2, 4))
    ends = np.linspace(block.v0, block.v1, number + 1)
    ends[1:-1] += rng.uniform(-3, 3, number - 1)
    slope = float(rng.choice([0.0, math.pi / 2]))
    covers = rng.permutation([name for name, _ in site.style.fields])
    for strip in range(number):
        area = (block.u0, block.u1, float(ends[strip]), float(ends[strip + 1]) - 0.8)
        _field(site, area, str(covers[strip]), slope, rng)
    trees = site.stream(Kind.TREES)
    for v in ends[1:-1]:
        if trees.uniform() < 0.6:
            _tree_line(site, (block.u0, float(v)), (block.u1, float(v)), trees)


def _field(
    site: Site, area: tuple[float, float, float, float], cover: str, slope: float, rng: np.random.Generator
) -> None:
    angle = site.lattice.angle((area[0] + area[1]) / 2, (area[2] + area[3]) / 2) + slope
    spacing_m, depth = (float(rng.uniform(1.6, 3.2)), 0.16) if cover != "meadow" else (5.0, 0.07)
    site.sketch.patches.append(
        Patch(site.lattice.quad(*area), cover, varied(rng, 0.1), round(spacing_m, 2), round(angle, 5), depth)
    )


def _tree_line(site: Site, start: Point, end: Point, rng: np.random.Generator) -> None:
    length_m = math.dist(start, end)
    along = 0.0
    while along < length_m:
        share = along / length_m
        place = (start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1]) + rng.normal(0, 0.5))
        radius_m = float(rng.uniform(0.9, 2.8))
        site.tree(place, radius_m, choice(rng, (*site.style.foliage, ("hedge", 0.5))), rng)
        along += radius_m * float(rng.uniform(0.9, 2.2))


def grove(site: Site) -> None:
    """Cover a block with a wood that has clearings."""
    block, rng = site.block, site.stream(Kind.TREES)
    site.ground("meadow", (block.u0, block.u1, block.v0, block.v1), 0.85)
    phase = rng.uniform(0, 2 * math.pi, 4)
    mix = site.style.foliage
    for u in np.arange(block.u0 + 2, block.u1 - 1, 3.9):
        for v in np.arange(block.v0 + 2, block.v1 - 1, 3.9):
            open_ground = math.sin(u / 9 + phase[0]) + math.sin(v / 7 + phase[1]) + math.sin((u + v) / 13 + phase[2])
            place = (float(u + rng.uniform(-1.5, 1.5)), float(v + rng.uniform(-1.5, 1.5)))
            radius_m = float(rng.uniform(1.7, 3.6))
            material = choice(rng, mix)
            if open_ground < 1.1:
                site.tree(place, radius_m, material, rng)


def park(site: Site) -> None:
    """Lay out a lawn with a pond, a winding path and groups of trees."""
    block, rng = site.block, site.stream(Kind.PLOTS)
    site.ground("lawn", (block.u0, block.u1, block.v0, block.v1), varied(rng, 0.08))
    width_m, depth_m = block.u1 - block.u0, block.v1 - block.v0
    pond = (block.u0 + width_m * rng.uniform(0.35, 0.65), block.v0 + depth_m * rng.uniform(0.4, 0.6))
    radius_m = min(width_m, depth_m) * float(rng.uniform(0.24, 0.3))
    outline = blob(site.lattice.point(*pond), radius_m, rng)
    site.sketch.waters.append(Patch(outline, site.style.water, varied(rng, 0.18)))
    bank = blob(site.lattice.point(*pond), radius_m * 1.22, site.stream(Kind.GROUND))
    site.sketch.patches.append(Patch(bank, choice(rng, (("weeds", 0.5), ("soil", 0.25), ("meadow", 0.25)))))
    u = np.linspace(block.u0 - 1, block.u1 + 1, 24)
    v = block.v0 + depth_m * (0.12 + 0.05 * np.sin(u / 8 + rng.uniform(0, 6)))
    site.sketch.roads.append(Road(site.lattice.path(u, v), 2.6, "path", "gravel"))
    _scattered_trees(site, pond, radius_m, rng)


def _scattered_trees(site: Site, pond: Point, radius_m: float, rng: np.random.Generator) -> None:
    block, trees = site.block, site.stream(Kind.TREES)
    for _ in range(int((block.u1 - block.u0) * (block.v1 - block.v0) / 75)):
        place = (float(trees.uniform(block.u0 + 2, block.u1 - 2)), float(trees.uniform(block.v0 + 2, block.v1 - 2)))
        size_m = float(trees.uniform(1.6, 4.2))
        material = choice(trees, site.style.foliage)
        if math.dist(place, pond) > radius_m * 1.05 + size_m * 0.5:
            site.tree(place, size_m, material, trees)


def yard(site: Site) -> None:
    """Lay out a hall with a car park in front and a gravel store behind."""
    block, rng = site.block, site.stream(Kind.PLOTS)
    split = block.u0 + (block.u1 - block.u0) * float(rng.uniform(0.52, 0.62))
    site.ground(choice(rng, site.style.bare), (split, block.u1, block.v0, block.v1))
    site.ground(choice(rng, site.style.lawns), (block.u0, split, block.v0, block.v1))
    depth_m = block.v1 - block.v0
    hall_v = block.v0 + depth_m * 0.7
    width_m = depth_m * 0.42
    size = ((split - block.u0) * 0.92 - width_m * site.lean, width_m)
    walls = site.stream(Kind.HOUSES)
    build(site, ((block.u0 + split) / 2, hall_v), size, "flat", choice(walls, site.style.halls), walls, storeys=2)
    shed = (float(walls.uniform(8, 11)), float(walls.uniform(9, 14)))
    place = (block.u1 - shed[0] / 2 - 1.5, block.v0 + depth_m * float(walls.uniform(0.3, 0.7)))
    build(site, place, shed, "gable", choice(walls, site.style.halls), walls, across=True)
    _car_park(site, (block.u0 + 1, split - 0.5, block.v0 - 1.5, block.v0 + depth_m * 0.46))
    trees = site.stream(Kind.TREES)
    _tree_line(site, (block.u0 + 1, block.v1 - 1), (block.u1 - 1, block.v1 - 1), trees)


def _car_park(site: Site, area: tuple[float, float, float, float]) -> None:
    u0, u1, v0, v1 = area
    rng = site.stream(Kind.CARS)
    site.seal(choice(rng, site.style.streets), area, varied(rng, 0.1))
    for line in (v0 + 3.0, v1 - 6.0):
        for u in np.arange(u0 + 1.0, u1 - 2.5, 2.6):
            site.seal("paint", (float(u), float(u) + 0.22, line, line + 4.8))
            place = (float(u) + 1.4, line + 2.5)
            if rng.uniform() < 0.5:
                angle = site.lattice.angle(*place) + math.pi / 2
                site.sketch.cars.append(Car(site.lattice.point(*place), round(angle, 5), choice(rng, CARS)))


def building_site(site: Site) -> None:
    """Lay out stripped ground with heaps and a shell of a building."""
    lot(site)
    block, rng = site.block, site.stream(Kind.HOUSES)
    place = ((block.u0 * 2 + block.u1) / 3, (block.v0 + block.v1) / 2)
    size = ((block.u1 - block.u0) * 0.36, (block.v1 - block.v0) * 0.42)
    build(site, place, size, "flat", "concrete", rng, storeys=2)
    u = np.linspace(block.u0 + 4, block.u1 - 2, 12)
    track = site.lattice.path(u, block.v0 + 4 + 1.5 * np.sin(u / 7))
    site.sketch.roads.append(Road(track, 3.4, "path", "gravel"))


def lot(site: Site) -> None:
    """Lay out open bare ground with spots of weeds."""
    block, rng = site.block, site.stream(Kind.PLOTS)
    site.ground(choice(rng, site.style.bare), (block.u0, block.u1, block.v0, block.v1), varied(rng, 0.08))
    for _ in range(int(rng.integers(6, 11))):
        place = (float(rng.uniform(block.u0 + 3, block.u1 - 3)), float(rng.uniform(block.v0 + 3, block.v1 - 3)))
        outline = blob(site.lattice.point(*place), float(rng.uniform(2.0, 7.0)), rng, 0.35)
        material = choice(rng, (("weeds", 0.4), ("dry grass", 0.25), *((n, w * 0.35) for n, w in site.style.bare)))
        site.sketch.patches.append(Patch(outline, material, varied(rng, 0.1)))
    trees = site.stream(Kind.TREES)
    for _ in range(int(trees.integers(3, 9))):
        place = (float(trees.uniform(block.u0 + 2, block.u1 - 2)), float(trees.uniform(block.v0 + 2, block.v1 - 2)))
        site.tree(place, float(trees.uniform(1.0, 2.6)), choice(trees, site.style.foliage), trees)


def orchard(site: Site) -> None:
    """Plant trees in rows on open ground."""
    block, rng = site.block, site.stream(Kind.PLOTS)
    ground = choice(rng, (("soil", 0.4), ("weeds", 0.25), ("dry grass", 0.35)))
    angle = site.lattice.angle(block.u0, block.v0)
    patch = Patch(site.lattice.quad(block.u0, block.u1, block.v0, block.v1), ground, varied(rng, 0.08))
    site.sketch.patches.append(replace(patch, row_spacing_m=1.5, row_angle=round(angle, 5), row_depth=0.06))
    trees = site.stream(Kind.TREES)
    for u in np.arange(block.u0 + 3, block.u1 - 2, 5.6):
        for v in np.arange(block.v0 + 3, block.v1 - 2, 6.2):
            place = (float(u + trees.normal(0, 0.3)), float(v + trees.normal(0, 0.3)))
            radius_m = float(trees.uniform(1.3, 2.3))
            if trees.uniform() > 0.08:
                site.tree(place, radius_m, site.style.foliage[1][0], trees)
