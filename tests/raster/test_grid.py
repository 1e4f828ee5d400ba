"""Grid: sizes on the ground, lattices and overlaps."""

import math

import pytest
from affine import Affine
from rasterio.crs import CRS
from rasterio.windows import Window

from rsseg_cli.errors import RssegError
from rsseg_cli.raster.grid import Grid

UTM33 = CRS.from_epsg(32633)


def grid(crs: CRS | None = UTM33, transform: Affine | None = None, shape: tuple[int, int] = (100, 200)) -> Grid:
    return Grid(crs, transform or Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000), *shape)


def test_projected_pixels_keep_their_nominal_size() -> None:
    # UTM's scale on the central meridian is 0.9996: the ground is not 0.5002 m to anybody.
    assert grid().gsd_m == 0.5


def test_feet_become_metres() -> None:
    # EPSG:2263 counts in US survey feet.
    assert grid(CRS.from_epsg(2263), Affine(2, 0, 990_000, 0, -2, 200_000)).gsd_m == pytest.approx(0.6096, rel=1e-4)


def test_degrees_become_metres_at_the_latitude_of_the_scene() -> None:
    at_60 = grid(CRS.from_epsg(4326), Affine(1e-4, 0, 10, 0, -1e-4, 60)).gsd_m
    # 1e-4 degrees: 11.14 m along a meridian at 60 degrees, 5.58 m along the parallel.
    assert at_60 == pytest.approx(math.sqrt(11.14 * 5.58), rel=2e-3)


def test_web_mercator_is_measured_on_the_ellipsoid() -> None:
    north = CRS.from_epsg(3857)
    # At 60 degrees its metres are twice too long.
    assert grid(north, Affine(1, 0, 1_100_000, 0, -1, 8_399_738)).gsd_m == pytest.approx(0.5, rel=0.01)


def test_no_crs_has_no_size_on_the_ground() -> None:
    assert grid(None).gsd_m is None


SITE = CRS.from_wkt('LOCAL_CS["site grid",UNIT["foot",0.3048],AXIS["x",EAST],AXIS["y",NORTH]]')


def test_a_system_without_a_place_has_sizes_of_its_own() -> None:
    grid = Grid(SITE, Affine(2, 0, 0, 0, -2, 0), 10, 20)
    assert grid.gsd_m == pytest.approx(0.6096)
    assert grid.row_areas() == pytest.approx([0.6096**2] * 10)
    assert grid.overlaps(Grid(SITE, Affine(2, 0, 5, 0, -2, 0), 10, 20))


def test_what_has_no_place_is_not_compared_with_what_has() -> None:
    site, here = (Grid(crs, Affine(2, 0, 0, 0, -2, 0), 10, 20) for crs in (SITE, CRS.from_epsg(32633)))
    with pytest.raises(RssegError, match="no way leads from the coordinate system"):
        site.overlaps(here)


def test_rotation_does_not_change_the_pixel_size() -> None:
    turned = grid(transform=Affine.translation(500_000, 5_000_000) @ Affine.rotation(20) @ Affine.scale(10, -10))
    assert turned.pixel_size == pytest.approx((10, 10))
    assert turned.gsd_m == pytest.approx(10)
    assert not turned.is_north_up


def test_bounds_hold_all_corners_of_a_rotated_grid() -> None:
    turned = grid(None, Affine.rotation(30), (10, 10))
    west, south, east, north = turned.bounds
    assert all(west <= x <= east and south <= y <= north for x, y in turned.corners)
    assert west == pytest.approx(-5)


def test_crop_moves_the_origin() -> None:
    part = grid().crop(Window(4, 6, 10, 20))
    assert part.shape == (20, 10)
    assert (part.transform.c, part.transform.f) == (500_002, 4_999_997)


@pytest.mark.parametrize(("row", "col"), [(0, 0), (7, -3), (-40, 100)])
def test_offset_within_a_lattice(row: int, col: int) -> None:
    other = grid(transform=Affine(0.5, 0, 500_000 + 0.5 * col, 0, -0.5, 5_000_000 - 0.5 * row), shape=(30, 30))
    assert grid().offset_of(other) == (row, col)


@pytest.mark.parametrize(
    "transform",
    [
        Affine(0.5, 0, 500_000.2, 0, -0.5, 5_000_000),  # between pixels
        Affine(0.6, 0, 500_000, 0, -0.6, 5_000_000),  # another size
        Affine(0.5, 0, 500_000, 0, 0.5, 5_000_000),  # south-up
        Affine(0.50001, 0, 500_000, 0, -0.5, 5_000_000),  # drifts apart over 200 pixels
    ],
)
def test_no_offset_between_lattices(transform: Affine) -> None:
    assert grid().offset_of(grid(transform=transform)) is None


def test_overlap_across_coordinate_systems() -> None:
    town = grid(shape=(1000, 1000))
    lon_lat = CRS.from_epsg(4326)
    around = Grid(lon_lat, Affine(0.01, 0, 14.99, 0, -0.01, 45.2), 10, 10)
    elsewhere = Grid(lon_lat, Affine(0.01, 0, 20, 0, -0.01, 45.2), 10, 10)
    assert town.overlaps(around)
    assert around.overlaps(town)
    assert not town.overlaps(elsewhere)


def test_areas_of_rows() -> None:
    assert grid().row_areas().tolist() == [0.25] * 100
    assert grid(None).row_areas().tolist() == [1.0] * 100
    lon_lat = grid(CRS.from_epsg(4326), Affine(0.01, 0, 10, 0, -0.01, 60), (3000, 4)).row_areas()
    # One hundredth of a degree squared: cos(latitude) times the square of 1113.2 m, flattening aside.
    assert lon_lat[0] == pytest.approx(1113.2 * 1114.1 * math.cos(math.radians(60)), rel=5e-3)
    assert lon_lat[-1] == pytest.approx(1113.2 * 1110.6 * math.cos(math.radians(30)), rel=5e-3)
    mercator = grid(CRS.from_epsg(3857), Affine(1, 0, 1_100_000, 0, -1, 8_399_738), (10, 10)).row_areas()
    assert mercator[0] == pytest.approx(0.25, rel=0.02)
