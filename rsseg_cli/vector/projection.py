"""Polygons brought from one coordinate system to another, and rings turned the way that formats want."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyproj
from numpy.typing import NDArray
from rasterio.crs import CRS

from rsseg_cli.errors import RssegError
from rsseg_cli.raster.grid import transformer
from rsseg_cli.vector.polygons import Outlines

Floats = NDArray[np.float64]


def project(polygons: Outlines, source: CRS, target: CRS) -> Outlines:
    """The same point always lands on the same place, so that neighbours stay neighbours; points are not added."""
    xy = _moved(polygons.xy, source, target)
    if not np.isfinite(xy).all():
        raise RssegError(
            f"some of the polygons lie where {crs_name(target)} has no coordinates",
            "name a CRS that covers the whole map, or leave it out to keep the map's own",
        )
    if target.is_geographic and _is_torn(polygons, xy, source, target):
        raise RssegError(
            f"some of the polygons reach over 180 degrees of longitude: {crs_name(target)} would draw them around"
            " the Earth",
            "write them in the map's own CRS, as GeoPackage, FlatGeobuf or GeoParquet",
        )
    return oriented(replace(polygons, xy=xy))


def oriented(polygons: Outlines) -> Outlines:
    """Shells anticlockwise and holes clockwise."""
    wanted = np.full(len(polygons.rings) - 1, -1)
    wanted[polygons.polygons[:-1]] = 1
    is_wrong = _swept(polygons) * wanted < 0
    if not is_wrong.any():
        return polygons
    sizes, at = np.diff(polygons.rings), np.arange(len(polygons.xy))
    mirrored = np.repeat(polygons.rings[:-1] + polygons.rings[1:] - 1, sizes) - at
    return replace(polygons, xy=polygons.xy[np.where(np.repeat(is_wrong, sizes), mirrored, at)])


def crs_name(crs: CRS) -> str:
    """`EPSG:4326`; the name that a CRS without a number gives itself."""
    return crs.to_string() if crs.to_authority() else pyproj.CRS(crs.to_wkt()).name


def _moved(xy: Floats, source: CRS, target: CRS) -> Floats:
    try:
        return np.stack(transformer(source, target).transform(xy[:, 0], xy[:, 1]), axis=1)
    except pyproj.exceptions.ProjError as problem:
        raise RssegError(
            f"there is no way from {crs_name(source)} to {crs_name(target)}: {problem}",
            "keep the map's own CRS, and write a GeoPackage, FlatGeobuf or GeoParquet",
        ) from problem


def _swept(polygons: Outlines) -> Floats:
    """Twice the area of each ring, negative if it runs clockwise."""
    first = polygons.xy[polygons.rings[:-1]]
    # From the ring's first point: far from zero, rounding would eat small areas.
    x, y = (polygons.xy - np.repeat(first, np.diff(polygons.rings), axis=0)).T
    swept = np.zeros(len(x))
    swept[:-1] = x[:-1] * y[1:] - x[1:] * y[:-1]
    swept[polygons.rings[1:] - 1] = 0  # from the end of a ring to the next ring
    return np.asarray(np.add.reduceat(swept, polygons.rings[:-1]))


def _is_torn(polygons: Outlines, xy: Floats, source: CRS, target: CRS) -> bool:
    """Whether a step leads half around the Earth whose middle lies on the other side of it."""
    x = xy[:, 0]
    wide = np.setdiff1d(np.flatnonzero(np.abs(np.diff(x)) > 180), polygons.rings[1:] - 1)
    if not len(wide):
        return False
    middle: Any = _moved((polygons.xy[wide] + polygons.xy[wide + 1]) / 2, source, target)[:, 0]
    return bool((np.abs(middle - (x[wide] + x[wide + 1]) / 2) > 90).any())
