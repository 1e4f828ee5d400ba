import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS
from rasterio.windows import Window

from rsseg_cli.errors import RssegError
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.mosaic import joint_grid

HALF_METRE = Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)
FIRST = Grid(CRS.from_epsg(32633), HALF_METRE, 10, 20)


def joined(*others: Grid) -> tuple[Grid, list[Window]]:
    return joint_grid(["first.tif", *(f"{n}.tif" for n in range(len(others)))], [FIRST, *others])


def test_the_first_lattice_is_widened_to_hold_all() -> None:
    north_west = FIRST.crop(Window(-7, -3, 4, 5))
    # Files round their corners: a hair off must not cost a row.
    east = Grid(FIRST.crs, FIRST.crop(Window(15, 2, 0, 0)).transform @ Affine.translation(5e-5, -5e-5), 10, 30)
    grid, places = joined(north_west, east)
    assert grid == FIRST.crop(Window(-7, -3, 52, 15))
    assert places == [Window(7, 3, 20, 10), Window(0, 0, 4, 5), Window(22, 5, 30, 10)]


def test_what_is_off_the_lattice_lies_within_whole_pixels() -> None:
    shifted = Grid(FIRST.crs, HALF_METRE @ Affine.translation(20.3, 0.6) @ Affine.scale(2.5), 2, 2)
    turned = Grid(FIRST.crs, HALF_METRE @ Affine.translation(-4, 2) @ Affine.rotation(45), 2, 2)
    grid, places = joined(shifted, turned)
    assert places[1:] == [Window(26, 0, 6, 6), Window(0, 2, 4, 3)]
    assert grid == FIRST.crop(Window(-6, 0, 32, 10))


def test_what_has_no_place_in_the_first_system_is_refused() -> None:
    no_system = Grid(None, HALF_METRE, 10, 20)
    with pytest.raises(RssegError, match=r"0\.tif: has no coordinate system, unlike first\.tif"):
        joined(no_system)
    with pytest.raises(RssegError, match=r"other\.tif: has a coordinate system, unlike bare\.tif"):
        joint_grid(["bare.tif", "other.tif"], [no_system, FIRST])
    disc = Grid(CRS.from_proj4("+proj=geos +h=35785831 +lon_0=0"), Affine(1e5, 0, -6e6, 0, -1e5, 6e6), 120, 120)
    with pytest.raises(RssegError, match=r"0\.tif: cannot be brought into the coordinate system of first\.tif"):
        joined(disc)


def test_a_mosaic_that_is_mostly_empty_is_said(caplog) -> None:
    joined(FIRST.crop(Window(50, 50, 20, 20)))
    assert not caplog.text
    joined(FIRST.crop(Window(5000, 5000, 20, 20)))
    assert "5020 x 5020 pixels" in caplog.text
    assert np.prod(joined(FIRST)[0].shape) == 200
