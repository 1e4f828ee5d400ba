"""Grid: a piece of the Earth cut into pixels. All affine arithmetic lives here."""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pyproj
from affine import Affine
from numpy.typing import NDArray
from pyproj.exceptions import ProjError
from rasterio.crs import CRS
from rasterio.io import DatasetReader
from rasterio.windows import Window

from rsseg_cli.errors import RssegError

# A projection whose ground scale is within this of the true one keeps its nominal pixel size
# (UTM: 0.5 m stays 0.5 m); beyond it the ellipsoid decides (Web Mercator at 60 degrees: half).
SCALE_TOLERANCE = 0.01
# Origins closer than this part of a pixel are the same lattice: files round their corners.
LATTICE_TOLERANCE_PX = 1e-4
# Sizes on the ground closer than this part are taken as equal: nothing is resampled.
SAME_GSD = 0.05
# Rows whose pixels are measured on the ellipsoid; between them areas are interpolated.
AREA_SAMPLES = 257


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a raster lie. Without a CRS, coordinates are pixels."""

    crs: CRS | None
    transform: Affine  # (column, row) of a pixel corner to (x, y)
    height: int
    width: int

    @classmethod
    def of(cls, dataset: DatasetReader) -> "Grid":
        return cls(dataset.crs, dataset.transform, dataset.height, dataset.width)

    @property
    def shape(self) -> tuple[int, int]:
        return self.height, self.width

    @property
    def window(self) -> Window:
        """All of it."""
        return Window(0, 0, self.width, self.height)

    @property
    def is_north_up(self) -> bool:
        t = self.transform
        return bool(t.b == t.d == 0 and t.a > 0 and t.e < 0)

    @property
    def pixel_size(self) -> tuple[float, float]:
        """Along a row and along a column, in units of the CRS; rotation and flips taken out."""
        t = self.transform
        return math.hypot(t.a, t.d), math.hypot(t.b, t.e)

    @property
    def corners(self) -> list[tuple[float, float]]:
        """(x, y) of the four outer corners, clockwise from the first pixel's."""
        w, h = self.width, self.height
        return [self.transform @ corner for corner in ((0, 0), (w, 0), (w, h), (0, h))]

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north of the corners; of a rotated grid too."""
        xs, ys = zip(*self.corners, strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    @property
    def gsd_m(self) -> float | None:
        """Size of a pixel on the ground in metres, at the centre; None without a CRS."""
        sides = self.pixel_m
        return None if sides is None else math.sqrt(sides[0] * sides[1])

    @property
    def pixel_m(self) -> tuple[float, float] | None:
        """`pixel_size` on the ground in metres, at the centre; None without a CRS."""
        if self.crs is None:
            return None
        measured = self._measured_m()
        if self.crs.is_geographic:
            return measured
        across, down = (size * self._unit_m for size in self.pixel_size)
        if measured is None or abs(math.sqrt(measured[0] * measured[1] / (across * down)) - 1) < SCALE_TOLERANCE:
            return across, down
        return measured

    @property
    def _unit_m(self) -> float:
        assert self.crs is not None
        if self.crs.is_projected:
            return float(self.crs.linear_units_factor[1])
        axes = pyproj.CRS.from_wkt(self.crs.to_wkt()).axis_info
        return float(axes[0].unit_conversion_factor) if axes else 1.0

    @property
    def is_on_earth(self) -> bool:
        """Whether the CRS says where; that of a building site has metres, and its origin anywhere."""
        return self.crs is not None and (self.crs.is_projected or self.crs.is_geographic)

    def _measured_m(self) -> tuple[float, float] | None:
        if not self.is_on_earth:
            return None
        row, col = self.height / 2, self.width / 2
        points = [self.transform @ p for p in ((col - 0.5, row), (col + 0.5, row), (col, row - 0.5), (col, row + 0.5))]
        xs, ys = zip(*points, strict=True)
        lon, lat = to_lonlat(self.crs).transform(xs, ys)
        if not np.isfinite([*lon, *lat]).all():
            return None  # the centre lies off the Earth's disc, as it can on geostationary grids
        _, _, (across, down) = pyproj.Geod(ellps="WGS84").inv(lon[::2], lat[::2], lon[1::2], lat[1::2])
        return float(across), float(down)

    def row_areas(self) -> NDArray[np.float64]:
        """What a pixel of each row covers, in m2 of true ground; in pixels without a CRS."""
        if self.crs is None:
            return np.ones(self.height)
        nominal = abs(self.transform.determinant)
        if not self.crs.is_geographic:
            across, down = self.pixel_size
            if math.isclose((self.gsd_m or 0) ** 2, across * down * self._unit_m**2):
                return np.full(self.height, nominal * self._unit_m**2)
        # Area changes slowly from row to row: a few rows are measured, the others lie between.
        rows = np.unique(np.linspace(0, self.height - 1, min(self.height, AREA_SAMPLES)).astype(int))
        return np.interp(np.arange(self.height), rows, [self._measured_area_m2(row) for row in rows])

    def _measured_area_m2(self, row: int) -> float:
        """A pixel in the middle of a row, on the ellipsoid."""
        col = self.width / 2
        corners = [self.transform @ p for p in ((col, row), (col + 1, row), (col + 1, row + 1), (col, row + 1))]
        xs, ys = zip(*corners, strict=True)
        area, _ = pyproj.Geod(ellps="WGS84").polygon_area_perimeter(*to_lonlat(self.crs).transform(xs, ys))
        return abs(area)

    def crop(self, window: Window) -> "Grid":
        """The grid of a window of this one."""
        shift = Affine.translation(window.col_off, window.row_off)
        return replace(self, transform=self.transform @ shift, height=window.height, width=window.width)

    def offset_of(self, other: "Grid") -> tuple[int, int] | None:
        """(row, column) of `other`'s first pixel here, if both are cut from one lattice; else None."""
        if self.crs != other.crs or not self._has_pixels_like(other):
            return None
        col, row = ~self.transform @ (other.transform.c, other.transform.f)
        if max(abs(col - round(col)), abs(row - round(row))) > LATTICE_TOLERANCE_PX:
            return None
        return round(row), round(col)

    def _has_pixels_like(self, other: "Grid") -> bool:
        # What counts is how far the lattices drift apart over the larger grid.
        reach = max(*self.shape, *other.shape)
        limit = LATTICE_TOLERANCE_PX * min(self.pixel_size) / reach
        pairs = zip(self.transform[:6], other.transform[:6], strict=True)
        a, b, _, d, e, _ = (abs(mine - theirs) <= limit for mine, theirs in pairs)
        return bool(a and b and d and e)

    def overlaps(self, other: "Grid") -> bool:
        """Whether the two share ground, judged by a mesh of points: edges may be curved, corners off the Earth."""
        return self._is_touched_by(other) or other._is_touched_by(self)

    def _is_touched_by(self, other: "Grid") -> bool:
        col, row = self.pixels_of(other, *_mesh(other))
        seen = np.isfinite(col) & np.isfinite(row)
        if not seen.any():
            return False
        col, row = col[seen], row[seen]
        return bool(col.max() > 0 and row.max() > 0 and col.min() < self.width and row.min() < self.height)

    def pixels_of(
        self, other: "Grid", col: NDArray[np.float64], row: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(column, row) here of points given as (column, row) of another grid; inf or NaN off the Earth."""
        x, y = apply(other.transform, col, row)
        if other.crs is not None and self.crs is not None and other.crs != self.crs:
            x, y = transformer(other.crs, self.crs).transform(x, y)
        return apply(~self.transform, x, y)


def _mesh(grid: Grid, points_a_side: int = 21) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(column, row) of points all over a grid, its corners among them."""
    t = np.linspace(0, 1, points_a_side)
    col, row = np.meshgrid(t * grid.width, t * grid.height)
    return col, row


def apply(
    transform: Affine, col: NDArray[np.float64], row: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The transform of whole arrays; `Affine` itself takes one point at a time."""
    a, b, c, d, e, f = transform[:6]
    with np.errstate(invalid="ignore"):  # infinity stands for points off the Earth
        return a * col + b * row + c, d * col + e * row + f


@lru_cache(maxsize=64)
def transformer(source: CRS, target: CRS) -> pyproj.Transformer:
    """From one CRS to another, x before y whatever the authority says."""
    try:
        return pyproj.Transformer.from_crs(source.to_wkt(), target.to_wkt(), always_xy=True)
    except ProjError as problem:
        names = " to ".join(pyproj.CRS(crs.to_wkt()).name for crs in (source, target))
        raise RssegError(
            f"no way leads from the coordinate system {names}",
            "if both are the same in truth, say so in the file: gdal_edit.py -a_srs EPSG:...; else warp it: gdalwarp",
        ) from problem


def to_lonlat(crs: CRS) -> pyproj.Transformer:
    return transformer(crs, CRS.from_epsg(4326))
