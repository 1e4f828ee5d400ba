"""Little memory, and headers that ask for much: right results or a word about it, never a killed process."""

import re
import signal
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from limited import Limited
from rasterio.crs import CRS
from rasterio.shutil import copy
from untrained import save_untrained

UTM, PLACE = CRS.from_epsg(32633), Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)
SIZE = 600
MOST_MIB = 1024
# Rows of tiles are kept: memory is flat in the height of a raster, not in its width.
MOST_MIB_OF_ROWS = 2048
BANDS = ("--bands", "red=1,green=2,blue=3,nir=4", "--alpha", "no")
TIFF = {"B": 1, "H": 3, "I": 4}  # numbers of its types, by those of `struct`


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("memory")
    values = np.random.default_rng(1).integers(1, 255, (4, SIZE, SIZE)).astype("uint8")
    write_raster(folder / "scene.tif", values)
    write_raster(folder / "mask.tif", values[:1, :200, :200] // 86 + 1)
    save_untrained(folder / "model.safetensors")
    (folder / "classes.csv").write_text("value,name\n1,road\n2,tree\n3,water\n")
    return folder


def write_raster(path: Path, values: np.ndarray) -> None:
    count, height, width = values.shape
    shape = {"count": count, "height": height, "width": width, "dtype": values.dtype}
    with rasterio.open(path, "w", driver="GTiff", crs=UTM, transform=PLACE, **shape) as dataset:
        dataset.write(values)


@pytest.fixture(scope="module")
def limited(folder: Path) -> Iterator[Limited]:
    running = Limited(folder)
    yield running
    running.close()


@pytest.mark.parametrize(
    ("call", "written"),
    [
        (("segment", "scene.tif", *BANDS, "--model", "model.safetensors", "-o", "map.tif", "--overwrite"), "map.tif"),
        (("vectorize", "mask.tif", "-o", "map.gpkg", "--overwrite"), "map.gpkg"),
    ],
)
def test_with_less_and_less_memory(call, written: str, folder: Path, limited: Limited, thorough: bool) -> None:
    assert limited.run(*call).code == 0
    right, refused = content(folder / written), 0
    # With less, Python may wait for good for a thread that it could not start.
    steps = range(16, 640, 24) if thorough else (32, 256)
    for more_mib in steps:
        (folder / written).unlink(missing_ok=True)
        ended = limited.run(*call, more_mib=more_mib)
        assert ended.is_orderly, (more_mib, ended)
        if ended.code == 0:
            assert content(folder / written) == right
        else:
            # Of memory, GDAL says here and there no more than what it could not do.
            assert "memory" in ended.said or f"{written}: could not be written" in ended.said, (more_mib, ended)
            assert not (folder / written).exists()
        refused += ended.code
    print(f"{call[0]}: {len(steps)} limits of memory, {refused} refused, the others right")


def content(path: Path) -> bytes:
    if path.suffix == ".gpkg":
        return bytes(geopandas.read_file(path, layer=path.stem).to_wkb().to_csv(), "utf-8")
    with rasterio.open(path) as dataset:
        return bytes(dataset.read())


def write_tiff(path: Path, **tags: tuple[str, int]) -> None:
    """Nothing but a header; tags are named t256 and so on, in order."""
    entries = [
        struct.pack("<HHI4s", int(name[1:]), TIFF[kind], 1, struct.pack(f"<{kind}", value).ljust(4, b"\0"))
        for name, (kind, value) in tags.items()
    ]
    path.write_bytes(struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + b"".join(entries) + bytes(4) + bytes(64))


def write_png(path: Path, width: int, height: int, interlaced: int) -> None:
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, interlaced)),
        (b"IDAT", b"x\x9c"),
        (b"IEND", b""),
    )
    parts = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def write_envi(path: Path, width: int, height: int, bands: int) -> None:
    path.write_bytes(b"")
    with path.open("r+b") as file:
        file.truncate(min(width * height * bands, 1 << 40))
    lines = ["ENVI", f"samples = {width}", f"lines = {height}", f"bands = {bands}", "data type = 1", "interleave = bsq"]
    path.with_suffix(".hdr").write_text("\n".join([*lines, "header offset = 0", "byte order = 0", ""]))


def large_jp2(path: Path, of: Path) -> None:
    """All that it says of its size multiplied; its one tile too."""
    copy(of, path, driver="JP2OpenJPEG")
    said = path.read_bytes()
    for number in (struct.pack(">I", SIZE), struct.pack(">I", 1024)):
        said = said.replace(number, struct.pack(">I", 400_000))
    path.write_bytes(said)


