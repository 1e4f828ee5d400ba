import json
import os
import shutil
import struct
import warnings
from dataclasses import replace
from pathlib import Path

import broken
import numpy as np
import pytest
import rasterio
from affine import Affine
from broken import SCHEME, TRANSFORM, UTM, content, noise, outcome, write_labels
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window
from rio_cogeo.cogeo import cog_validate

from rsseg_cli import delivery
from rsseg_cli.class_files import read_classes
from rsseg_cli.classes import ClassScheme
from rsseg_cli.errors import RssegError
from rsseg_cli.raster import write as module
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.labels import open_label_raster
from rsseg_cli.raster.layout import Layout
from rsseg_cli.raster.verify import verify_pixels, verify_raster
from rsseg_cli.raster.write import create_labels, create_raster, creation_options

SMALL = Grid(UTM, TRANSFORM, 37, 53)
ODD = "+proj=tmerc +lat_0=45.1 +lon_0=14.2 +k=0.99987 +x_0=1234.5 +y_0=0 +ellps=bessel +towgs84=577,90,463,5,1,2,2.4"
ROTATED_POLE = "+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=39.25 +lon_0=18 +ellps=bessel"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "map.tif"


def labels(path: Path, grid: Grid, **options: object) -> np.ndarray:
    values = noise(*grid.shape)
    with create_labels(path, grid, SCHEME, **options) as writer:
        writer.write(values, grid.window)
    return values


