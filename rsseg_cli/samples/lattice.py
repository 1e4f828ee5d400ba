"""The bent street net: block coordinates (u, v) and the way from them to the ground."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsseg_cli.samples.landscape import Line, as_line
from rsseg_cli.samples.streams import Kind, stream
from rsseg_cli.samples.styles import Style

Array = NDArray[np.float64]

HALF_WIDTHS_M = {"main": 5.5, "street": 3.6, "track": 1.9, "none": 0.0}
"""From the middle of a line to the first plot, by kind of line."""
POINT_SPACING_M = 3.0
TOWN_BLOCKS = 4
"""Blocks on each side of the middle that are always town."""


@dataclass(frozen=True)
class Lattice:
    """Lines that never end: the same seed gives the same town at any extent."""

    seed: int
    """Seed of lines, bends and kinds."""
    style: Style
    """Habits of the town."""
    shift: tuple[float, float] = (0.0, 0.0)
    """Block coordinates of the ground point (0, 0)."""

    @cached_property
    def _waves(self) -> NDArray[np.float64]:
        rng = stream(self.seed, Kind.WARP)
        lengths_m = np.array([340.0, 210.0, 130.0])
        directions = rng.uniform(0, 2 * math.pi, (2, 3))
        phases = rng.uniform(0, 2 * math.pi, (2, 3))
        share = lengths_m / lengths_m.sum() * self.style.warp_m
        number = 2 * math.pi / lengths_m
        return np.stack([number * np.cos(directions), number * np.sin(directions), phases, np.tile(share, (2, 1))])

    def world(self, u: Any, v: Any) -> tuple[Array, Array]:
        """Return ground coordinates of block coordinates."""
        u = np.asarray(u, dtype=np.float64) - self.shift[0]
        v = np.asarray(v, dtype=np.float64) - self.shift[1]
        along, across, phase, share = (part[..., None] for part in self._waves)
        bent = (share * np.sin(along * u.ravel() + across * v.ravel() + phase)).sum(axis=1)
        east, north = u.ravel() + bent[0], v.ravel() + bent[1]
        cosine, sine = math.cos(self.style.turn), math.sin(self.style.turn)
        return (cosine * east - sine * north).reshape(u.shape), (sine * east + cosine * north).reshape(u.shape)

    def point(self, u: float, v: float) -> tuple[float, float]:
        """Return the ground coordinates of one place."""
        x, y = self.world(u, v)
        return round(float(x), 3), round(float(y), 3)

    def angle(self, u: float, v: float) -> float:
        """Return the ground direction of the u axis at a place, radians from east."""
        x, y = self.world([u - 1, u + 1], [v, v])
        return math.atan2(float(y[1] - y[0]), float(x[1] - x[0]))

    def lean(self, u: float, v: float) -> float:
        """Return how far a crossing line leans from the perpendicular at a place, metres per metre."""
        x, y = self.world([u, u], [v - 1, v + 1])
        crossing = math.atan2(float(y[1] - y[0]), float(x[1] - x[0]))
        return abs(math.tan(crossing - self.angle(u, v) - math.pi / 2))

    def path(self, u: Any, v: Any) -> Line:
        """Return a ground line through places."""
        return as_line(*self.world(u, v))

    def quad(self, u0: float, u1: float, v0: float, v1: float) -> Line:
        """Return the ground outline of a rectangle of block coordinates."""
        us = np.linspace(u0, u1, max(2, math.ceil(abs(u1 - u0) / POINT_SPACING_M)))
        vs = np.linspace(v0, v1, max(2, math.ceil(abs(v1 - v0) / POINT_SPACING_M)))
        u = np.concatenate([us, np.full(vs.size, u1), us[::-1], np.full(vs.size, u0)])
        v = np.concatenate([np.full(us.size, v0), vs, np.full(us.size, v1), vs[::-1]])
        return self.path(u, v)

    def row_v(self, row: int) -> float:
        """Return where a long line runs."""
        pitch = self.style.block_m[1]
        return row * pitch + float(stream(self.seed, Kind.LINES, 0, row).uniform(-0.1, 0.1)) * pitch

    def column_u(self, column: int, row: int) -> float:
        """Return where the side line at the left of a block runs; main roads run straight through."""
        pitch = self.style.block_m[0]
        place = column * pitch + float(stream(self.seed, Kind.LINES, 1, column).uniform(-0.06, 0.06)) * pitch
        if self.column_kind(column, row) == "main":
            return place
        stagger = float(stream(self.seed, Kind.LINES, 2, column, row).uniform(-0.5, 0.5))
        return place + stagger * self.style.stagger_m

    def row_kind(self, row: int) -> str:
        """Return what runs along a long line."""
        place = row % self.style.river_rows
        if place == 0:
            # The middle has its river; elsewhere three in four of the possible ones are streets.
            river = row == 0 or stream(self.seed, Kind.RIVER, row, 1).uniform() < 0.25
            return "river" if river else "street"
        return "main" if place == self.style.river_rows // 2 else "street"

    def column_kind(self, column: int, row: int) -> str:
        """Return what runs along a side line beside one row of blocks."""
        if column % 3 == 0:
            return "main"
        chance = float(stream(self.seed, Kind.EDGES, column, row).uniform())
        if self.countryside(column, row) and self.countryside(column - 1, row):
            return "track" if chance < 0.3 else "none"
        return "street" if chance < 0.55 else "track" if chance < 0.75 else "none"

    def countryside(self, column: int, row: int) -> bool:
        """Return whether a block lies between towns; the middle is always town."""
        phase = stream(self.seed, Kind.ZONES).uniform(0, 2 * math.pi, 3)
        waves = math.sin(0.8 * column + phase[0]) + math.sin(0.75 * row + phase[1])
        return waves + math.sin(0.45 * (column - row) + phase[2]) > 0.55 and max(abs(column), abs(row)) > TOWN_BLOCKS

    def half_width_m(self, kind: str) -> float:
        """Return the distance from a line to the plots beside it."""
        if kind == "river":
            return self.style.river_m / 2 + self.style.meander_m + 3.0
        return HALF_WIDTHS_M[kind]