def write_bombs(folder: Path) -> None:
    plain = {"t258": ("H", 8), "t259": ("H", 1), "t262": ("H", 1)}
    size = {"t256": ("I", 1_000_000), "t257": ("I", 1_000_000)}
    tiled = {
        "t277": ("H", 1),
        "t322": ("I", 1_000_000),
        "t323": ("I", 1_000_000),
        "t324": ("I", 200),
        "t325": ("I", 64),
    }
    packed = plain | {"t259": ("H", 8)}
    small = {"t256": ("I", 40_000), "t257": ("I", 40_000)}
    strip = {"t273": ("I", 200), "t277": ("H", 1), "t278": ("I", 40_000), "t279": ("I", 64)}
    write_tiff(folder / "one_tile.tif", **size, **packed, **tiled)
    write_tiff(folder / "one_strip.tif", **small, **packed, **strip)
    write_tiff(folder / "many_samples.tif", **small, **packed, **(strip | {"t277": ("H", 65_535)}))
    write_tiff(folder / "plain_strip.tif", **size, **plain, **strip)
    write_png(folder / "large.png", 1_000_000, 1_000_000, 0)
    write_png(folder / "interlaced.png", 60_000, 60_000, 1)
    write_envi(folder / "bands.img", 64, 64, 70_000)
    write_envi(folder / "wide.img", 2_000_000_000, 1, 1)
    write_envi(folder / "many.img", 16, 16, 5_000)
    large_jp2(folder / "large.jp2", folder / "scene.tif")
    loop = bytearray((folder / "mask.tif").read_bytes())
    at = struct.unpack("<I", loop[4:8])[0]
    end = at + 2 + 12 * struct.unpack("<H", loop[at : at + 2])[0]
    loop[end : end + 4] = struct.pack("<I", at)
    (folder / "circle.tif").write_bytes(bytes(loop))


# What is said of each; nothing: it is read.
BOMBS = {
    "one_tile.tif": "blocks of 1000000 x 1000000 pixels",
    "one_strip.tif": "cannot be read|blocks of",
    "many_samples.tif": "of memory are needed|has 65535 bands",
    "plain_strip.tif": "blocks of 1000000 x 40000 pixels",
    "large.png": "rows .* cannot be read",
    "interlaced.png": "rows .* cannot be read|of memory",
    "bands.img": "not a raster that rsseg can read",
    "wide.img": "not a raster that rsseg can read",
    "many.img": "",
    "large.jp2": "400000 x 400000 pixels of 4 bands, which its . MiB cannot hold",
    "circle.tif": "",
}


def test_headers_that_ask_for_much(folder: Path, limited: Limited) -> None:
    write_bombs(folder)
    for name, words in BOMBS.items():
        ended = limited.run("info", name, seconds=30)
        assert ended.is_orderly, (name, ended)
        assert ended.code == bool(words), (name, ended)
        assert re.search(words, ended.said), (name, ended)
        assert ended.mib < MOST_MIB, (name, ended)
    print(f"headers: {len(BOMBS)} that ask for much, {sum(map(bool, BOMBS.values()))} refused, the others read")


@pytest.fixture(scope="module")
def sparse(folder: Path) -> Path:
    """Five thousand million pixels in a small file."""
    path = folder / "sparse.tif"
    shape = {"count": 4, "height": 70_000, "width": 70_000, "dtype": "uint8", "nodata": 0}
    options = {"tiled": True, "blockxsize": 512, "blockysize": 512, "sparse_ok": True, "bigtiff": "yes"}
    with rasterio.open(path, "w", driver="GTiff", crs=UTM, transform=PLACE, **shape, **options) as dataset:
        values = np.random.default_rng(1).integers(1, 255, (4, 64, 64)).astype("uint8")
        dataset.write(values, window=rasterio.windows.Window(30_000, 30_000, 64, 64))
    corner = [PLACE @ at for at in ((30_000, 30_000), (30_064, 30_064))]
    area = geopandas.GeoDataFrame(geometry=[shapely.box(*corner[0], *corner[1])], crs=UTM)
    area.to_file(folder / "area.gpkg")
    return path


def test_a_raster_far_larger_than_memory(sparse: Path, folder: Path, limited: Limited, thorough: bool) -> None:
    segment = ("segment", sparse.name, *BANDS, "--model", "model.safetensors", "-o", "part.tif", "--overwrite")
    part = limited.run(*segment, "--aoi", "area.gpkg")
    assert part.code == 0, part
    assert part.mib < MOST_MIB
    with rasterio.open(folder / "part.tif") as dataset:
        assert dataset.shape == (64, 64)
    for call in (segment, ("vectorize", sparse.name, "--classes", "classes.csv", "-o", "all.gpkg", "--overwrite")):
        ended = limited.run(*call, seconds=20 if thorough else 3)
        assert ended.code == -signal.SIGPROF, ended  # at work, as long as it was let
        assert ended.mib < MOST_MIB_OF_ROWS
        print(f"{call[0]}: {ended.mib:.0f} MiB in a raster of 70,000 x 70,000 pixels")