def read(path: Path) -> tuple[Grid, np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as dataset:
            return Grid.of(dataset), dataset.read()


GRIDS = {
    "projected": SMALL,
    "no CRS": replace(SMALL, crs=None),
    "no georeference": Grid(None, Affine.identity(), 37, 53),
    "CRS alone": Grid(UTM, Affine.identity(), 37, 53),
    "rotated": replace(SMALL, transform=TRANSFORM @ Affine.rotation(31.7)),
    "sheared": replace(SMALL, transform=TRANSFORM @ Affine.shear(3, 5)),
    "south-up": replace(SMALL, transform=Affine(0.3, 0, 4e5, 0, 0.3, 5e6)),
    "oblong": replace(SMALL, transform=Affine(1 / 3, 0, 4e5, 0, -1 / 7, 5e6)),
    "geographic": Grid(CRS.from_epsg(4326), Affine(1 / 111_111, 0, 14.1, 0, -1 / 111_111, 46.1), 37, 53),
    "custom": replace(SMALL, crs=CRS.from_string(ODD)),
    "rotated pole": Grid(CRS.from_string(ROTATED_POLE), Affine(0.02, 0, -10, 0, -0.02, 5), 37, 53),
    "compound": replace(SMALL, crs=CRS.from_epsg(5554)),
    "feet": replace(SMALL, crs=CRS.from_epsg(2263)),
    "site": replace(SMALL, crs=CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]')),
    "one pixel": Grid(UTM, TRANSFORM, 1, 1),
    "one row": Grid(UTM, TRANSFORM, 1, 1301),
    "one column": Grid(UTM, TRANSFORM, 1301, 1),
    "no multiple of blocks": Grid(UTM, TRANSFORM, 1025, 513),
}


@pytest.mark.parametrize("name", GRIDS)
def test_a_label_map_keeps_grid_and_pixels_to_the_last_bit(path: Path, name: str) -> None:
    grid = GRIDS[name]
    values = labels(path, grid)
    found, back = read(path)
    assert found == grid
    assert (back[0] == values).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        _, errors, _ = cog_validate(str(path), quiet=True)
    # GDAL's own count of zoom levels of something one pixel wide is not to the validator's liking.
    assert [e for e in errors if name != "one column" or "Invalid Decimation 1" not in e] == []
    beside = {"map.tif.aux.xml"} if name == "rotated pole" else set()  # where GeoTIFF has no words for the CRS
    assert {p.name for p in path.parent.iterdir()} == {"map.tif", "map.qml"} | beside


MOON = CRS.from_string("+proj=longlat +R=1737400 +no_defs")
SITE = CRS.from_wkt('ENGCRS["x",EDATUM["site"],CS[Cartesian,2],AXIS["e",east],AXIS["n",north],LENGTHUNIT["metre",1]]')


@pytest.mark.parametrize("crs", [MOON, SITE], ids=["moon", "site"])
def test_what_geotiff_drops_of_a_crs_without_changing_places_is_no_damage(path: Path, crs: CRS) -> None:
    labels(path, replace(SMALL, crs=crs))
    found, _ = read(path)
    assert found.transform == TRANSFORM
    assert (found.crs.is_geographic, found.crs.is_projected) == (crs.is_geographic, crs.is_projected)


def test_a_label_map_says_what_its_numbers_mean(path: Path) -> None:
    labels(path, SMALL, tags={"RSSEG_MODEL": "none"})
    with rasterio.open(path) as dataset:
        assert dataset.nodata == 255
        assert dataset.dtypes == ("uint8",)
        assert dataset.descriptions == ("class",)
        assert dataset.colorinterp == (ColorInterp.palette,)
        assert {i: dataset.colormap(1)[i] for i in (1, 2, 3)} == {
            1: (0, 0, 255, 255),
            2: (0, 255, 0, 255),
            3: (255, 0, 0, 255),
        }
        assert json.loads(dataset.tags()["RSSEG_CLASSES"]) == SCHEME.to_json()
        assert dataset.tags()["RSSEG_MODEL"] == "none"
        assert dataset.tags()["TIFFTAG_SOFTWARE"].startswith("rsseg ")
    assert [(c.id, c.name, c.color) for c in read_classes(path.with_suffix(".qml")).classes] == [
        (c.id, c.name, c.color) for c in SCHEME.classes
    ]


def test_large_maps_have_overviews_of_classes_that_exist(path: Path) -> None:
    grid = Grid(UTM, TRANSFORM, 1030, 1537)
    values = np.where(np.indices(grid.shape).sum(axis=0) % 2, 1, 3).astype("uint8")  # the average, 2, is not there
    with create_labels(path, grid, SCHEME) as writer:
        writer.write(values, grid.window)
    with rasterio.open(path) as dataset:
        assert dataset.overviews(1) == [2, 4]
    with rasterio.open(path, OVERVIEW_LEVEL=1) as overview:
        assert set(np.unique(overview.read())) <= {1, 3}


def test_overviews_of_values_are_averages_that_leave_nodata_out(path: Path) -> None:
    grid = Grid(UTM, TRANSFORM, 1024, 1024)
    values = np.where(np.indices(grid.shape)[1] % 4 == 0, np.nan, np.indices(grid.shape)[1] % 2).astype("float32")
    with create_raster(path, grid, Layout(("score",), "float32", float("nan"))) as writer:
        writer.write(values, grid.window)
    with rasterio.open(path, OVERVIEW_LEVEL=0) as overview:
        assert set(np.unique(overview.read())) == {0.5, 1.0}


LAYOUTS = {
    "NaN": Layout(("score",), "float32", float("nan")),
    "no nodata": Layout(("score",), "float64", None),
    "nodata that float32 rounds": Layout(("score",), "float32", 0.1),
    "lowest float": Layout(("score",), "float32", -3.4028234663852886e38),
    "four bytes": Layout(("red", "green", "blue", "near infrared"), "uint8", None),
    "many": Layout(tuple("abcdefg"), "uint16", 65535),
    "negative": Layout(("change",), "int16", -32768),
    "tags": Layout(("a", "b"), "int8", None, "NEAREST", {"NOTE": "ünï"}),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_rasters_keep_values_names_and_nodata(path: Path, name: str) -> None:
    layout = LAYOUTS[name]
    grid = Grid(UTM, TRANSFORM, 600, 530)
    values = np.random.default_rng(2).normal(100, 20, (len(layout.bands), *grid.shape)).astype(layout.dtype)
    if name == "NaN":
        values[:, :9] = np.nan
    windows = [Window(c, r, min(300, 530 - c), min(400, 600 - r)) for r in (400, 0) for c in (300, 0)]
    with create_raster(path, grid, layout) as writer:
        for window in windows:
            writer.write(values[(slice(None), *window.toslices())], window)
    with rasterio.open(path) as dataset:
        assert Grid.of(dataset) == grid
        assert np.array_equal(dataset.read(), values, equal_nan=True)
        assert dataset.descriptions == layout.bands
        assert set(dataset.dtypes) == {layout.dtype}
        assert ColorInterp.alpha not in dataset.colorinterp
        assert str(dataset.nodata) == str(layout.nodata and float(np.dtype(layout.dtype).type(layout.nodata)))
        assert {**dataset.tags(), **layout.tags} == dataset.tags()
    assert cog_validate(str(path), quiet=True)[0]
    assert not path.with_suffix(".qml").exists()


def test_a_pixel_not_written_is_a_bug_that_delivers_nothing(path: Path) -> None:
    with pytest.raises(AssertionError), create_labels(path, SMALL, SCHEME) as writer:
        writer.write(noise(36, 53), Window(0, 0, 53, 36))
    assert list(path.parent.iterdir()) == []


# --- creation options


@pytest.mark.parametrize(
    ("options", "tag", "value"),
    [
        ({"COMPRESS": "ZSTD", "LEVEL": "19"}, "COMPRESSION", "ZSTD"),
        ({"compress": "lzw"}, "COMPRESSION", "LZW"),
        ({"COMPRESS": "NONE"}, "COMPRESSION", None),
        ({"COMPRESS": "LERC"}, "COMPRESSION", "LERC"),
        ({"BLOCKSIZE": "256", "NUM_THREADS": "1", "OVERVIEWS": "NONE", "BIGTIFF": "YES"}, "COMPRESSION", "DEFLATE"),
    ],
)
def test_creation_options_are_obeyed(path: Path, options: dict[str, str], tag: str, value: str | None) -> None:
    values = labels(path, Grid(UTM, TRANSFORM, 600, 600), options=options)
    with rasterio.open(path) as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE").get(tag) == value
        assert (dataset.read(1) == values).all()
        size = int(options.get("BLOCKSIZE", 512))
        assert dataset.block_shapes == [(size, size)]
    big = path.read_bytes()[2] == 43
    assert big == ("BIGTIFF" in options)  # else IF_SAFER, which a small file need not be


def test_a_large_file_is_a_bigtiff_before_it_needs_to_be(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = module._profile(Grid(UTM, TRANSFORM, 70_000, 70_000), LAYOUTS["NaN"])
    with rasterio.open(path, "w", SPARSE_OK="TRUE", **profile):
        pass
    assert path.read_bytes()[2] == 43
    asked = []
    monkeypatch.setattr(rasterio.shutil, "copy", lambda *_, **options: asked.append(options))
    module._finish(path, path, LAYOUTS["NaN"], {})
    assert asked[0]["BIGTIFF"] == "IF_SAFER"


WRONG_OPTIONS = [
    {"COMPRESS": "FOO"},
    {"FOO": "BAR"},
    {"TILED": "YES"},
    {"LEVEL": "99"},
    {"BLOCKSIZE": "ABC"},  # ends the process if GDAL 3.10 gets it
    {"BLOCKSIZE": "100"},
    {"BLOCKSIZE": "1000000"},
    {"NUM_THREADS": "x"},
    {"PREDICTOR": "7"},
    {"COMPRESS": "JPEG"},
    {"TILING_SCHEME": "GoogleMapsCompatible"},  # another grid
    {"SPARSE_OK": "TRUE"},  # what is lost cannot be told from what is empty
    {"NBITS": "4"},  # 255 does not fit
]


@pytest.mark.parametrize("options", WRONG_OPTIONS, ids=str)
def test_wrong_options_are_refused_before_any_work(
    path: Path, options: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(b"old")
    worked = False
    with (
        pytest.raises(RssegError, match="--co") as caught,
        create_labels(path, SMALL, SCHEME, options=options, overwrite=True),
    ):
        worked = True
    assert not worked
    assert str(path) in caught.value.problem
    assert next(iter(options)) in caught.value.problem
    assert caught.value.file == str(path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["map.tif"]
    assert not caplog.records


@pytest.mark.parametrize("options", [{"COMPRESS": "LERC", "MAX_Z_ERROR": "0.1"}, {"NBITS": "16"}], ids=str)
def test_lossy_options_may_change_values_but_not_labels(path: Path, options: dict[str, str]) -> None:
    layout = Layout(("score",), "float32", None)
    values = np.random.default_rng(0).random(SMALL.shape, np.float32)
    with create_raster(path, SMALL, layout, options=options) as writer:
        writer.write(values, SMALL.window)
    _, back = read(path)
    assert 0 < np.abs(back[0] - values).max() <= 0.1
    with pytest.raises(RssegError, match="not what was written"):
        labels(path.with_name("labels.tif"), SMALL, options={"COMPRESS": "LERC", "MAX_Z_ERROR": "3"})


def test_creation_options_are_read_from_pairs() -> None:
    assert creation_options(["compress=ZSTD", "X=a=b", "Y="]) == {"COMPRESS": "ZSTD", "X": "a=b", "Y": ""}
    assert creation_options(None) == {}
    for wrong in ("COMPRESS", "=ZSTD", ""):
        with pytest.raises(RssegError, match="NAME=VALUE"):
            creation_options([wrong])


# --- names


@pytest.mark.parametrize("name", ["map.png", "map", "map.gpkg", ".tif"])
def test_only_geotiff_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(RssegError, match="GeoTIFF"):
        labels(tmp_path / name, SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a#b?c%20.tif", "a!b;c.tif", "ä ✓\n'\".TIF", "s3:x.tiff", "zip:[a]*.tif", "-o.tif"])
def test_odd_names(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    labels(Path(name), SMALL)
    assert {p.name for p in tmp_path.iterdir()} == {name, Path(name).with_suffix(".qml").name}


def test_an_existing_style_is_not_lost(path: Path) -> None:
    path.with_suffix(".qml").write_text("mine")
    with pytest.raises(RssegError, match=r"map\.qml: exists"):
        labels(path, SMALL)
    assert path.with_suffix(".qml").read_text() == "mine"
    labels(path, SMALL, overwrite=True)
    assert "paletteEntry" in path.with_suffix(".qml").read_text()


def test_the_input_is_never_the_output(path: Path) -> None:
    labels(path, SMALL)
    before = path.read_bytes()
    with pytest.raises(RssegError, match="also an input"):
        labels(path, SMALL, overwrite=True, inputs=[str(path)])
    assert path.read_bytes() == before


def test_an_interrupt_leaves_the_old_map(path: Path) -> None:
    write_labels(path)
    before = path.read_bytes()

    def stop(row: int) -> None:
        if row:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_labels(path, between=stop, overwrite=True)
    assert path.read_bytes() == before
    assert {p.name for p in path.parent.iterdir()} == {"map.tif", "map.qml"}


# --- broken disks


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, object]:
    path = tmp_path_factory.mktemp("reference") / "map.tif"
    write_labels(path)
    return path, content(path)


def no_reservation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "_reserve", lambda *_: None)


def is_damaged(path: Path, wanted: object) -> bool:
    try:
        return content(path) != wanted
    except rasterio.errors.RasterioError:
        return True


def check_promise(path: Path, error: RssegError | None, before: bytes | None, wanted: object) -> None:
    """The old file or none after an error, the reference after success; and nothing else beside it."""
    if error is None:
        assert not is_damaged(path, wanted)
    else:
        assert (path.read_bytes() if path.exists() else None) == before
    assert {p.name for p in path.parent.iterdir()} <= {"map.tif", "map.qml", "old.tif", "old.qml"}


@pytest.mark.parametrize("threads", ["1", "ALL_CPUS"])
@pytest.mark.parametrize("reserve", [True, False])
def test_disks_of_all_sizes(disk, reference, monkeypatch: pytest.MonkeyPatch, threads: str, reserve: bool) -> None:
    """From no room at all to enough; old file and new one must both fit."""
    file, wanted = reference
    if not reserve:
        no_reservation(monkeypatch)
    needed = file.stat().st_size // 1024
    ends = []
    for kib in (16, *(needed * n // 8 for n in range(1, 9)), needed * 2 - 8, needed * 2 + 4, needed * 2 + 64, 4096):
        path = disk(max(kib, 16)) / "map.tif"
        error = outcome(write_labels, path, options={"NUM_THREADS": threads})
        check_promise(path, error, None, wanted)
        ends.append(error is None)
    assert ends[-1]
    assert not ends[0]
    assert sum(not end for end in ends) >= 3


@pytest.mark.parametrize("reserve", [True, False])
def test_file_size_limits_at_an_old_file(
    tmp_path: Path, reference, monkeypatch: pytest.MonkeyPatch, reserve: bool
) -> None:
    file, wanted = reference
    path = tmp_path / "map.tif"
    write_labels(path, size=40)
    old = path.read_bytes()
    if not reserve:
        no_reservation(monkeypatch)
    size = file.stat().st_size
    failed = 0
    for limit in (0, 1024, *(size * n // 8 for n in range(1, 8)), size - 1, size, size + 65536):
        with broken.file_size_limit(limit):
            error = outcome(write_labels, path, overwrite=True)
        check_promise(path, error, old, wanted)
        failed += error is not None
        if error is None:
            path.write_bytes(old)
    assert 8 <= failed <= 12


def test_full_for_a_moment(disk, reference, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger's file fills the disk while the middle of the map is written, and goes again."""
    no_reservation(monkeypatch)
    path = disk(2048) / "map.tif"
    ballast = path.with_name("old.tif")

    def squeeze(row: int) -> None:
        if row == 200:
            ballast.write_bytes(b"x" * shutil.disk_usage(path.parent).free)
        elif row == 400:
            ballast.unlink()

    with rasterio.Env(GDAL_CACHEMAX=100_001):  # bytes: hardly anything waits in memory
        error = outcome(write_labels, path, size=1400, between=squeeze)
    assert error is not None
    ballast.unlink(missing_ok=True)
    check_promise(path, error, None, None)


def test_without_verification_damage_would_be_silent(disk, reference, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shows that the disks above are broken enough for their tests to fail."""
    file, wanted = reference
    no_reservation(monkeypatch)
    monkeypatch.setattr(module, "verify_raster", lambda *_: None)
    monkeypatch.setattr(module, "verify_pixels", lambda *_: None)
    needed = file.stat().st_size // 1024
    silent = 0
    for kib in (needed * n // 16 for n in range(8, 34)):
        path = disk(kib) / "map.tif"
        silent += outcome(write_labels, path, options={"NUM_THREADS": "ALL_CPUS"}) is None and is_damaged(path, wanted)
    assert silent


# --- the verification by itself

LABELS = Layout(("class",), "uint8", 255)
SQUARE = Grid(UTM, TRANSFORM, 1400, 1400)


@pytest.fixture
def whole(path: Path) -> Path:
    write_labels(path, size=1400)
    verify_raster(path, SQUARE, LABELS, path)
    return path


@pytest.mark.parametrize("part", [0, 0.001, 0.3, 0.6, 0.9, 0.9999])
def test_sees_that_a_file_is_cut_short(whole: Path, part: float) -> None:
    os.truncate(whole, int(whole.stat().st_size * part))
    with pytest.raises(RssegError, match=r"^target\.tif: (blocks are missing|could not be written|came out changed)"):
        verify_raster(whole, SQUARE, LABELS, Path("target.tif"))


def test_sees_that_the_last_byte_is_missing(whole: Path) -> None:
    os.truncate(whole, whole.stat().st_size - 8)  # a COG block is followed by a repetition of its last four bytes
    with pytest.raises(RssegError, match="blocks are missing: 1"):
        verify_raster(whole, SQUARE, LABELS, Path("target.tif"))


@pytest.mark.parametrize("level", [None, 0, 1])
def test_sees_blocks_that_were_never_written(whole: Path, level: int | None) -> None:
    """GDAL reads them as nodata, without a word; at each zoom level."""
    profile = module._profile(SQUARE, LABELS)
    with rasterio.open(whole, "w", SPARSE_OK="TRUE", **profile) as dataset:
        values = np.full(SQUARE.shape, 1, "uint8")
        if level is None:
            values[512:1024, :512] = 255
        dataset.write(values, 1)
    with rasterio.Env(GDAL_TIFF_OVR_BLOCKSIZE=512, SPARSE_OK_OVERVIEW="TRUE"), rasterio.open(whole, "r+") as dataset:
        dataset.build_overviews([2, 4], rasterio.enums.Resampling.nearest)
    if level is not None:
        forget_block(whole, level)
    with pytest.raises(RssegError, match=r"blocks are missing: [1-9]"):
        verify_raster(whole, SQUARE, LABELS, whole)


def forget_block(path: Path, level: int) -> None:
    """Zeroes the place of an overview's first block in the tables of a little-endian classic TIFF."""
    data = bytearray(path.read_bytes())
    with rasterio.open(path) as dataset:
        places = [int(dataset.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1, ovr=level))]
        sizes = [int(dataset.get_tag_item("BLOCK_SIZE_0_0", "TIFF", bidx=1, ovr=level))]
    for directory in directories(data):
        for tag, kind, count, at in directory:
            width = {3: 2, 4: 4}.get(kind)
            if tag not in (324, 325) or width is None:
                continue
            start = at if width * count <= 4 else int.from_bytes(data[at : at + 4], "little")
            first = int.from_bytes(data[start : start + width], "little")
            if first in (places if tag == 324 else sizes):
                data[start : start + width] = bytes(width)
    path.write_bytes(data)


def directories(data: bytes) -> list[list[tuple[int, int, int, int]]]:
    found, at = [], int.from_bytes(data[4:8], "little")
    while at:
        count = int.from_bytes(data[at : at + 2], "little")
        entries = [at + 2 + 12 * n for n in range(count)]
        found.append([(*struct.unpack_from("<HHI", data, e), e + 8) for e in entries])
        at = int.from_bytes(data[entries[-1] + 12 : entries[-1] + 16], "little")
    return found


@pytest.mark.parametrize("level", [0, 1])
def test_sees_that_a_block_of_a_zoom_level_cannot_be_decoded(whole: Path, level: int) -> None:
    verify_pixels(whole, [], True, whole)
    with rasterio.open(whole) as dataset:
        place = int(dataset.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1, ovr=level))
    with whole.open("r+b") as file:
        file.seek(place + 20)
        file.write(bytes(50))
    verify_raster(whole, SQUARE, LABELS, whole)
    with pytest.raises(RssegError, match="could not be written"):
        verify_pixels(whole, [], True, whole)


@pytest.mark.parametrize(
    ("grid", "layout", "message"),
    [
        (replace(SQUARE, transform=TRANSFORM @ Affine.translation(1e-9, 0)), LABELS, "transform is"),
        (replace(SQUARE, crs=CRS.from_epsg(32634)), LABELS, "CRS is EPSG:32633, not EPSG:32634"),
        (replace(SQUARE, crs=None), LABELS, "CRS is EPSG:32633, not None"),
        (replace(SQUARE, height=1399), LABELS, "height and width"),
        (SQUARE, replace(LABELS, dtype="int16"), "data type"),
        (SQUARE, replace(LABELS, nodata=0), "nodata"),
        (SQUARE, replace(LABELS, nodata=None), "nodata"),
        (SQUARE, replace(LABELS, bands=("a", "b")), "number of bands"),
    ],
)
def test_sees_what_is_not_as_asked_for(whole: Path, grid: Grid, layout: Layout, message: str) -> None:
    with pytest.raises(RssegError, match=message) as caught:
        verify_raster(whole, grid, layout, Path("target.tif"))
    assert str(whole) not in caught.value.problem


@pytest.mark.parametrize("codec", ["DEFLATE", "NONE", "ZSTD", "LZW"])
def test_sees_a_hole_in_the_middle(path: Path, monkeypatch: pytest.MonkeyPatch, codec: str) -> None:
    """Uncompressed, GDAL reads zeros there and is content."""
    real = module._finish

    def with_hole(blocks: Path, final: Path, layout: Layout, options: dict[str, str]) -> None:
        real(blocks, final, layout, options)
        if final.name == "trial.tif":
            return
        with rasterio.open(final) as dataset:
            start = int(dataset.get_tag_item("BLOCK_OFFSET_1_1", "TIFF", bidx=1))
        with final.open("rb+") as file:
            file.seek(start + 4096)
            file.write(bytes(4096))
        assert final.stat().st_size == whole_size

    whole_size = 0
    sizes = path.with_name("sizes.tif")
    write_labels(sizes, options={"COMPRESS": codec})
    whole_size = sizes.stat().st_size
    monkeypatch.setattr(module, "_finish", with_hole)
    error = outcome(write_labels, path, options={"COMPRESS": codec})
    assert error is not None
    assert not path.exists()


def test_a_tampered_file_that_is_not_a_tiff(path: Path) -> None:
    path.write_text("<VRTDataset rasterXSize='1' rasterYSize='1'/>")
    with pytest.raises(RssegError, match=r"^target\.tif"):
        verify_raster(path, SMALL, LABELS, Path("target.tif"))


@pytest.mark.parametrize("values", [(), (311, 312)])
def test_a_map_is_read_back_whatever_its_classes_were_learned_from(path: Path, values: tuple[int, ...]) -> None:
    scheme = ClassScheme.of_names([("forest", values, None), ("water", (511,) if values else (), None)])
    with create_labels(path, SQUARE, scheme) as writer:
        writer.write(np.ones(SQUARE.shape, np.uint8), SQUARE.window)
    labels = open_label_raster(str(path))
    assert labels.scheme.names == ("forest", "water")
    assert (labels.read() == 1).all()
