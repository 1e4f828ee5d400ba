"""The same ground on many days of a year: leaves come and go, crops ripen, soil dries, water clears, cars drive on."""

from dataclasses import dataclass, replace

import numpy as np

from rsseg_cli.samples.classes import BARE, GRASS, WATER
from rsseg_cli.samples.landscape import Car, Landscape, Patch, Tree
from rsseg_cli.samples.materials import MATERIALS, NUMBERS
from rsseg_cli.samples.sketch import varied
from rsseg_cli.samples.streams import Kind, placed
from rsseg_cli.samples.town import street_cars

DECIDUOUS = ("leaves", "light leaves", "autumn leaves")
PARKED = 0.4
"""Share of the cars of the plan that stand there on a day."""
MOWN, MURK = 0.1, 0.15
"""Deviation of the brightness of green ground and of water from day to day."""


@dataclass(frozen=True)
class Growth:
    """How far plants are on a day, as shares of them; and how bright soil is."""

    leaves: tuple[float, float, float, float]
    """Deciduous trees that are bare, in fresh leaf, in full leaf, in autumn colours."""
    crops: tuple[float, float, float]
    """Fields of crops that are young, green, ripe."""
    soil: float
    """Brightness of bare ground against dry ground."""


def grown(landscape: Landscape, growth: Growth, day: int) -> Landscape:
    """Return the landscape as it looks on a numbered day; no surface changes its class."""
    seed = landscape.seed
    driving = (
        car
        for road in landscape.roads
        if road.kind in ("main", "street")
        for car in street_cars(road, placed(seed, Kind.SEASON, road.line[0], day))
    )
    parked = (car for car in landscape.cars if _stands(seed, car, day))
    return replace(
        landscape,
        patches=tuple(_patch(seed, patch, growth, day) for patch in landscape.patches),
        waters=tuple(_patch(seed, water, growth, day) for water in landscape.waters),
        trees=tuple(_tree(seed, tree, growth) for tree in landscape.trees),
        cars=(*parked, *driving),
    )


def _stands(seed: int, car: Car, day: int) -> bool:
    return bool(placed(seed, Kind.SEASON, car.centre, day).uniform() < PARKED)


def _tree(seed: int, tree: Tree, growth: Growth) -> Tree:
    """An early tree is early every time: what it draws has nothing to do with the day."""
    if tree.material not in DECIDUOUS:
        return tree
    own = "leaves" if tree.material == "autumn leaves" else tree.material
    stages = ("bare crowns", "light leaves", own, "autumn leaves")
    return replace(tree, material=_stage(seed, tree.centre, stages, growth.leaves))


def _patch(seed: int, patch: Patch, growth: Growth, day: int) -> Patch:
    cover = MATERIALS[NUMBERS[patch.material]].class_id
    if patch.material == "crop":
        stages = ("young crop", "crop", "ripe crop")
        patch = replace(patch, material=_stage(seed, patch.outline[0], stages, growth.crops))
    deviation = {GRASS: MOWN, WATER: MURK}.get(cover, 0.0)
    factor = growth.soil if cover == BARE else 1.0
    return replace(
        patch, tint=patch.tint * factor * varied(placed(seed, Kind.SEASON, patch.outline[0], day), deviation)
    )


def _stage(seed: int, point: tuple[float, float], stages: tuple[str, ...], shares: tuple[float, ...]) -> str:
    drawn = placed(seed, Kind.SEASON, point).uniform() * sum(shares)
    return stages[min(int(np.searchsorted(np.cumsum(shares), drawn, side="right")), len(stages) - 1)]
