"""What differs between two dates without being a change: leaves turn, grass is mown, soil is wet, cars drive on."""

from dataclasses import replace

from rsseg_cli.samples.classes import BARE, GRASS
from rsseg_cli.samples.landscape import Car, Landscape, Patch, Tree
from rsseg_cli.samples.materials import MATERIALS, NUMBERS
from rsseg_cli.samples.sketch import varied
from rsseg_cli.samples.streams import Kind, placed
from rsseg_cli.samples.town import street_cars

TURNED = {"leaves": 0.12, "light leaves": 0.25}
"""Share of the trees of a kind whose leaves have turned."""
PARKED = 0.4
"""Share of the cars that still stand where they stood."""
MOWN, WETNESS = 0.07, 0.88
"""Deviation of the brightness of green ground, and brightness of wet soil against dry."""


def in_autumn(landscape: Landscape) -> Landscape:
    """Return the same ground some months later, with other cars."""
    seed = landscape.seed
    driving = (
        car
        for road in landscape.roads
        if road.kind in ("main", "street")
        for car in street_cars(road, placed(seed, Kind.DRIFT, road.line[0]))
    )
    parked = (car for car in landscape.cars if _stays(seed, car))
    return replace(
        landscape,
        patches=tuple(_weathered(seed, patch) for patch in landscape.patches),
        trees=tuple(_turned(seed, tree) for tree in landscape.trees),
        cars=(*parked, *driving),
    )


def _stays(seed: int, car: Car) -> bool:
    return bool(placed(seed, Kind.DRIFT, car.centre).uniform() < PARKED)


def _turned(seed: int, tree: Tree) -> Tree:
    turned = placed(seed, Kind.DRIFT, tree.centre).uniform() < TURNED.get(tree.material, 0.0)
    return replace(tree, material="autumn leaves") if turned else tree


def _weathered(seed: int, patch: Patch) -> Patch:
    cover = MATERIALS[NUMBERS[patch.material]].class_id
    factor = varied(placed(seed, Kind.DRIFT, patch.outline[0]), MOWN) if cover == GRASS else 1.0
    return replace(patch, tint=patch.tint * (WETNESS if cover == BARE else factor))
