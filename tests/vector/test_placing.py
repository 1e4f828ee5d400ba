"""Polygons in the raster's coordinate system: where they belong, and neighbours still side by side."""

import geopandas
import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS

from rsseg_cli.errors import RssegError
from rsseg_cli.raster.grid import Grid
from rsseg_cli.vector.placing import in_pixels, on_map

GRID = Grid(CRS.from_epsg(32633), Affine(10, 0, 500_000, 0, -10, 5_400_000), 1000, 2000)
STATES = [shapely.box(14, 47, 15.1, 50), shapely.box(15.1, 47, 17, 50)]


def test_what_has_the_rasters_system_is_not_touched() -> None:
    boxes = [shapely.box(500_000.123456789, 5_399_000, 500_100.987654321, 5_399_500)]
    placed = on_map("p.gpkg", geopandas.GeoDataFrame(geometry=boxes, crs=32633), GRID, "the raster")
    assert shapely.to_wkb(placed).tolist() == shapely.to_wkb(boxes).tolist()


def test_long_edges_bend_with_the_map() -> None:
    """A parallel is no straight line in UTM: 20 km of it leave one by metres."""
    frame = geopandas.GeoDataFrame(geometry=[shapely.box(14.9, 48.7, 15.4, 48.75)], crs=4326)
    (placed,) = on_map("p.gpkg", frame, GRID, "the raster")
    (dense,) = geopandas.GeoSeries(shapely.segmentize(frame.geometry.to_numpy(), 1e-3), crs=4326).to_crs(32633)
    (bare,) = frame.geometry.to_crs(32633)
    assert shapely.hausdorff_distance(bare.boundary, dense.boundary, densify=0.01) > 10
    assert shapely.hausdorff_distance(placed.boundary, dense.boundary, densify=0.01) < 0.1


def test_neighbours_stay_neighbours() -> None:
    one, other = on_map("p.gpkg", geopandas.GeoDataFrame(geometry=STATES, crs=4326), GRID, "the raster")
    assert shapely.area(shapely.intersection(one, other)) < 1e-3
    ground = shapely.box(*GRID.bounds)
    covered = shapely.area(shapely.intersection([one, other], ground)).sum()
    assert covered == pytest.approx(ground.area, rel=1e-9)


def test_pixels_are_counted_from_the_first_corner() -> None:
    frame = geopandas.GeoDataFrame(geometry=[shapely.box(500_010, 5_399_960, 500_030, 5_400_000)], crs=32633)
    np.testing.assert_allclose(shapely.bounds(in_pixels("p.gpkg", frame, GRID)), [[1, 0, 3, 4]], atol=1e-9)


def test_polygons_elsewhere_are_refused_with_their_place() -> None:
    frame = geopandas.GeoDataFrame(geometry=[shapely.box(1, 2, 3, 4)], crs=4326)
    with pytest.raises(RssegError, match=r"p\.gpkg: none of its 1 polygons touches the masks") as caught:
        in_pixels("p.gpkg", frame, GRID, "the masks")
    assert "around 2, 3" in caught.value.hint
