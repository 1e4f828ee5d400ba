"""`vectorize` as a function."""

from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely

from rsseg_cli import open_scene, vectorize
from rsseg_cli.classes import ClassScheme
from rsseg_cli.errors import RssegError
from rsseg_cli.raster.arrays import labels_like


def mask_of(make_raster) -> Path:
    mask = np.zeros((20, 30), np.uint8)
    mask[4:12, 5:20] = 1
    mask[15:, 20:] = 255
    return make_raster("mask.tif", mask, nodata=255)


def test_a_path_gives_polygons_or_a_file(make_raster, tmp_path: Path) -> None:
    mask = mask_of(make_raster)
    frame = vectorize(mask)
    assert isinstance(frame, geopandas.GeoDataFrame)
    assert frame["class_name"].tolist() == ["0", "1"]
    assert frame["area_m2"].tolist() == pytest.approx(frame.area.tolist())
    path = vectorize(str(mask), tmp_path / "mask.gpkg", min_area=1)
    assert path == tmp_path / "mask.gpkg"
    written = geopandas.read_file(path, layer="mask")
    assert written.geometry.to_wkb().tolist() == frame.geometry.to_wkb().tolist()


def test_an_array_gives_what_its_file_gives(make_raster) -> None:
    mask = mask_of(make_raster)
    array = open_scene(mask).read()
    theirs, mine = vectorize(mask, exact=True), vectorize(array, exact=True)
    assert mine.crs == theirs.crs
    assert mine.geometry.to_wkb().tolist() == theirs.geometry.to_wkb().tolist()
    assert mine["uid"].tolist() == theirs["uid"].tolist()


def test_names_of_classes_in_an_array_are_kept(make_raster) -> None:
    scene = open_scene(mask_of(make_raster))
    ids = np.nan_to_num(scene.values()[0], nan=255).astype(np.uint8)
    scheme = ClassScheme.of_names([("field", (0,), None), ("house", (1,), None)])
    labels = labels_like(scene.read(), ids, scheme, scene.grid.transform, scene.grid.window)
    frame = vectorize(labels, classes="house")
    assert frame["class_name"].tolist() == ["house"]
    assert frame.geometry[0].equals(shapely.box(500_002.5, 4_999_994, 500_010, 4_999_998))


@pytest.mark.parametrize(
    ("values", "dtype", "profile"),
    [
        ([16_777_216, 16_777_217, 16_777_219], np.int32, {}),
        ([0, 255, 0], np.uint8, {}),
        ([1, 255, 2], np.uint8, {}),
        ([1, 255, 2], np.uint8, {"nodata": 1}),
        ([-3, 0, 300], np.int16, {"nodata": -3}),
    ],
)
def test_numbers_of_an_array_mean_what_they_mean_in_a_file(make_raster, values, dtype, profile) -> None:
    path = make_raster("m.tif", np.array([values], dtype), **profile)
    with rasterio.open(path) as dataset:
        stored, nodata = dataset.read(1), dataset.nodata
    array = open_scene(path).read()[0].copy(data=stored).astype(dtype)
    array.attrs |= {"nodata": nodata}
    theirs, mine = vectorize(path, exact=True), vectorize(array, exact=True)
    assert mine[["uid", "class_id", "class_name"]].equals(theirs[["uid", "class_id", "class_name"]])


def test_a_mask_of_yes_and_no(make_raster) -> None:
    array = open_scene(mask_of(make_raster)).read()[0]
    frame = vectorize(array == 1, classes=["1"], regularize=["1"], min_area=1e-5)
    assert frame["area_m2"].tolist() == [8 * 15 * 0.25]


def test_measurements_are_no_classes(make_raster) -> None:
    array = open_scene(make_raster("ndvi.tif", np.random.default_rng(0).random((5, 5), np.float32))).read()
    with pytest.raises(RssegError, match="no class number"):
        vectorize(array)
