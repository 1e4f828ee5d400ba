"""Scene: which values are measurements, and which are nothing."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import rasterio.vrt
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from rsseg_cli.errors import RssegError
from rsseg_cli.raster.scene import open_file


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_an_infrared_band_tagged_alpha_stays_a_band(make_raster, caplog) -> None:
    # A plain four-band byte GeoTIFF is tagged red, green, blue, alpha, whatever the fourth band holds.
    values = rng().integers(0, 256, (4, 40, 50), dtype=np.uint8)
    values[3, 0, 0] = 0
    path = make_raster("rgbi.tif", values)
    with rasterio.open(path) as dataset:
        assert dataset.colorinterp[3] == ColorInterp.alpha
    with caplog.at_level("INFO"):
        scene = open_file(str(path))
    assert scene.names == ("red", "green", "blue", "4")
    np.testing.assert_array_equal(scene.read().values, values.astype(np.float32))
    assert "tagged alpha" in caplog.text


def test_a_mask_tagged_alpha_masks(make_raster) -> None:
    values = rng().integers(1, 256, (4, 40, 50), dtype=np.uint8)
    values[3] = 255
    values[3, :10] = 0
    scene = open_file(str(make_raster("rgba.tif", values)))
    assert scene.names == ("red", "green", "blue")
    read = scene.read().values
    assert np.isnan(read[:, :10]).all()
    np.testing.assert_array_equal(read[:, 10:], values[:3, 10:])


def test_the_person_settles_what_alpha_is(make_raster) -> None:
    values = rng().integers(0, 256, (4, 40, 50), dtype=np.uint8)
    path = str(make_raster("rgbi.tif", values))
    masked = open_file(path, alpha="yes").read().values
    np.testing.assert_array_equal(np.isnan(masked[0]), values[3] == 0)
    values[3] = 255
    path = str(make_raster("rgba.tif", values))
    assert len(open_file(path, alpha="no").bands) == 4
    with pytest.raises(RssegError, match="no band tagged alpha"):
        open_file(str(make_raster("grey.tif", values[:1])), alpha="yes")


def test_zero_is_a_colour_unless_all_bands_are_zero(make_raster) -> None:
    values = np.full((3, 4, 4), 9, np.uint8)
    values[0, 0, 0] = 0
    values[:, 1, 1] = 0
    read = open_file(str(make_raster("dark.tif", values, nodata=0))).read().values
    assert read[0, 0, 0] == 0
    assert np.isnan(read[:, 1, 1]).all()
    assert np.isnan(read).sum() == 3


def test_other_nodata_values_count_band_by_band(make_raster) -> None:
    values = np.full((2, 4, 4), 5, np.int16)
    values[0, 0, 0] = -9999
    read = open_file(str(make_raster("dem.tif", values, nodata=-9999))).read().values
    assert np.isnan(read[0, 0, 0])
    assert read[1, 0, 0] == 5


def test_zero_in_a_single_band_is_nodata_if_it_says_so(make_raster) -> None:
    values = np.array([[0, 1], [2, 3]], np.uint8)
    assert np.isnan(open_file(str(make_raster("one.tif", values, nodata=0))).read().values).sum() == 1


def test_nan_and_infinity_are_nothing_with_and_without_nodata(make_raster) -> None:
    values = np.array([[[np.nan, 1.0, np.inf, -1.0]]], np.float32)
    for nodata in (None, -1.0, np.nan):
        read = open_file(str(make_raster("f.tif", values, nodata=nodata))).read().values
        assert np.isnan(read[0, 0]).tolist() == [True, False, True, nodata == -1.0]


def test_nodata_that_the_type_cannot_hold_never_occurs(make_raster) -> None:
    path = make_raster("odd.tif", np.arange(4, dtype=np.float32).reshape(2, 2), nodata=-3.4e38)
    assert np.isfinite(open_file(str(path)).read().values).all()


@pytest.mark.parametrize("internal", [True, False])
def test_mask_bands_are_honoured(tmp_path: Path, internal: bool) -> None:
    path, mask = tmp_path / "m.tif", np.full((30, 30), 255, np.uint8)
    mask[:, :7] = 0
    profile = {"driver": "GTiff", "count": 2, "height": 30, "width": 30, "dtype": "uint8", "crs": "EPSG:32633"}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal),
        rasterio.open(path, "w", transform=Affine(1, 0, 5e5, 0, -1, 5e6), **profile) as dataset,
    ):
        dataset.write(np.full((2, 30, 30), 3, np.uint8))
        dataset.write_mask(mask)
    assert path.with_name("m.tif.msk").exists() is not internal
    read = open_file(str(path)).read().values
    np.testing.assert_array_equal(np.isnan(read[0]), mask == 0)


def test_scale_and_offset_are_applied_once(make_raster) -> None:
    path = make_raster("scaled.tif", np.array([[[100, 0]], [[300, 200]]], np.int16), nodata=0)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (0.1, 0.01), (5.0, -1.0)
    read = open_file(str(path)).read().values
    np.testing.assert_allclose(read[:, 0], [[15, np.nan], [2, 1]], rtol=1e-6)


def test_a_window_is_the_crop(make_raster) -> None:
    values = rng().random((3, 60, 70), dtype=np.float32)
    scene = open_file(str(make_raster("w.tif", values)))
    window = Window(11, 23, 30, 17)
    part = scene.read(window)
    np.testing.assert_array_equal(part.values, values[:, 23:40, 11:41])
    assert part.attrs["transform"] == scene.grid.crop(window).transform
    with pytest.raises(ValueError, match="not inside"):
        scene.read(Window(60, 0, 20, 20))


def test_bands_by_name_number_and_new_name(make_raster) -> None:
    values = np.arange(4, dtype=np.uint8).reshape(4, 1, 1)
    path = make_raster("b.tif", values, photometric="minisblack", alpha="unspecified")
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = ("B02", "B03", "B04", None)
    scene = open_file(str(path))
    assert scene.names == ("B02", "B03", "B04", "4")
    chosen = scene.select("red=b04, nir=4,B02")
    assert chosen.names == ("red", "nir", "B02")
    assert chosen.read().values.ravel().tolist() == [2, 3, 0]
    assert chosen.select("nir").read().values.ravel().tolist() == [3]


@pytest.mark.parametrize("wanted", ["swir", "9", "0", "red=", ""])
def test_an_unknown_band_is_refused_with_the_list(make_raster, wanted: str) -> None:
    scene = open_file(str(make_raster("rgb.tif", np.zeros((3, 2, 2), np.uint8), photometric="rgb")))
    with pytest.raises(RssegError, match="1 red, 2 green, 3 blue"):
        scene.select(wanted)


def test_a_band_named_twice_is_refused(make_raster) -> None:
    scene = open_file(str(make_raster("rgb.tif", np.zeros((3, 2, 2), np.uint8), photometric="rgb")))
    with pytest.raises(RssegError, match="twice"):
        scene.select("red,green,red")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_rasters_with_control_points_only_are_refused_with_the_line_that_mends_them(tmp_path: Path) -> None:
    path = tmp_path / "gcps.tif"
    points = [GroundControlPoint(r, c, 11 + c / 100, 48 - r / 100) for r, c in ((0, 0), (0, 9), (9, 0), (9, 9))]
    with rasterio.open(path, "w", driver="GTiff", count=1, height=9, width=9, dtype="uint8") as dataset:
        dataset.gcps = (points, CRS.from_epsg(4326))
    with pytest.raises(RssegError, match="4 ground control points") as refused:
        open_file(str(path))
    assert "gdalwarp -tps -t_srs EPSG:32632" in refused.value.hint
    with rasterio.open(path, "r+") as dataset:
        dataset.gcps = (points, CRS())
    with pytest.raises(RssegError, match="4 ground control points") as refused:
        open_file(str(path))
    assert "gdalwarp -tps -t_srs EPSG:..." in refused.value.hint


def test_another_planet_is_refused_by_name(make_raster) -> None:
    mars = 'GEOGCS["Mars",DATUM["D_Mars",SPHEROID["Mars",3396190,169.89]],PRIMEM["0",0],UNIT["Degree",0.0174532925]]'
    path = make_raster(
        "mars.tif", np.zeros((4, 4), "uint8"), crs=CRS.from_wkt(mars), transform=Affine(0.01, 0, 10, 0, -0.01, 20)
    )
    with pytest.raises(RssegError, match=r"mars\.tif: no way leads from the coordinate system Mars to WGS 84"):
        open_file(str(path))


def test_complex_rasters_are_refused(make_raster) -> None:
    path = make_raster("slc.tif", np.zeros((1, 4, 4), np.complex64))
    with pytest.raises(RssegError, match="complex"):
        open_file(str(path))


@pytest.mark.parametrize(
    "transform", [Affine(1, 0, 0, 0, 1, 0), Affine(10, 3, 5e5, 3, -10, 5e6), Affine(0.1, 0, 1 / 3, 0, -0.1, 2 / 3)]
)
def test_any_affine_is_kept_to_the_last_bit(make_raster, transform: Affine) -> None:
    assert (
        open_file(str(make_raster("t.tif", np.ones((4, 4), np.uint8), transform=transform))).grid.transform == transform
    )


def test_no_crs_is_noted_and_accepted(make_raster, caplog) -> None:
    with caplog.at_level("INFO"):
        scene = open_file(str(make_raster("plain.tif", np.ones((4, 4), np.uint8), crs=None, transform=None)))
    assert scene.grid.crs is None
    assert "no coordinate system" in caplog.text


def test_missing_empty_and_foreign_files(tmp_path: Path) -> None:
    (tmp_path / "empty.tif").touch()
    (tmp_path / "text.tif").write_text("not a raster")
    (tmp_path / "town.png").touch()
    for name, match in (("none.tif", "no such file"), ("empty.tif", "is empty"), ("text.tif", "not a raster")):
        with pytest.raises(RssegError, match=match) as refused:
            open_file(str(tmp_path / name))
        assert str(tmp_path) in refused.value.problem
    with pytest.raises(RssegError) as refused:
        open_file(str(tmp_path / "town.tif"))
    assert "town.png" in refused.value.hint


def test_a_vrt_under_another_name_is_refused(make_raster, tmp_path: Path) -> None:
    source = make_raster("real.tif", np.ones((4, 4), np.uint8))
    with rasterio.open(source) as dataset, rasterio.vrt.WarpedVRT(dataset) as vrt:
        rasterio.shutil.copy(vrt, tmp_path / "honest.vrt", driver="VRT")
    assert open_file(str(tmp_path / "honest.vrt")).grid.shape == (4, 4)
    (tmp_path / "disguised.tif").write_bytes((tmp_path / "honest.vrt").read_bytes())
    with pytest.raises(RssegError, match="is a VRT"):
        open_file(str(tmp_path / "disguised.tif"))


def test_a_truncated_file_names_the_rows(make_raster) -> None:
    path = make_raster("cut.tif", rng().integers(0, 256, (1, 512, 512), dtype=np.uint8), compress="deflate")
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(RssegError, match="rows 0 to 511 cannot be read"):
        open_file(str(path)).read()


def test_bands_of_different_types(make_raster, tmp_path: Path) -> None:
    """As `gdalbuildvrt -separate` makes them."""
    byte, real = (
        make_raster("b.tif", np.full((5, 6), 7, np.uint8)),
        make_raster("f.tif", np.full((5, 6), 0.5, np.float32)),
    )
    bands = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{number}"><SimpleSource><SourceFilename>{path}</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        for number, (kind, path) in enumerate((("Byte", byte), ("Float32", real)), 1)
    )
    (tmp_path / "mix.vrt").write_text(f'<VRTDataset rasterXSize="6" rasterYSize="5">{bands}</VRTDataset>')
    scene = open_file(str(tmp_path / "mix.vrt"))
    assert scene.dtype == "float32"
    assert scene.read().values[:, 0, 0].tolist() == [7, 0.5]
