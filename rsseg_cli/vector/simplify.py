"""Fewer points in the lines of a coverage, at the price of small shapes along them."""

from dataclasses import replace
from math import log2, sqrt
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray

from rsseg_cli.vector.chains import offsets_of
from rsseg_cli.vector.coverage import Coverage, Lines
from rsseg_cli.vector.polygons import outline_batches


def simplified(coverage: Coverage, tolerance_m: float) -> Coverage:
    """The coverage without bends of less than about `tolerance_m` squared; pixels without a CRS.

    Borders stay shared, and no line touches another one that it did not touch before. GEOS sees to that; since it only
    leaves out points, lines are given those that it has left.
    """
    if not len(coverage):
        return coverage
    across, down = coverage.grid.pixel_m or (1.0, 1.0)
    # Pixels are taken as square, or as twice or four times as long as wide: then coordinates stay what they are, and
    # what does not touch here will not touch on the map.
    stretch = 2.0 ** round(log2(across / down))
    tolerance = tolerance_m / sqrt(across * down / stretch)
    stretched = replace(coverage, grid=replace(coverage.grid, transform=Affine.scale(stretch, 1)))
    polygons = np.concatenate([_polygons(stretched), _pins(stretched)])
    left = shapely.get_coordinates(shapely.coverage_simplify(polygons, tolerance))
    lines = coverage.lines
    kept = np.isin(_pairs(lines.x * stretch, lines.y), _pairs(*left.T))
    return replace(coverage, lines=_with_points(lines, kept))


def _pins(coverage: Coverage) -> NDArray[np.object_]:
    """Triangles outside the raster that touch its corners: where borders meet, a point stays."""
    (height, width), scale = coverage.grid.shape, coverage.grid.transform
    tips = [(0, 0, -1, -1), (width, 0, 1, -1), (width, height, 1, 1), (0, height, -1, 1)]
    triangles = [[(x, y), (x + 2 * dx, y + dy), (x + dx, y + 2 * dy)] for x, y, dx, dy in tips]
    return np.asarray(shapely.polygons([[scale @ point for point in triangle] for triangle in triangles]))


def _polygons(coverage: Coverage) -> NDArray[np.object_]:
    batches = [
        shapely.from_ragged_array(shapely.GeometryType.POLYGON, batch.xy, (batch.rings, batch.polygons))
        for batch in outline_batches(coverage, corners_only=False)
    ]
    return np.concatenate(batches)


def _pairs(x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.complex128]:
    return np.stack([x, y], axis=1).astype(np.float64).view(np.complex128).ravel()


def _with_points(lines: Lines, kept: NDArray[np.bool_]) -> Lines:
    """The lines without the other points. A line around an island may lose the point where it begins and ends."""
    first, last = lines.offsets[:-1], lines.offsets[1:] - 1
    at = np.flatnonzero(kept)
    opened = ~kept[first]
    kept[last] = True
    sizes = np.add.reduceat(kept, first, dtype=np.int64)
    source = np.arange(len(kept))
    source[last[opened]] = at[np.searchsorted(at, first[opened])]
    points = source[kept]
    return Lines(lines.x[points], lines.y[points], offsets_of(sizes))
