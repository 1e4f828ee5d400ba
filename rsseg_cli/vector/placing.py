"""Polygons that a person brings, placed on a raster's grid, in its coordinate system."""

from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import transform_bounds

from rsseg_cli.errors import RssegError
from rsseg_cli.raster.grid import Grid, apply, to_lonlat

if TYPE_CHECKING:
    import geopandas


def in_pixels(text: str, frame: "geopandas.GeoDataFrame", grid: Grid, raster: str = "the raster") -> NDArray[Any]:
    """The geometries in (column, row) of the raster's grid."""
    a, b, c, d, e, f = (~grid.transform)[:6]
    outlines = on_map(text, frame, grid, raster)
    moved = shapely.transform(outlines, lambda xy: np.column_stack([xy @ (a, b) + c, xy @ (d, e) + f]))
    if shapely.is_empty(shapely.clip_by_rect(moved, 0, 0, grid.width, grid.height)).all():
        raise lie_elsewhere(text, frame, grid, raster)
    return np.asarray(moved)


def on_map(text: str, frame: "geopandas.GeoDataFrame", grid: Grid, raster: str) -> NDArray[Any]:
    """The geometries in the raster's coordinate system; as they are if it is theirs."""
    if (frame.crs is None) != (grid.crs is None):
        raise RssegError(
            f"{text}: {'has a' if grid.crs is None else 'has no'} coordinate system, unlike {raster}",
            "give the other one its own: gdal_edit.py -a_srs EPSG:32633 RASTER, or "
            "ogr2ogr -a_srs EPSG:32633 placed.gpkg POLYGONS",
            file=text,
        )
    if grid.crs is not None and frame.crs != grid.crs:
        frame = _near(frame, grid).to_crs(grid.crs.to_wkt())
    return np.asarray(frame.geometry.to_numpy())


def lie_elsewhere(text: str, frame: "geopandas.GeoDataFrame", grid: Grid, raster: str) -> RssegError:
    """What to say where no polygon touches the raster."""
    return RssegError(
        f"{text}: none of its {len(frame)} polygons touches {raster}",
        f"{_places(frame, grid)}; check with `rsseg info` that both have the right coordinate system",
        file=text,
    )


def _places(frame: "geopandas.GeoDataFrame", grid: Grid) -> str:
    """Where polygons and raster lie, in words."""
    west, south, east, north = frame.total_bounds
    middle = (np.array([west + east]) / 2, np.array([south + north]) / 2)
    centre = apply(grid.transform, np.array([grid.width / 2]), np.array([grid.height / 2]))
    unit = "x, y"
    if grid.crs is not None:
        middle = to_lonlat(CRS.from_wkt(frame.crs.to_wkt())).transform(*middle)
        centre, unit = to_lonlat(grid.crs).transform(*centre), "longitude, latitude"
    polygons, raster = (f"{x[0]:.6g}, {y[0]:.6g}" for x, y in (middle, centre))
    return f"the polygons lie around {polygons}, the raster around {raster} ({unit})"


def _near(frame: "geopandas.GeoDataFrame", grid: Grid) -> "geopandas.GeoDataFrame":
    """Polygons cut to the raster's surroundings, long edges subdivided: a straight line there is none here."""
    west, south, east, north = transform_bounds(grid.crs, frame.crs.to_wkt(), *grid.bounds, densify_pts=21)
    if not np.isfinite([west, south, east, north]).all() or west > east:
        return frame  # the raster reaches around the Earth
    reach = max(east - west, north - south)
    around = shapely.box(west - reach, south - reach, east + reach, north + reach)
    outlines = frame.geometry.to_numpy().copy()
    large = ~shapely.covers(around, outlines)
    outlines[large] = shapely.intersection(shapely.make_valid(outlines[large]), around)
    return frame.set_geometry(shapely.segmentize(outlines, reach / 50), crs=frame.crs)
