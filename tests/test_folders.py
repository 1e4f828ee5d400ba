"""Finding labelled scenes the way people keep them."""

import logging
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pytest
from affine import Affine
from shapely.geometry import box

from rsseg_cli.errors import RssegError
from rsseg_cli.folders import LabelOptions, find_labelled, find_scenes, match_bands
from rsseg_cli.raster.sources import open_scene

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


def test_label_maps_are_no_images(make_raster, tmp_path: Path) -> None:
    for name in ("s/a.tif", "t/images/a.tif"):
        make_raster(name, IMAGE)
    for name in ("s/a_gt.tif", "s/mask.tif", "t/images/a_labels.tif", "t/images/labels.tif", "u/a_labels.tif"):
        make_raster(name, LABELS)
    for folder in ("s", "t"):
        assert [Path(scene.path).name for scene in find_scenes([str(tmp_path / folder)])] == ["a.tif"]
    with pytest.raises(RssegError, match="the 1 rasters in it are labels"):
        find_scenes([str(tmp_path / "u")])


def test_one_vector_file_called_labels(make_raster, tmp_path: Path) -> None:
    make_raster("s/a.tif", IMAGE)
    polygons(tmp_path / "s" / "labels.gpkg")
    assert len(find_labelled([str(tmp_path / "s")], LabelOptions())) == 1


def test_several_vector_files_must_be_told_apart(make_raster, tmp_path: Path) -> None:
    make_raster("s/a.tif", IMAGE)
    for name in ("fields.gpkg", "squares.gpkg"):
        polygons(tmp_path / "s" / name)
    with pytest.raises(RssegError, match="holds 2 vector files") as caught:
        find_labelled([str(tmp_path / "s")], LabelOptions())
    assert "fields.gpkg" in caught.value.hint


def test_scenes_that_a_common_file_does_not_touch_are_left_out(make_raster, tmp_path: Path, caplog) -> None:
    make_raster("s/a.tif", IMAGE)
    make_raster("s/far.tif", IMAGE, transform=Affine(0.5, 0, 900_000, 0, -0.5, 5_000_000))
    polygons(tmp_path / "s" / "training.gpkg")
    (found,) = find_labelled([str(tmp_path / "s")], LabelOptions())
    assert Path(found.scene.path).name == "a.tif"
    assert "left out: " in caplog.text
    assert "none of its 1 polygons touches the raster" in caplog.text
    (tmp_path / "s" / "a.tif").unlink()
    with pytest.raises(RssegError, match="touches the raster"):
        find_labelled([str(tmp_path / "s")], LabelOptions())


def scene_of(make_raster, name: str, *bands: str):
    scene = open_scene(make_raster(name, np.ones((len(bands), 5, 5), np.uint8)), alpha="no")
    return replace(scene, bands=tuple(replace(b, name=name) for b, name in zip(scene.bands, bands, strict=True)))


def test_bands_are_matched_by_name_and_else_by_order(make_raster, caplog) -> None:
    caplog.set_level(logging.INFO)
    wanted = ("red", "green", "blue")
    other = scene_of(make_raster, "o.tif", "nir", "Blue", "green", "red")
    assert match_bands(other, wanted, "it").names == ("red", "green", "Blue")
    assert match_bands(other, wanted, "it").chosen == (3, 2, 1)
    unnamed = scene_of(make_raster, "u.tif", "1", "2", "3")
    caplog.clear()
    assert match_bands(unnamed, wanted, "it") is unnamed
    assert "its bands 1, 2, 3 are taken as red, green, blue of it, in this order" in caplog.text
    assert match_bands(unnamed, ("1", "2", "3"), "it") is unnamed


@pytest.mark.parametrize(
    ("bands", "wanted"),
    [
        (("1", "2", "3", "4"), ("1", "2", "3")),  # numbers are no names
        (("nir", "red", "green"), ("red", "green", "blue")),  # by order, red would become green
        (("red",), ("red", "green")),
    ],
)
def test_bands_that_cannot_be_matched_are_refused(make_raster, bands, wanted) -> None:
    with pytest.raises(RssegError, match=r"has .* bands: "):
        match_bands(scene_of(make_raster, "a.tif", *bands), wanted, "it")
