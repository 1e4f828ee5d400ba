"""Files made to do harm: none runs code, reads what it should not, asks a server, or keeps rsseg waiting."""

import os
import pickle
import re
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import torch
from affine import Affine
from limited import Ended, Limited
from rasterio.crs import CRS
from untrained import save_untrained

UTM, PLACE = CRS.from_epsg(32633), Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)
BANDS = ("--bands", "red=1,green=2,blue=3,nir=4", "--alpha", "no")
SOURCE = Path(__file__).parents[2] / "sample_scenes" / "source"
ANOTHER_SERVER = "http://192.0.2.1:9/x.tif"  # an address that is nobody's

BAND = '<VRTRasterBand dataType="Byte" band="1"{}>{}</VRTRasterBand>'
VRT = f'<VRTDataset rasterXSize="42" rasterYSize="1">{BAND}</VRTDataset>'
RAW = (
    ' subClass="VRTRawRasterBand"',
    "<SourceFilename relativetoVRT='{}'>{}</SourceFilename><PixelOffset>1</PixelOffset>",
)
LISTED = "<SimpleSource><SourceFilename relativeToVRT='1'>{}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>"
PYTHON = (
    "<PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage><PixelFunctionCode>"
    "<![CDATA[import pathlib\ndef f(*a, **k):\n  pathlib.Path('canary').touch()\n]]></PixelFunctionCode>" + LISTED
)
LAUGHS = (
    '<!DOCTYPE x [<!ENTITY a "haha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    "<qgis><paletteEntry value='1' label='&b;' color='#000000'/></qgis>"
)


