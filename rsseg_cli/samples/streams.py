"""Independent random streams, one per kind of element and place."""

from enum import IntEnum

import numpy as np


class Kind(IntEnum):
    """What a stream draws; a number is never reused, so new kinds leave old drawings as they are."""

    WARP = 1
    LINES = 2
    EDGES = 3
    USES = 4
    PLOTS = 5
    HOUSES = 6
    TREES = 7
    STREET_TREES = 8
    CARS = 9
    RIVER = 10
    BANK_TREES = 11
    GROUND = 12
    TEXTURE = 14
    SENSOR = 15
    STREET_CARS = 16
    BORDERS = 17
    ZONES = 18
    WORKS = 19
    DRIFT = 20
    SEASON = 21
    CLOUDS = 22


def stream(seed: int, kind: Kind, *place: int) -> np.random.Generator:
    """Return the stream of one kind of element at one place (places may be negative)."""
    keys = [2 * number if number >= 0 else -2 * number - 1 for number in place]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, int(kind), *keys])))


def placed(seed: int, kind: Kind, point: tuple[float, float], *time: int) -> np.random.Generator:
    """Return the stream of what stands at a ground point, known to the millimetre, always or at one time."""
    return stream(seed, kind, *(round(1000 * metres) for metres in point), *time)
