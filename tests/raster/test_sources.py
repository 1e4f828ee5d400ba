"""What a person types becomes scenes."""

from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from rsseg_cli.errors import RssegError
from rsseg_cli.raster.sources import list_scenes, open_scene


def at(col: float, row: float, pixel_m: float = 0.5) -> Affine:
    return Affine(pixel_m, 0, 500_000 + col * 0.5, 0, -pixel_m, 5_000_000 - row * 0.5)


def test_folders_and_patterns_give_their_rasters_in_order(make_raster, tmp_path: Path) -> None:
    for name in ("b.tif", "a.TIF", "c.jp2.aux.xml", "notes.txt"):
        (tmp_path / name).touch()
    assert [Path(p).name for p in list_scenes([str(tmp_path)])] == ["a.TIF", "b.tif"]
    assert [Path(p).name for p in list_scenes([str(tmp_path / "*.tif"), "x.tif"])] == ["b.tif", "x.tif"]
    (tmp_path / "none").mkdir()
    for text, match in ((str(tmp_path / "none"), "no raster in this folder"), (str(tmp_path / "*.jpg"), "no file")):
        with pytest.raises(RssegError, match=match):
            list_scenes([text])


def test_gdal_names_are_handed_over_untouched() -> None:
    names = ["/vsizip/z.zip/a*.tif", "https://example.org/x.tif?a=1", "NETCDF:x.nc:var", "red=a.tif,nir=b.tif"]
    assert list_scenes(names) == names


def test_a_file_whose_name_is_a_pattern_is_a_file(make_raster) -> None:
    path = make_raster("odd[1].tif", np.ones((3, 3), np.uint8))
    assert list_scenes([str(path)]) == [str(path)]


def test_several_rasters_for_one_scene_are_refused(make_raster, tmp_path: Path) -> None:
    for name in ("a.tif", "b.tif"):
        make_raster(f"many/{name}", np.ones((3, 3), np.uint8))
    with pytest.raises(RssegError, match="is 2 rasters") as refused:
        open_scene(tmp_path / "many")
    assert "--mosaic" in refused.value.hint


def test_files_as_bands_come_on_the_finest_grid(make_raster) -> None:
    fine = np.random.default_rng(1).integers(1, 255, (40, 40), dtype=np.uint16)
    red = make_raster("B04.tif", fine)
    swir = make_raster("B11.tif", np.full((20, 20), 7, np.uint16), transform=at(0, 0, 1.0))
    scene = open_scene(f"swir={swir}, red={red}")
    assert scene.names == ("swir", "red")
    assert scene.grid.shape == (40, 40)
    read = scene.read().values
    np.testing.assert_array_equal(read[1], fine)
    np.testing.assert_allclose(read[0], 7)
    np.testing.assert_array_equal(open_scene(f"swir={swir},red={red}", bands="red").read().values[0], fine)


def test_files_as_bands_need_one_band_each(make_raster) -> None:
    two = make_raster("two.tif", np.ones((2, 4, 4), np.uint8))
    with pytest.raises(RssegError, match="has 2 bands, and red needs one"):
        open_scene(f"red={two},green={two}")


def test_in_a_mosaic_later_files_lie_on_top(make_raster, tmp_path: Path) -> None:
    make_raster("m/a.tif", np.full((20, 20), 1, np.uint8), nodata=0)
    on_top = np.full((20, 20), 2, np.uint8)
    on_top[5:8, 5:8] = 0
    make_raster("m/b.tif", on_top, transform=at(10, 10), nodata=0)
    scene = open_scene(tmp_path / "m", mosaic=True)
    assert scene.grid.shape == (30, 30)
    found = scene.read().values[0]
    assert (found[:10, :20] == 1).all()
    assert (found[15:18, 15:18] == 1).all()  # through the hole
    assert found[12, 12] == 2
    assert (found[20:, 20:] == 2).all()
    assert np.isnan(found[:10, 20:]).all()


def test_a_mosaic_reaches_left_of_and_above_its_first_file(make_raster, tmp_path: Path) -> None:
    make_raster("m/a.tif", np.full((10, 10), 1, np.uint8))
    make_raster("m/b.tif", np.full((10, 10), 2, np.uint8), transform=at(-20, -5))
    scene = open_scene(tmp_path / "m", mosaic=True)
    assert scene.grid.shape == (15, 30)
    assert (scene.grid.transform.c, scene.grid.transform.f) == (499_990, 5_000_002.5)
    assert scene.read().values[0, 12, 25] == 1
    assert scene.read().values[0, 3, 3] == 2


def test_a_mosaic_needs_the_same_bands(make_raster, tmp_path: Path) -> None:
    make_raster("m/a.tif", np.ones((1, 4, 4), np.uint8))
    make_raster("m/b.tif", np.ones((3, 4, 4), np.uint8))
    with pytest.raises(RssegError, match=r"b\.tif has the bands"):
        open_scene(tmp_path / "m", mosaic=True)


def test_a_cloud_mask_is_no_scene_beside_what_it_masks(make_raster, tmp_path: Path) -> None:
    one = np.ones((4, 4), np.uint8)
    for name in ("a", "a_clouds", "b", "b-CloudMask", "noctilucent_clouds"):
        make_raster(f"m/{name}.tif", one)
    paths = sorted(str(path) for path in (tmp_path / "m").glob("*.tif"))
    for texts in ([str(tmp_path / "m")], paths):
        assert [Path(name).stem for name in list_scenes(texts)] == ["a", "b", "noctilucent_clouds"]
    mask = str(tmp_path / "m" / "a_clouds.tif")
    assert list_scenes([mask]) == [mask]


def test_clouds_are_taken_out_of_a_scene(make_raster, caplog) -> None:
    path = make_raster("a.tif", np.ones((2, 4, 4), np.uint8))
    clouds = np.zeros((4, 4), np.uint8)
    clouds[1] = 3
    mask = make_raster("a_cloudmask.tif", clouds)
    with caplog.at_level("INFO"):
        scene = open_scene(path)
    assert f"{mask}: masks the clouds of {path}" in caplog.text
    np.testing.assert_array_equal(np.isnan(scene.values()), np.broadcast_to(clouds > 0, (2, 4, 4)))
    make_raster("a_cloudmask.tif", np.ones((2, 4, 4), np.uint8))
    with pytest.raises(RssegError, match="has 2 bands, and a mask has one"):
        open_scene(path)
