"""Rivers that wind along a line of the street net."""

import math

import numpy as np
from numpy.typing import NDArray

from rsseg_cli.samples.landscape import Line, Patch
from rsseg_cli.samples.lattice import Lattice
from rsseg_cli.samples.sketch import Sketch, choice, plant, varied
from rsseg_cli.samples.streams import Kind, stream

Array = NDArray[np.float64]


def river(lattice: Lattice, row: int, reach: tuple[float, float], sketch: Sketch) -> None:
    """Add a river between two places of its line, with banks and the trees along it."""
    rng, style = stream(lattice.seed, Kind.RIVER, row), lattice.style
    phase = rng.uniform(0, 2 * math.pi, 4)
    u = np.arange(reach[0], reach[1], 3.0)
    corridor_m = lattice.half_width_m("river")
    area = (*reach, lattice.row_v(row) - corridor_m, lattice.row_v(row) + corridor_m)
    sketch.patches.append(Patch(lattice.quad(*area), "meadow", 0.95))
    for extra_m, material in ((2.0, "weeds"), (0.6, choice(rng, (("soil", 0.6), ("weeds", 0.25), ("sand", 0.15))))):
        sketch.patches.append(Patch(_outline(lattice, row, u, phase, extra_m), material, varied(rng, 0.05)))
    sketch.waters.append(Patch(_outline(lattice, row, u, phase, 0.0), style.water, varied(rng, 0.18)))
    for column in range(math.floor(reach[0] / style.block_m[0]), math.ceil(reach[1] / style.block_m[0])):
        _bank_trees(lattice, row, column, phase, sketch)


def _course(lattice: Lattice, row: int, u: Array, phase: Array) -> tuple[Array, Array]:
    """Return the middle and the half width of the river."""
    style = lattice.style
    swing = 0.7 * np.sin(u / 19 + phase[0]) + 0.3 * np.sin(u / 8 + phase[1])
    width = 1 + 0.14 * np.sin(u / 11 + phase[2]) + 0.1 * np.sin(u / 5 + phase[3])
    return lattice.row_v(row) + style.meander_m * swing, style.river_m / 2 * width


def _outline(lattice: Lattice, row: int, u: Array, phase: Array, extra_m: float) -> Line:
    middle, half_m = _course(lattice, row, u, phase)
    sides = [middle - half_m - extra_m, (middle + half_m + extra_m)[::-1]]
    return lattice.path(np.concatenate([u, u[::-1]]), np.concatenate(sides))


def _bank_trees(lattice: Lattice, row: int, column: int, phase: Array, sketch: Sketch) -> None:
    rng, pitch = stream(lattice.seed, Kind.BANK_TREES, row, column), lattice.style.block_m[0]
    u = np.linspace(column * pitch, (column + 1) * pitch, 21)[:-1]
    for place, middle, half_m in zip(u, *_course(lattice, row, u, phase), strict=True):
        for side in (-1.0, 1.0):
            size_m = float(rng.uniform(1.2, 3.3))
            v = middle + side * (half_m + size_m * 0.5 + float(rng.uniform(0.2, 2.5)))
            if rng.uniform() < 0.3:
                plant(sketch, lattice.point(float(place), float(v)), size_m, choice(rng, lattice.style.foliage), rng)