class Touches:
    """Whoever unpickles it runs a program."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.system, ("touch canary",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With sound inputs in it."""
    folder = tmp_path_factory.mktemp("evil")
    values = np.random.default_rng(1).integers(1, 4, (4, 64, 64)).astype("uint8")
    for name, bands in (("scene.tif", values), ("mask.tif", values[:1])):
        opened = {"driver": "GTiff", "count": len(bands), "height": 64, "width": 64, "dtype": "uint8"}
        with rasterio.open(folder / name, "w", crs=UTM, transform=PLACE, **opened) as dataset:
            dataset.write(bands)
    save_untrained(folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("elsewhere") / "secret"
    path.write_bytes(b"the words that nobody may read out of this")
    return path


@pytest.fixture(scope="module")
def limited(folder: Path) -> Iterator[Limited]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GDAL_VRT_ENABLE_PYTHON", "YES")
        running = Limited(folder)
    yield running
    running.close()


@pytest.fixture(autouse=True)
def _untouched(folder: Path) -> Iterator[None]:
    yield
    assert not (folder / "canary").exists(), "its code was run"


def refused(ended: Ended, words: str) -> None:
    assert ended.code == 1, ended
    assert ended.is_orderly, ended
    assert re.search(words, ended.said), ended
    assert "hint: " in ended.said


@pytest.mark.parametrize(
    "call",
    [
        ("segment", "scene.tif", "--model", "evil.pth", "-o", "out.tif"),
        (
            "adapt",
            "--source",
            SOURCE,
            "--encoder",
            "mobilenet-v2",
            "--encoder-weights",
            "evil.pth",
            "-o",
            "m.safetensors",
        ),
        ("adapt", "--source", SOURCE, "--init", "evil.pth", "-o", "m.safetensors"),
        ("adapt", "--source", SOURCE, "--workdir", "work", "--resume", "-o", "m.safetensors"),
        ("info", "evil.safetensors"),
    ],
)
def test_a_pickle_runs_nothing(call: tuple[object, ...], folder: Path, limited: Limited, thorough: bool) -> None:
    if not thorough and "mobilenet-v2" in call:
        pytest.skip("for RSSEG_ALL_FAULTS=1")
    (folder / "work").mkdir(exist_ok=True)
    torch.save({"state_dict": Touches()}, folder / "evil.pth")
    (folder / "evil.safetensors").write_bytes(pickle.dumps(Touches()))
    shutil.copy(folder / "evil.pth", folder / "work" / "checkpoint.pt")
    refused(limited.run(*call, seconds=60), r"evil|checkpoint")


@pytest.fixture(scope="module")
def vrts(folder: Path, secret: Path) -> dict[str, str]:
    """VRTs under what a person may type, and what rsseg says of them."""
    raw = VRT.format(RAW[0], RAW[1].format(0, secret))
    files = {
        "raw.vrt": raw,
        "raw.tif": raw,
        "upwards.vrt": VRT.format(RAW[0], RAW[1].format(1, "../" * 30 + str(secret))),
        "shouting.vrt": raw.replace("subClass", "SUBCLASS").replace("VRTRaw", "vrtRAW").replace("SourceF", "sourcef"),
        "escaped.vrt": raw.replace("VRTRaw", "&#86;RTRaw"),
        "element.vrt": raw.replace(RAW[0], "").replace("<SourceF", "<subClass>VRTRawRasterBand</subClass><SourceF"),
        "outer.vrt": VRT.format("", LISTED.format("raw.vrt")),
        "disguised.vrt": VRT.format("", LISTED.format("raw.tif")),
        "outermost.vrt": VRT.format("", LISTED.format("outer.vrt")),
        "hidden.vrt": VRT.format("", LISTED.format("vrt://raw.tif?bands=1")),
        "zipped.vrt": VRT.format("", LISTED.format("/vsizip/raw.zip/raw.tif")),
        "python.vrt": VRT.format(' subClass="VRTDerivedRasterBand"', PYTHON.format("mask.tif")),
        "laughs.vrt": LAUGHS.replace("qgis", "VRTDataset"),
        "pipe.vrt": VRT.format("", LISTED.format("pipe")),
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "link.raw").symlink_to(secret)
    (folder / "linked.vrt").write_text(VRT.format(RAW[0], RAW[1].format(1, "link.raw")))
    with zipfile.ZipFile(folder / "raw.zip", "w") as archive:
        archive.write(folder / "raw.vrt", "raw.vrt")
        archive.write(folder / "raw.vrt", "raw.tif")
    said = dict.fromkeys(
        [*files, "linked.vrt", "vrt://raw.tif", "VRT://raw.tif", raw, "/vsizip/raw.zip/raw.vrt"],
        "bytes of .* as pixels",
    )
    named = {"raw.tif": "under another name", "python.vrt": "Python", "laughs.vrt": "entities", "pipe.vrt": "a pipe"}
    return said | named | {"/vsizip/raw.zip/raw.tif": "not a raster that rsseg can read"}


def test_a_vrt_reads_no_bytes_elsewhere_and_runs_no_python(
    vrts: dict[str, str], folder: Path, limited: Limited, thorough: bool
) -> None:
    pipe(folder)
    for name, words in vrts.items():
        for call in (("vectorize", name, "-o", "out.gpkg"), ("info", name))[: 1 + thorough]:
            refused(limited.run(*call, seconds=5), words)
    assert not (folder / "out.gpkg").exists()
    print(f"VRTs: {len(vrts)} that reach too far, all refused")


def test_a_vrt_may_read_raw_bytes_beside_it(folder: Path, limited: Limited) -> None:
    (folder / "beside.raw").write_bytes(bytes(range(42)))
    (folder / "beside.vrt").write_text(VRT.format(RAW[0], RAW[1].format(1, "beside.raw")))
    ended = limited.run("info", "beside.vrt")
    assert ended.code == 0
    assert "0 to 41" in ended.said
    assert "lists   " in ended.said


def pipe(folder: Path) -> Path:
    path = folder / "pipe"
    if not path.exists():
        os.mkfifo(path)
    return path


@pytest.mark.parametrize("kind", ["pipe", "device", "circle"])
def test_what_is_no_file_keeps_nobody_waiting(kind: str, folder: Path, limited: Limited) -> None:
    pipe(folder)
    for suffix in ("", ".gpkg", ".csv", ".safetensors", ".geojson"):
        link = folder / f"{kind}_{suffix}"
        link.symlink_to({"pipe": folder / "pipe", "device": Path("/dev/zero"), "circle": link}[kind])
    segment = ("segment", "scene.tif", *BANDS, "-o", "out.tif", "--model")
    for call in (
        ("info", f"{kind}_"),
        ("info", f"{kind}_.gpkg"),
        ("segment", f"{kind}_", "--model", "model.safetensors", "-o", "out.tif"),
        (*segment, f"{kind}_.safetensors"),
        (*segment, "model.safetensors", "--aoi", f"{kind}_.geojson"),
        ("vectorize", "mask.tif", "--classes", f"{kind}_.csv", "-o", "out.gpkg"),
        ("vectorize", "mask.tif", "--remap", f"{kind}_.csv", "-o", "out.gpkg"),
        ("evaluate", "mask.tif", f"{kind}_.gpkg"),
    ):
        refused(limited.run(*call, seconds=5), f"{kind}_")


@pytest.fixture(scope="module")
def to_servers(folder: Path) -> list[str]:
    """Files that would have GDAL ask a server."""
    wms = f"<GDAL_WMS><Service name='TMS'><ServerUrl>{ANOTHER_SERVER}</ServerUrl></Service></GDAL_WMS>"
    layer = f"<OGRVRTLayer name='a'><SrcDataSource>/vsicurl/{ANOTHER_SERVER}</SrcDataSource></OGRVRTLayer>"
    steps = f'{{"type": "gdal_streamed_alg", "command_line": "gdal vector pipeline ! read /vsicurl/{ANOTHER_SERVER}"}}'
    files = {
        "wms.tif": wms,
        "wms.xml": wms,
        "wms.vrt": wms,
        "wcs.tif": f"<WCS_GDAL><ServiceURL>{ANOTHER_SERVER}</ServiceURL><CoverageName>a</CoverageName></WCS_GDAL>",
        "layers.geojson": f"<OGRVRTDataSource>{layer}</OGRVRTDataSource>",
        "layers.gpkg": f"<OGRVRTDataSource>{layer}</OGRVRTDataSource>",
        "wfs.json": f"<OGRWFSDataSource><URL>{ANOTHER_SERVER}</URL></OGRWFSDataSource>",
        "steps.geojson": steps,
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    overviews = {"OVERVIEW_FILE": f"/vsicurl/{ANOTHER_SERVER}"}
    for name in ("beside.tif", "inside.tif"):
        shutil.copy(folder / "mask.tif", folder / name)
    with rasterio.open(folder / "inside.tif", "r+") as dataset:
        dataset.update_tags(ns="OVERVIEWS", **overviews)
    entry = f"<MDI key='OVERVIEW_FILE'>{overviews['OVERVIEW_FILE']}</MDI>"
    aux = f"<PAMDataset><Metadata domain='OVERVIEWS'>{entry}</Metadata></PAMDataset>"
    (folder / "beside.tif.aux.xml").write_text(aux)
    return [*files, "beside.tif", "inside.tif"]


def test_no_file_has_a_server_asked(to_servers: list[str], folder: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    trace = folder / "trace"
    call = ["strace", "-f", "-o", trace, "-e", "trace=connect,execve", sys.executable, "-m", "rsseg_cli", "info"]
    ended = subprocess.run([*call, *to_servers], cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    lines = trace.read_text().splitlines()
    assert "+++ exited with 1 +++" in lines[-1], ended.stderr
    assert "Traceback" not in ended.stderr
    assert [line for line in lines if "AF_INET" in line or "sendto" in line] == []
    assert sum("execve(" in line for line in lines) <= 3, "other programs were started"
    assert ended.stderr.count("error: ") == len(to_servers)


def test_features_that_a_file_only_says_it_has(folder: Path, limited: Limited) -> None:
    square = shapely.box(500_000, 4_999_990, 500_010, 5_000_000)
    frame = geopandas.GeoDataFrame({"class": ["1"]}, geometry=[square], crs=UTM)
    frame.to_file(folder / "many.gpkg", layer="many")
    with closing(sqlite3.connect(folder / "many.gpkg")) as database:
        database.execute("update gpkg_ogr_contents set feature_count = 1000000000000")
        database.commit()
    ended = limited.run("evaluate", "mask.tif", "many.gpkg", seconds=5, more_mib=1024)
    assert ended.is_orderly, ended
    assert "of 400 labelled pixels" in ended.said


def test_a_style_that_multiplies_itself(folder: Path, limited: Limited) -> None:
    shutil.copy(folder / "mask.tif", folder / "laughing.tif")
    (folder / "laughing.qml").write_text(LAUGHS)
    refused(
        limited.run("vectorize", "mask.tif", "--classes", "laughing.qml", "-o", "out.gpkg"), "declares XML entities"
    )
    ended = limited.run("vectorize", "laughing.tif", "-o", "out.gpkg", "--overwrite")
    assert ended.code == 0
    assert "laughing.qml: left out" in ended.said


def test_an_archive_is_not_unpacked(folder: Path, limited: Limited) -> None:
    with zipfile.ZipFile(folder / "slip.zip", "w") as archive:
        archive.write(folder / "mask.tif", "../slipped.tif")
        archive.write(folder / "mask.tif", "mask.tif")
    before = sorted(folder.parent.rglob("*"))
    assert limited.run("info", "/vsizip/slip.zip/mask.tif").code == 0
    refused(limited.run("info", "/vsizip/slip.zip"), "slip.zip")
    assert sorted(folder.parent.rglob("*")) == before
