"""A landscape as data: what stands where, before any light or sensor."""

from dataclasses import dataclass

from numpy import float64
from numpy.typing import NDArray

Point = tuple[float, float]
Line = tuple[Point, ...]


def as_line(x: NDArray[float64], y: NDArray[float64]) -> Line:
    """Return the points as plain numbers, rounded to a millimetre."""
    return tuple((round(float(east), 3), round(float(north), 3)) for east, north in zip(x, y, strict=True))


@dataclass(frozen=True)
class Patch:
    """An area of one ground cover."""

    outline: Line
    """Corners in metres."""
    material: str
    """Name of the cover."""
    tint: float = 1.0
    """Brightness against the material's own."""
    row_spacing_m: float = 0.0
    """Distance of crop rows or mowing stripes; 0 for none."""
    row_angle: float = 0.0
    """Direction of the rows, radians from east."""
    row_depth: float = 0.0
    """Relative brightness swing of the rows."""


@dataclass(frozen=True)
class Road:
    """A carriageway or a path along a line."""

    line: Line
    """Centre line in metres."""
    width_m: float
    """Width of the carriageway."""
    kind: str
    """"main", "street" or "track"."""
    material: str
    """Name of the surface."""
    verge_m: float = 0.0
    """Width of the pavement on each side."""
    tint: float = 1.0
    """Brightness against the material's own."""


@dataclass(frozen=True)
class Building:
    """A roof over a rectangle."""

    centre: Point
    """Middle of the rectangle in metres."""
    length_m: float
    """Size along the ridge."""
    width_m: float
    """Size across the ridge."""
    angle: float
    """Direction of the ridge, radians from east."""
    eaves_m: float
    """Height of the walls."""
    rise_m: float
    """Height of the ridge above the walls; 0 for a flat roof."""
    shape: str
    """"gable", "hip" or "flat"."""
    material: str
    """Name of the roofing."""
    tint: float = 1.0
    """Brightness against the material's own."""
    fittings: tuple[Point, ...] = ()
    """Chimneys or plant on the roof, as shares of length and width from the centre."""


@dataclass(frozen=True)
class Tree:
    """A crown; hedges are rows of small ones."""

    centre: Point
    """Stem position in metres."""
    radius_m: float
    """Crown radius."""
    height_m: float
    """Height of the top."""
    material: str
    """Name of the foliage."""
    tint: float = 1.0
    """Brightness against the material's own."""


@dataclass(frozen=True)
class Car:
    """A parked or moving car."""

    centre: Point
    """Middle in metres."""
    angle: float
    """Direction, radians from east."""
    material: str
    """Name of the paint."""


@dataclass(frozen=True)
class Landscape:
    """All elements of a piece of ground around the point (0, 0), in drawing order per kind."""

    seed: int
    """Seed of the elements and of their texture."""
    ground: str
    """Cover between all other elements."""
    side_m: float
    """Side of the square that the elements fill."""
    patches: tuple[Patch, ...]
    """Soft ground: gardens, fields, banks."""
    waters: tuple[Patch, ...]
    """Rivers and ponds."""
    roads: tuple[Road, ...]
    """Carriageways and paths."""
    sealed: tuple[Patch, ...]
    """Drives, yards and car parks."""
    buildings: tuple[Building, ...]
    """Roofs."""
    trees: tuple[Tree, ...]
    """Crowns and hedges."""
    cars: tuple[Car, ...]
    """Cars on roads and car parks."""
