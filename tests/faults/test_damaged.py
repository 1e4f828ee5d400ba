"""Inputs cut short and bytes flipped in them: each run ends well or is refused in words, soon and in little memory."""

import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from limited import Ended, Limited
from rasterio.crs import CRS
from rasterio.shutil import copy
from untrained import save_untrained

from rsseg_cli.class_files import qml_of, read_classes

UTM, PLACE = CRS.from_epsg(32633), Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)
SIZE = 96
MOST_SECONDS, MOST_MIB = 5, 1024
# Where formats keep what the rest is understood by.
HEAD_BYTES = 600
CLASSES = "value,name,color\n1,road,#aa0000\n2,tree,#00aa00\n3,water,#0000aa\n"

BANDS = ("--bands", "red=1,green=2,blue=3,nir=4", "--alpha", "no")
SEGMENT = ("segment", "{}", "--model", "model.safetensors", "-o", "out.tif", "--overwrite", *BANDS)
VECTORIZE = ("vectorize", "{}", "-o", "out.gpkg", "--overwrite")
EVALUATE = ("evaluate", "mask.tif", "{}", "--classes", "classes.csv")
# What is damaged, and the command that reads it.
INPUTS = {
    "deflate.tif": SEGMENT,
    "zstd.tif": SEGMENT,
    "plain.tif": SEGMENT,
    "striped.tif": ("info", "{}"),
    "scene.png": ("info", "{}"),
    "scene.jp2": SEGMENT,
    "scene.vrt": SEGMENT,
    "mask.tif": VECTORIZE,
    "labels.gpkg": EVALUATE,
    "labels.geojson": EVALUATE,
    "labels.fgb": EVALUATE,
    "model.safetensors": ("segment", "deflate.tif", "--model", "{}", "-o", "out.tif", "--overwrite", *BANDS),
    "classes.qml": ("vectorize", "mask.tif", "--classes", "{}", "-o", "out.gpkg", "--overwrite"),
    "classes.csv": ("vectorize", "mask.tif", "--classes", "{}", "-o", "out.gpkg", "--overwrite"),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of inputs with nothing wrong."""
    folder = tmp_path_factory.mktemp("sound")
    values = np.random.default_rng(1).integers(1, 255, (4, SIZE, SIZE)).astype("uint8")
    write_raster(folder / "deflate.tif", values, compress="deflate", tiled=True, blockxsize=32, blockysize=32)
    write_raster(folder / "zstd.tif", values, compress="zstd", tiled=True, blockxsize=32, blockysize=32)
    write_raster(folder / "plain.tif", values, tiled=True, blockxsize=32, blockysize=32)
    write_raster(folder / "striped.tif", values, compress="lzw")
    write_raster(folder / "mask.tif", values[:1] // 86 + 1, nodata=255, compress="deflate")
    copy(folder / "plain.tif", folder / "scene.png", driver="PNG")
    copy(folder / "plain.tif", folder / "scene.jp2", driver="JP2OpenJPEG")
    copy(folder / "deflate.tif", folder / "scene.vrt", driver="VRT")
    write_labels(folder)
    save_untrained(folder / "model.safetensors")
    (folder / "classes.csv").write_text(CLASSES)
    (folder / "classes.qml").write_text(qml_of(read_classes(folder / "classes.csv")))
    return folder


def write_raster(path: Path, values: np.ndarray, **profile: object) -> None:
    count, height, width = values.shape
    shape = {"count": count, "height": height, "width": width, "dtype": values.dtype}
    with rasterio.open(path, "w", driver="GTiff", crs=UTM, transform=PLACE, **shape, **profile) as dataset:
        dataset.write(values)


def write_labels(folder: Path) -> None:
    x, y = (PLACE.c + np.arange(0, 40, 10), PLACE.f - np.arange(10, 50, 10))
    squares = [shapely.box(left, bottom, left + 8, bottom + 8) for left in x for bottom in y]
    names = ["road", "tree", "water", "tree"] * 4
    frame = geopandas.GeoDataFrame({"class": names, "year": range(16)}, geometry=squares, crs=UTM)
    frame.to_file(folder / "labels.gpkg")
    frame.to_file(folder / "labels.fgb", driver="FlatGeobuf")
    frame.to_crs(4326).to_file(folder / "labels.geojson")


@pytest.fixture(scope="module")
def limited(sound: Path) -> Iterator[Limited]:
    running = Limited(sound)
    yield running
    running.close()


def cuts(content: bytes, count: int) -> Iterator[bytes]:
    for number in range(count):
        yield content[: len(content) * (2 * number + 1) // (2 * count)]


def flips(content: bytes, count: int, seed: str) -> Iterator[bytes]:
    """Every second one near the beginning."""
    draw = random.Random(seed)
    for number in range(count):
        damaged = bytearray(content)
        for _ in range(draw.choice((1, 1, 2, 8))):
            damaged[draw.randrange(min(HEAD_BYTES, len(content)) if number % 2 else len(content))] = draw.randrange(256)
        if damaged != content:
            yield bytes(damaged)


def damages(name: str, content: bytes, thorough: bool) -> Iterator[bytes]:
    cut, flipped = (48, 90) if thorough else (1, 2)
    yield from cuts(content, 256 if thorough and name == "deflate.tif" else cut)
    yield from flips(content, flipped, name)


@pytest.mark.parametrize("name", INPUTS)
def test_damaged_inputs_are_read_or_refused_in_words(name: str, sound: Path, limited: Limited, thorough: bool) -> None:
    content, damaged = (sound / name).read_bytes(), sound / f"damaged_{name}"
    call = [part.replace("{}", damaged.name) for part in INPUTS[name]]
    files = [part for part in call if Path(part).suffix]
    damaged.write_bytes(content)
    assert limited.run(*call).code == 0
    right = result(sound, call)
    ends: list[Ended] = []
    for number, bad in enumerate(damages(name, content, thorough)):
        damaged.write_bytes(bad)
        ended = limited.run(*call, seconds=MOST_SECONDS)
        assert ended.is_orderly, (number, ended, kept(damaged))
        assert ended.mib < MOST_MIB, (number, ended, kept(damaged))
        assert ended.code == 0 or ("hint: " in ended.said and any(name in ended.said for name in files)), (
            number,
            ended,
        )
        if name == "model.safetensors" and ended.code == 0:
            assert result(sound, call) == right, (number, "another map, and not a word", kept(damaged))
        ends.append(ended)
    refused = sum(ended.code for ended in ends)
    slowest, largest = max(ended.seconds for ended in ends), max(ended.mib for ended in ends)
    print(f"{name}: {len(ends)} damaged, {refused} refused, others read; {slowest:.1f} s, {largest:.0f} MiB at most")


def result(folder: Path, call: Sequence[str]) -> bytes:
    """What a run wrote."""
    return (folder / "out.tif").read_bytes() if "out.tif" in call else b""


def kept(damaged: Path) -> Path:
    """Where a file that did harm can be looked at."""
    return Path(shutil.copy(damaged, damaged.with_name(f"harmful_{damaged.name}")))
