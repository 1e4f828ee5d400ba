"""What the parts of a town write into while they are laid out."""

import math
from dataclasses import dataclass, field

import numpy as np

from rsseg_cli.samples.landscape import Building, Car, Line, Patch, Point, Road, Tree, as_line
from rsseg_cli.samples.lattice import Lattice
from rsseg_cli.samples.streams import Kind, stream
from rsseg_cli.samples.styles import Style, Weights


@dataclass
class Sketch:
    """Elements collected so far, per kind."""

    patches: list[Patch] = field(default_factory=list)
    waters: list[Patch] = field(default_factory=list)
    roads: list[Road] = field(default_factory=list)
    sealed: list[Patch] = field(default_factory=list)
    buildings: list[Building] = field(default_factory=list)
    trees: list[Tree] = field(default_factory=list)
    cars: list[Car] = field(default_factory=list)


@dataclass(frozen=True)
class Block:
    """The ground between four lines, in block coordinates."""

    column: int
    """Number of the line at its left."""
    row: int
    """Number of the line below it."""
    u0: float
    """Left end of the plots."""
    u1: float
    """Right end of the plots."""
    v0: float
    """Lower end of the plots."""
    v1: float
    """Upper end of the plots."""
    below: str
    """Kind of the line below."""
    above: str
    """Kind of the line above."""


@dataclass(frozen=True)
class Site:
    """A block that is being laid out."""

    block: Block
    """The ground."""
    lattice: Lattice
    """The street net around it."""
    sketch: Sketch
    """Where elements are written."""

    @property
    def style(self) -> Style:
        """Return the habits of the town."""
        return self.lattice.style

    @property
    def lean(self) -> float:
        """Return how far the side lines lean here, metres per metre."""
        block = self.block
        return self.lattice.lean((block.u0 + block.u1) / 2, (block.v0 + block.v1) / 2)

    def stream(self, kind: Kind, part: int = 0) -> np.random.Generator:
        """Return the stream of one kind of element in this block or in a numbered part of it."""
        return stream(self.lattice.seed, kind, self.block.column, self.block.row, part)

    def ground(self, material: str, area: tuple[float, float, float, float], tint: float = 1.0) -> None:
        """Cover a rectangle (u0, u1, v0, v1) softly."""
        self.sketch.patches.append(Patch(self.lattice.quad(*area), material, tint))

    def seal(self, material: str, area: tuple[float, float, float, float], tint: float = 1.0) -> None:
        """Cover a rectangle (u0, u1, v0, v1) with a sharp-edged surface."""
        self.sketch.sealed.append(Patch(self.lattice.quad(*area), material, tint))

    def tree(self, place: Point, radius_m: float, material: str, rng: np.random.Generator) -> None:
        """Plant a tree at block coordinates."""
        plant(self.sketch, self.lattice.point(*place), radius_m, material, rng)

    def hedge(self, start: Point, end: Point, rng: np.random.Generator) -> None:
        """Plant a hedge between two places."""
        length_m = math.dist(start, end)
        for share in np.arange(0.4, length_m, 0.75) / max(length_m, 0.1):
            place = (start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1]))
            if rng.uniform() > 0.04:
                self.tree(place, float(rng.uniform(0.65, 1.0)), "hedge", rng)


def plant(sketch: Sketch, centre: Point, radius_m: float, material: str, rng: np.random.Generator) -> None:
    """Add a crown of natural height at a ground point."""
    slender = 3.2 if material == "needles" else 2.1
    height_m = round(float(radius_m * slender * rng.uniform(0.85, 1.2) + 0.4), 2)
    sketch.trees.append(Tree(centre, round(radius_m, 2), height_m, material, varied(rng, 0.2)))


def choice(rng: np.random.Generator, weights: Weights) -> str:
    """Draw a name by weight."""
    names = [name for name, _ in weights]
    shares = np.array([weight for _, weight in weights])
    return names[int(rng.choice(len(names), p=shares / shares.sum()))]


def varied(rng: np.random.Generator, deviation: float) -> float:
    """Draw a factor around one."""
    return round(float(np.exp(np.clip(rng.normal(0, deviation), -2.5 * deviation, 2.5 * deviation))), 3)


def blob(centre: Point, radius_m: float, rng: np.random.Generator, roughness: float = 0.22) -> Line:
    """Return a rounded irregular outline."""
    turn = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    order = np.arange(1, 6)[:, None]
    phase = rng.uniform(0, 2 * math.pi, (5, 1))
    size = rng.normal(0, roughness, (5, 1)) / order
    radius = radius_m * np.exp((size * np.sin(order * turn + phase)).sum(axis=0))
    stretch, lean = rng.uniform(0.7, 1.0), rng.uniform(0, math.pi)
    x, y = radius * np.cos(turn), radius * np.sin(turn) * stretch
    return as_line(
        centre[0] + math.cos(lean) * x - math.sin(lean) * y, centre[1] + math.sin(lean) * x + math.cos(lean) * y
    )
