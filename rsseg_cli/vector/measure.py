"""How large polygons are, and how long their outlines.

Both are sums over arcs, each measured once for the two regions beside it, and follow lines that were moved as well.
What is no coverage any more is measured ring by ring.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyproj
from affine import Affine
from numpy.typing import NDArray

from rsseg_cli.raster.grid import Grid, apply
from rsseg_cli.vector.coverage import Coverage, Lines
from rsseg_cli.vector.polygons import Outlines

Floats = NDArray[np.float64]
Steps = tuple[Floats, Floats]  # x and y of points, from each of which a straight step leads to the next

# Points measured together: few enough for little memory.
SLICE_POINTS = 1 << 18


@dataclass(frozen=True)
class Sizes:
    """Of regions, in their order."""

    areas: Floats  # without holes
    perimeters: Floats  # of shells and holes
    unit: Literal["m", "px"]  # areas are in its square


def measure(coverage: Coverage) -> Sizes:
    """Areas and perimeters on the ground.

    Where a projected CRS is true to scale within a percent, such as UTM, they are planar: what a GIS computes from the
    coordinates, times the CRS's unit in metres. Elsewhere, such as in Web Mercator, each row of pixels has the size
    that it has on the ellipsoid (`Grid.row_areas`). In a geographic CRS a step is what it is on the ellipsoid: a piece
    of a parallel, of a meridian, or straight in longitude and latitude between. Without a CRS, pixels count.
    """
    areas, lengths = _of_arcs(coverage.lines, _ruler(coverage.grid))
    sides = coverage.rings.sides
    begins = coverage.rings.offsets[coverage.parts[:-1]]
    swept = np.where(sides & 1, -areas[sides >> 1], areas[sides >> 1])
    return Sizes(
        np.abs(np.add.reduceat(swept, begins)),
        np.add.reduceat(lengths[sides >> 1], begins),
        _unit(coverage.grid),
    )


def measure_polygons(polygons: Outlines, grid: Grid) -> Sizes:
    """The same of polygons in the grid's CRS that are no coverage, with shells and holes wound opposite ways."""
    x, y = apply(~grid.transform, *polygons.xy.T)
    areas, lengths = _of_arcs(Lines(x, y, polygons.rings), _ruler(grid))
    shells = polygons.polygons[:-1]
    return Sizes(np.abs(np.add.reduceat(areas, shells)), np.add.reduceat(lengths, shells), _unit(grid))


def _unit(grid: Grid) -> Literal["m", "px"]:
    return "px" if grid.crs is None else "m"


def _of_arcs(lines: Lines, ruler: Callable[[Floats, Floats], Steps]) -> Steps:
    """(area swept, length) of each arc."""
    arcs = np.unique(np.searchsorted(lines.offsets, np.arange(0, len(lines.x) + SLICE_POINTS, SLICE_POINTS)))
    measured = np.zeros((2, len(lines.offsets) - 1))
    for first, last in zip(arcs[:-1], arcs[1:].clip(max=len(lines.offsets) - 1), strict=True):
        offsets = lines.offsets[first : last + 1]
        points = slice(offsets[0], offsets[-1])
        steps = np.zeros((2, offsets[-1] - offsets[0]))
        steps[:, :-1] = ruler(lines.x[points].astype(np.float64), lines.y[points].astype(np.float64))
        steps[:, offsets[1:] - offsets[0] - 1] = 0  # from the end of an arc to the next arc
        measured[:, first:last] = np.add.reduceat(steps, offsets[:-1] - offsets[0], axis=1)
    return measured[0], measured[1]


def _ruler(grid: Grid) -> Callable[[Floats, Floats], Steps]:
    """What measures (area swept, length) of steps between points in pixels."""
    if grid.crs is None:
        return _Plane(Affine.identity(), 1.0).steps
    crs = pyproj.CRS(grid.crs.to_wkt())
    factor = crs.axis_info[0].unit_conversion_factor  # to metres or to radians
    if not crs.is_geographic:
        plane, areas = _Plane(grid.transform, factor), grid.row_areas()
        is_true = np.allclose(areas, abs(grid.transform.determinant) * factor**2, rtol=1e-12)
        return plane.steps if is_true else _Rows(plane, areas).steps
    geod: Any = crs.get_geod()
    return _Ellipsoid(Affine.scale(factor) @ grid.transform, geod.a, geod.es).steps


@dataclass(frozen=True)
class _Plane:
    transform: Affine
    unit_m: float

    def steps(self, x: Floats, y: Floats) -> Steps:
        # Swept in pixels, where sums of whole numbers are exact.
        dx, dy = np.diff(x), np.diff(y)
        a, b, _, d, e, _ = self.transform[:6]
        areas = (y[:-1] + dy / 2) * dx * (self.transform.determinant * self.unit_m**2)
        return areas, np.hypot(a * dx + b * dy, d * dx + e * dy) * self.unit_m


@dataclass(frozen=True, eq=False)
class _Rows:
    """A plane on which every row of pixels has a scale of its own."""

    plane: _Plane
    areas: Floats  # of the pixels of each row, in square metres

    def steps(self, x: Floats, y: Floats) -> Steps:
        below, row = np.concatenate([[0.0], np.cumsum(self.areas)]), np.arange(len(self.areas) + 1)
        middle = (y[:-1] + y[1:]) / 2
        first, between, last = (np.interp(at, row, below) for at in (y[:-1], middle, y[1:]))
        _, lengths = self.plane.steps(x, y)
        scale = np.interp(middle, row[:-1] + 0.5, np.sqrt(self.areas))
        nominal = np.sqrt(abs(self.plane.transform.determinant)) * self.plane.unit_m
        return (first + 4 * between + last) / 6 * np.diff(x), lengths * scale / nominal  # Simpson's rule


@dataclass(frozen=True)
class _Ellipsoid:
    transform: Affine  # to radians
    a_m: float
    es: float  # eccentricity squared

    def steps(self, x: Floats, y: Floats) -> Steps:
        _, lat = apply(self.transform, x, y)
        lat = lat.clip(-np.pi / 2, np.pi / 2)  # some rasters reach half a pixel beyond the poles
        middle = (lat[:-1] + lat[1:]) / 2
        # From steps in pixels: of differences between longitudes, rounding would leave too little.
        dlon = self.transform.a * np.diff(x) + self.transform.b * np.diff(y)
        below = self._area_below(lat)
        swept = (below[:-1] + 4 * self._area_below(middle) + below[1:]) / 6  # Simpson's rule
        return swept * dlon, np.hypot(self._parallel(middle) * dlon, np.diff(self._meridian(lat)))

    def _area_below(self, lat: Floats) -> Floats:
        """From the equator, for each radian of longitude."""
        sine, e = np.sin(lat), np.sqrt(self.es)
        curved = np.arctanh(e * sine) / e if e else sine
        return np.asarray(self.a_m**2 * (1 - self.es) / 2 * (sine / (1 - self.es * sine**2) + curved))

    def _parallel(self, lat: Floats) -> Floats:
        """Its length for each radian of longitude."""
        return np.asarray(self.a_m * np.cos(lat) / np.sqrt(1 - self.es * np.sin(lat) ** 2))

    def _meridian(self, lat: Floats) -> Floats:
        """From the equator."""
        from scipy.special import ellipeinc

        bend = self.es * np.sin(lat) * np.cos(lat) / np.sqrt(1 - self.es * np.sin(lat) ** 2)
        return np.asarray(self.a_m * (ellipeinc(lat, self.es) - bend))
