"""Arrays in memory as scenes: where they lie, what their bands are called, and what is nothing in them."""

import numpy as np
import pytest
import xarray
from affine import Affine
from rasterio.crs import CRS
from rasterio.windows import Window

from rsseg_cli.classes import ClassScheme
from rsseg_cli.errors import RssegError
from rsseg_cli.raster.arrays import labels_like, scene_of
from rsseg_cli.raster.scene import open_file

PLACE = Affine(0.3, 0, 400_000.123, 0, -0.3, 5_000_000.987)
UTM = CRS.from_epsg(32633)


@pytest.fixture
def array(make_raster) -> xarray.DataArray:
    values = np.random.default_rng(0).integers(0, 255, (3, 40, 50), dtype=np.uint8)
    return open_file(str(make_raster("a.tif", values, nodata=7, transform=PLACE))).read()


def bare(**options: object) -> xarray.DataArray:
    return xarray.DataArray(np.arange(24, dtype=np.uint8).reshape(2, 3, 4), dims=("band", "y", "x"), **options)


def test_what_a_scene_reads_is_a_scene_again(make_raster) -> None:
    values = np.random.default_rng(0).integers(0, 255, (3, 40, 50), dtype=np.uint8)
    scene = open_file(str(make_raster("a.tif", values, nodata=7, transform=PLACE)))
    again = scene_of(scene.read())
    assert (again.grid, again.names, again.path) == (scene.grid, scene.names, scene.path)
    window = Window(5, 7, 30, 20)
    np.testing.assert_array_equal(again.select("blue,red").values(window), scene.select("blue,red").values(window))
    assert np.isnan(scene.values()).any()


def test_a_cut_array_lies_where_it_was_cut(array: xarray.DataArray) -> None:
    whole = scene_of(array).grid
    assert scene_of(array[:, 10:30, 5:]).grid == whole.crop(Window(5, 10, 45, 20))
    assert scene_of(array[:, 39:, 3:4]).grid == whole.crop(Window(3, 39, 1, 1))
    thinned = scene_of(array[:, ::2, ::2]).grid
    np.testing.assert_allclose(thinned.transform[:6], (0.6, 0, PLACE.c - 0.15, 0, -0.6, PLACE.f + 0.15))
    assert scene_of(array[:, ::-1]).grid.transform.e == pytest.approx(0.3)


def test_turned_arrays_keep_their_transform(make_raster) -> None:
    turned = PLACE @ Affine.rotation(20)
    scene = open_file(str(make_raster("t.tif", np.ones((5, 6), np.uint8), transform=turned)))
    assert scene_of(scene.read()).grid == scene.grid


def test_the_ways_to_say_where_an_array_lies() -> None:
    place = Affine(2, 0, 100, 0, -2, 50)
    centres = {"x": 101 + 2 * np.arange(4), "y": 49 - 2 * np.arange(3)}
    reference = {"crs_wkt": UTM.to_wkt(), "GeoTransform": "100.0 2.0 0.0 50.0 0.0 -2.0"}
    for given in (
        bare(attrs={"crs": UTM, "transform": place}),
        bare(attrs={"crs": "EPSG:32633", "transform": tuple(place)}),
        bare(coords={"spatial_ref": ((), 0, reference)}),
        bare(coords={"spatial_ref": ((), 0, {"spatial_ref": UTM.to_wkt()}), **centres}),
        bare(coords=centres, attrs={"crs": UTM}),
    ):
        assert (scene_of(given).grid.crs, scene_of(given).grid.transform) == (UTM, place)
    plain = scene_of(bare()).grid
    assert (plain.crs, plain.transform) == (None, Affine.identity())


def test_names_of_bands() -> None:
    assert scene_of(bare()).names == ("1", "2")
    assert scene_of(bare(coords={"band": [3, 1]})).names == ("3", "1")
    assert scene_of(bare(coords={"band": [1, 2]}, attrs={"long_name": ("red", "nir")})).names == ("red", "nir")
    assert scene_of(bare(coords={"band": ["b", "a"]}, attrs={"long_name": ("red", "nir")})).names == ("b", "a")
    assert scene_of(bare()[0]).names == ("1",)


def test_stored_values_become_measurements() -> None:
    for name in ("nodata", "_FillValue"):
        read = scene_of(bare(attrs={name: 5})).values()
        assert np.argwhere(np.isnan(read)).tolist() == [[0, 1, 1]]
    read = scene_of(bare(attrs={"scale_factor": 0.5, "add_offset": -1})).values()
    assert read[0, 0].tolist() == [-1, -0.5, 0, 0.5]
    read = scene_of(bare(attrs={"scales": (1, 10), "offsets": (0, 1)})).values()
    assert (read[0, 0, 1], read[1, 0, 0]) == (1, 121)
    floats = bare().astype("float32").where(lambda a: a != 5)
    assert np.isnan(scene_of(floats).values()).sum() == 1


def test_labels_lie_where_the_window_of_the_array_lies(array: xarray.DataArray) -> None:
    array = array.assign_coords(spatial_ref=((), 0, {"crs_wkt": UTM.to_wkt(), "GeoTransform": "0 1 0 0 0 -1"}))
    window = Window(5, 10, 20, 15)
    grid = scene_of(array).grid.crop(window)
    labels = labels_like(
        array, np.zeros((15, 20), np.uint8), ClassScheme.of_values([1], {1: "sea"}), grid.transform, window
    )
    np.testing.assert_array_equal(labels.x, array.x[5:25])
    assert scene_of(labels).grid == grid
    assert tuple(map(float, labels.spatial_ref.GeoTransform.split())) == grid.transform.to_gdal()
    assert array.spatial_ref.GeoTransform == "0 1 0 0 0 -1"


def test_arrays_that_are_no_scenes() -> None:
    uneven = {"x": [0, 1, 2, 4], "y": [2, 1, 0]}
    for given, match in (
        (bare().rename(band="time"), "dimensions time, y, x"),
        (bare().astype(complex), "values of complex"),
        (bare()[:, :0], "holds"),
        (bare(coords=uneven), "x coordinates do not say"),
        (bare(attrs={"crs": "nonsense"}), "coordinate system cannot be read"),
    ):
        with pytest.raises(RssegError, match=match):
            scene_of(given)
