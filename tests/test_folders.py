"""Finding labelled scenes the way people keep them."""

from pathlib import Path

import geopandas
import numpy as np
import pytest
from shapely.geometry import box

from rsseg_cli.errors import RssegError
from rsseg_cli.folders import LabelOptions, find_labelled, find_scenes

IMAGE = np.ones((3, 20, 20), np.uint8)
LABELS = np.tile(np.array([0, 1], np.uint8), (20, 10))


def polygons(path: Path) -> None:
    frame = geopandas.GeoDataFrame(
        {"class": ["tree"]}, geometry=[box(500_000, 4_999_995, 500_005, 5_000_000)], crs=32633
    )
    frame.to_file(path)


def test_images_and_labels_side_by_side(make_raster, tmp_path: Path) -> None:
    make_raster("s/images/a.tif", IMAGE)
    make_raster("s/images/b.tif", IMAGE)
    make_raster("s/labels/a.png.tif", LABELS)
    (tmp_path / "s/labels/a.png.tif").rename(tmp_path / "s/labels/a.tif")
    (found,) = find_labelled([str(tmp_path / "s")], LabelOptions())
    assert Path(found.scene.path).name == "a.tif"
    np.testing.assert_array_equal(found.labels.read(), LABELS)


def test_labels_beside_their_image_as_rasters_and_polygons(make_raster, tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_raster(f"s/{name}.tif", IMAGE)
    make_raster("s/a_mask.tif", LABELS)
    (tmp_path / "s" / "a_mask.qml").write_text('<qgis><paletteEntry value="1" label="Tree"/></qgis>')
    polygons(tmp_path / "s" / "b_labels.gpkg")
    found = find_labelled([str(tmp_path / "s")], LabelOptions())
    assert [Path(pair.scene.path).stem for pair in found] == ["a", "b"]
    assert found[0].labels.scheme == found[1].labels.scheme
    assert found[1].labels.scheme.names == ("0", "Tree")
    assert (found[1].labels.read()[:10, :10] == 1).all()
    assert len(find_scenes([str(tmp_path / "s")])) == 2


def test_one_vector_file_for_all(make_raster, tmp_path: Path) -> None:
    make_raster("s/a.tif", IMAGE)
    polygons(tmp_path / "s" / "training.gpkg")
    (found,) = find_labelled([str(tmp_path / "s")], LabelOptions())
    assert (found.labels.read()[:10, :10] == 0).all()


def test_a_label_file_by_name(make_raster, tmp_path: Path) -> None:
    make_raster("s/a.tif", IMAGE)
    polygons(tmp_path / "elsewhere.gpkg")
    assert len(find_labelled([str(tmp_path / "s")], LabelOptions(str(tmp_path / "elsewhere.gpkg")))) == 1


def test_a_folder_without_labels_is_refused(make_raster, tmp_path: Path) -> None:
    make_raster("s/a.tif", IMAGE)
    with pytest.raises(RssegError, match="holds 1 images and no labels"):
        find_labelled([str(tmp_path / "s")], LabelOptions())


def test_sizes_that_differ_without_coordinates_are_refused(make_raster, tmp_path: Path) -> None:
    make_raster("s/a.tif", IMAGE, crs=None, transform=None)
    make_raster("s/a_labels.tif", LABELS[:10], crs=None, transform=None)
    with pytest.raises(RssegError, match="is 20 x 10 pixels, its image"):
        find_labelled([str(tmp_path / "s")], LabelOptions())
