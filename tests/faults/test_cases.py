"""What is known to go wrong with such tools, case by case: how each run ends, what it says, and what it leaves.

A row is a case: its number, what it is, the command line, the exit code, a pattern of what is said, what is made for
it, and what has to be so afterwards. Whatever fails names a file and says what to do.
`pytest -s tests/faults/test_cases.py` prints all of them, with how they ended.
"""

import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from cases import (
    LOCAL,
    OLD,
    PLACE,
    SIZE,
    Case,
    are_alike,
    blocks,
    bomb,
    both,
    copied,
    corners,
    cut,
    evil,
    in_half,
    is_old,
    layer,
    linked,
    looped,
    made,
    maps_all,
    model,
    noise,
    nothing_new,
    of_other_shape,
    pixels,
    placed,
    raster,
    sparse,
    spiral,
    spoil,
    text,
    vrt,
    with_nan,
    write,
    zipped,
)
from commands_that_write import Bench
from geopandas import read_file as read

MOST_SECONDS = 5  # of a processor
DEGREES = {"crs": "EPSG:4326", "transform": Affine(1e-4, 0, 15, 0, -1e-4, 45)}

MAP = "segment {} --model model.safetensors -o map.tif"
POLYGONS = "vectorize {} -o map.gpkg"
CHANGES = "detect-change {} -o change.tif --method cva"
LEARN = "adapt --source source --method source-only --steps 2 --batch 2 --crop-px 64 -o new.safetensors"
NO_FILE = nothing_new("map.tif", "map.gpkg", "change.tif", "new.safetensors")

# What a command's process is told before it begins.
AT_ROW = """
import signal
from rsseg_cli.journal import Journal
Journal.finish = lambda *_: os.kill(os.getpid(), signal.{})
"""
HELD = """
from filelock import FileLock
os.mkdir('.map.gpkg.rsseg')
held = FileLock('.map.gpkg.rsseg/lock')
held.acquire()
"""
WRITTEN_ANEW = """
from rsseg_cli import predict
really = predict.Walk._see
predict.Walk._see = lambda *given: (os.utime('scene.tif', (1, 1)), really(*given))[1]
"""
LITTLE_MEMORY = """
taken = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + (8 << 20),) * 2)
"""
NO_ROOM_FOR_TILES = """
import torch
from rsseg_cli import predict
really = predict.forward_of
def forward_of(*given):
    forward = really(*given)
    def seen(tiles):
        if len(tiles) > 1:
            raise torch.OutOfMemoryError('CUDA out of memory')
        return forward(tiles)
    return seen
predict.forward_of = forward_of
"""
NAN_LOSS = """
from rsseg_models.optimise import Descent
really = Descent.minimise
Descent.minimise = lambda self, loss, number: really(self, loss * float('nan'), number)
"""

# A case is easier to find in a table.
# fmt: off
CASES = (
    Case(1, "a file that is missing", MAP.format("none.tif"), says=r"none\.tif: no such file"),
    Case(2, "a folder without a raster", MAP.format("empty"), says=r"empty: .*no raster"),
    Case(3, "an empty file", MAP.format("zero.tif"), says=r"zero\.tif: the file is empty", make=text("zero.tif", "")),
    Case(4, "a text", MAP.format("t.tif"), says=r"t\.tif: not a raster", make=text("t.tif", "x,y\n1,2\n" * 50)),
    Case(5, "cut short", MAP.format("scene.tif"), says=r"scene\.tif: ", make=cut("scene.tif", 0.5)),
    Case(6, "cut in its header", MAP.format("scene.tif"), says=r"scene\.tif: ", make=cut("scene.tif", 0.01)),
    Case(7, "bytes changed, compressed", MAP.format("scene.tif"), says=r"scene\.tif: ", make=spoil("scene.tif", 0.5)),
    Case(8, "bytes changed, not compressed (nobody can tell: SECURITY.md)", MAP.format("plain.tif"), 0,
         make=both(raster("plain.tif", compress=None), spoil("plain.tif", 0.5))),
    Case(9, "tiles that are not there", MAP.format("sparse.tif"), 0, make=sparse,
         holds=lambda folder: (pixels(folder)[32:] == 255).all() and (pixels(folder)[:32, :32] < 255).all()),
    Case(10, "nothing but nodata", MAP.format("none.tif"), 0, r"warning: none\.tif: holds nothing but nodata",
         raster("none.tif", np.zeros((4, SIZE, SIZE), np.uint8), nodata=0),
         lambda folder: (pixels(folder) == 255).all()),
    Case(11, "NaN and infinity among the values", MAP.format("float.tif"), 0,
         make=raster("float.tif", np.where(noise() < 20, np.inf, np.where(noise() < 40, np.nan, noise())).astype("f4")),
         holds=lambda folder: (pixels(folder)[(noise() < 40).any(axis=0)] == 255).all()),
    Case(12, "a mask band", MAP.format("masked.tif"), 0,
         make=raster("masked.tif", mask=np.kron([[0, 255]], np.ones((SIZE, SIZE // 2))).astype(np.uint8)),
         holds=lambda folder: (pixels(folder)[:, : SIZE // 2] == 255).all() and (pixels(folder)[:, -1] < 255).all()),
    Case(13, "nodata that is a class", POLYGONS.format("m.tif"), 0, make=raster("m.tif", blocks(), nodata=2),
         holds=lambda folder: 0 < len(layer(folder)) < 36),
    Case(14, "too few bands", MAP.format("two.tif"), says=r"two\.tif has 2 bands.*needs 4",
         make=raster("two.tif", noise(2))),
    Case(15, "complex numbers", MAP.format("c.tif"), says=r"c\.tif: .*complex",
         make=raster("c.tif", noise().astype(np.complex64))),
    Case(15, "16 bits", MAP.format("u16.tif"), 0, make=raster("u16.tif", noise().astype(np.uint16) * 100),
         holds=maps_all),
    Case(16, "one row", MAP.format("row.tif"), 0, make=raster("row.tif", noise(4, 1, 50)),
         holds=lambda folder: pixels(folder).shape == (1, 50)),
    Case(17, "an output of more than 4 GB", "",
         skip="too large to write here; tests/raster/test_write.py: BIGTIFF=IF_SAFER"),
    Case(18, "a header of 200,000 x 200,000 pixels", "info bomb.tif", 0, make=bomb),
    Case(19, "no coordinate system (as documented: a note)", MAP.format("n.tif"), 0,
         r"note: n\.tif: has no coordinate system", raster("n.tif", crs=None)),
    Case(20, "no place at all (as documented: a note)", MAP.format("n.tif"), 0, "no coordinate",
         raster("n.tif", crs=None, transform=None)),
    Case(21, "turned", MAP.format("turned.tif"), 0, make=raster("turned.tif", transform=PLACE @ Affine.rotation(30)),
         holds=lambda folder: placed(folder) == PLACE @ Affine.rotation(30)),
    Case(22, "south at the top", MAP.format("south.tif"), 0,
         make=raster("south.tif", transform=Affine(0.5, 0, 500_000, 0, 0.5, 5_000_000)),
         holds=lambda folder: placed(folder).e == 0.5),
    Case(23, "control points in place of a grid", MAP.format("gcp.tif"), says=r"gcp\.tif: .*\n.*gdalwarp",
         make=raster("gcp.tif", crs="EPSG:4326", transform=None, gcps=corners())),
    Case(24, "degrees: areas in square metres", POLYGONS.format("deg.tif --json"), 0, r'"area_m2": [1-9]\d{4,}\.',
         raster("deg.tif", blocks(), **DEGREES)),
    Case(25, "across the antimeridian", POLYGONS.format("anti.tif"), 0,
         make=raster("anti.tif", blocks(), crs="EPSG:4326", transform=Affine(1e-3, 0, 179.95, 0, -1e-3, 10)),
         holds=lambda folder: read(folder / "map.gpkg", layer="map").bounds.eval("maxx - minx").max() < 1),
    Case(26, "a coordinate system of its own", MAP.format("local.tif"), 0, make=raster("local.tif", crs=LOCAL),
         holds=lambda folder: "site grid" in rasterio.open(folder / "map.tif").crs.to_wkt()),
    Case(27, "PROJ data of another program (as documented: set aside)",
         "PROJ_DATA=/nowhere PROJ_LIB=/nowhere $RSSEG info mask.tif", 0, "PROJ_DATA set aside", shell=True),
    Case(28, "a VRT called .tif", MAP.format("v.tif"), says=r"v\.tif: is a VRT", make=vrt("v.tif", "scene.tif")),
    Case(29, "a VRT without its source", "info v.vrt", says=r"v\.vrt", make=vrt("v.vrt", "gone.tif")),
    Case(30, "a server that does not answer (as documented: remote names are allowed)",
         "info /vsicurl/http://127.0.0.1:9/x.tif", says=r"/vsicurl/http://127\.0\.0\.1:9/x\.tif: "),
    Case(31, "a zip that names files above it", "info /vsizip/slip.zip/../../slipped.tif", says=r"slip\.zip",
         make=zipped, holds=lambda folder: not list(folder.parent.glob("**/slipped.tif"))),
    Case(32, "a pipe", "info pipe.tif", says=r"pipe\.tif: is a pipe",
         make=lambda folder: os.mkfifo(folder / "pipe.tif")),
    Case(32, "a device", "info /dev/zero", says="/dev/zero: is a device"),
    Case(32, "a link to itself", "info loop.tif", says=r"loop\.tif: ", make=looped),
    Case(33, "an input that is written anew meanwhile", MAP.format("scene.tif"), says=r"scene\.tif: was changed",
         first=WRITTEN_ANEW, holds=NO_FILE),
    Case(34, "stale overviews beside it", MAP.format("scene.tif"), 0, make=text("scene.tif.ovr", b"rubbish"),
         holds=maps_all),
    Case(35, "dates in two coordinate systems (as documented: aligned)", CHANGES.format("before.tif after.tif"), 0,
         "resampled", raster("after.tif", noise(seed=3), crs="EPSG:25833")),
    Case(36, "dates of two sizes (as documented: aligned)", CHANGES.format("before.tif after.tif"), 0, "resampled",
         raster("after.tif", noise(4, 48, 48), transform=PLACE @ Affine.scale(2))),
    Case(37, "dates of two places", CHANGES.format("before.tif after.tif"),
         says=r"before\.tif and after\.tif share no ground",
         make=raster("after.tif", transform=Affine.translation(9e4, 0) @ PLACE)),
    Case(38, "one date twice", CHANGES.format("before.tif same.tif"), 0, "warning: .*hold the same pixels",
         copied("before.tif", "same.tif")),
    Case(39, "dates half a pixel apart", CHANGES.format("before.tif after.tif"), 0,
         make=raster("after.tif", transform=Affine.translation(0.25, 0) @ PLACE)),
    Case(40, "scenes of several kinds in one folder", "segment several --model model.safetensors -o maps",
         says=r"several/b\.tif has 2 bands",
         make=both(made("several"), made("maps"), raster("several/a.tif"), raster("several/b.tif", noise(2)))),
    Case(41, "class numbers with fractions", POLYGONS.format("m.tif"),
         says=r"m\.tif: holds \d\.5, which is no class number", make=raster("m.tif", blocks().astype("f4") + 0.5)),
    Case(41, "class numbers as floats", POLYGONS.format("m.tif"), 0, make=raster("m.tif", blocks().astype("f4"))),
    Case(42, "large and negative class numbers", POLYGONS.format("m.tif"), 0,
         make=raster("m.tif", np.choose(blocks() - 1, (16_777_217, 16_777_216, -5)).astype("i4")),
         holds=lambda folder: set(layer(folder)["class_id"]) == {16_777_217, 16_777_216, -5}),
    Case(43, "an image in place of a mask", POLYGONS.format("m.tif"), says=r"m\.tif: holds more than",
         make=raster("m.tif", np.arange(SIZE * SIZE, dtype=np.uint16).reshape(SIZE, SIZE))),
    Case(44, "a chessboard", POLYGONS.format("m.tif --exact"), 0,
         make=raster("m.tif", (np.indices((SIZE, SIZE)).sum(axis=0) % 2 + 1).astype(np.uint8)),
         holds=lambda folder: len(layer(folder)) == SIZE * SIZE),
    Case(45, "regions that touch at a corner", POLYGONS.format("m.tif --exact"), 0,
         make=raster("m.tif", np.array([[1, 2], [2, 1]], np.uint8)),
         holds=lambda folder: len(layer(folder)) == 4),
    Case(46, "a region that winds through all blocks", POLYGONS.format("m.tif --exact"), 0,
         make=raster("m.tif", spiral(), tiled=True, blockxsize=16, blockysize=16),
         holds=lambda folder: layer(folder).area.sum() == pytest.approx(SIZE**2 / 4)),
    Case(47, "no polygon", POLYGONS.format("m.tif"), 0,
         make=raster("m.tif", np.full((SIZE, SIZE), 255, np.uint8), nodata=255),
         holds=lambda folder: len(layer(folder)) == 0),
    Case(48, "weights that run code", f"{LEARN} --encoder mobilenet-v2 --encoder-weights evil.pth",
         says=r"evil\.pth holds more than tensors", make=evil, holds=nothing_new("canary", "new.safetensors")),
    Case(49, "a model cut short", MAP.format("scene.tif"), says=r"model\.safetensors: .*damaged",
         make=cut("model.safetensors", 0.7), holds=NO_FILE),
    Case(50, "a model of another shape", "segment scene.tif --model other.safetensors -o map.tif",
         says=r"other\.safetensors: its weights do not fit", make=model(other=of_other_shape), holds=NO_FILE),
    Case(51, "a model with weights that are no numbers", "segment scene.tif --model nan.safetensors -o map.tif",
         says=r"nan\.safetensors: holds weights that are no numbers", make=model(nan=with_nan), holds=NO_FILE),
    Case(52, "a model with bytes changed", MAP.format("scene.tif"), says=r"model\.safetensors: .*damaged",
         make=spoil("model.safetensors", 0.9), holds=NO_FILE),
    Case(53, "a model in half precision", "segment scene.tif --model half.safetensors -o map.tif", 0,
         make=model(half=in_half), holds=maps_all),
    Case(54, "learning that comes to no numbers", f"{LEARN} --workdir work",
         says="source-only failed: .*at step 1\n.*--set learning_rate=", first=NAN_LOSS, holds=NO_FILE),
    Case(55, "a disk that is full while it is written", POLYGONS.format("mask.tif"),
         says=r"map\.gpkg: could not be written", first="limit(20_000)", holds=NO_FILE),
    Case(56, "a disk that is full when it is closed", MAP.format("scene.tif"), says=r"map\.tif: could not be written",
         first="unreserved(); limit(600)", holds=NO_FILE),
    Case(57, "the same, with threads", MAP.format("scene.tif"), says=r"map\.tif: could not be written",
         first="os.environ['GDAL_NUM_THREADS'] = '2'; unreserved(); limit(600)", holds=NO_FILE),
    Case(58, "no room for the spatial index", POLYGONS.format("board.tif --exact"),
         says=r"map\.gpkg: (could not be written|came out damaged)",
         make=raster("board.tif", (np.indices((SIZE, SIZE)).sum(axis=0) % 2 + 1).astype(np.uint8)),
         first="unreserved(); limit(2_000_000)", holds=NO_FILE),
    Case(59, "no folder for the output", POLYGONS.format("mask.tif").replace("map", "no/map"),
         says=r"no/map\.gpkg: there is no folder no"),
    Case(60, "an output that is an input", "vectorize mask.tif -o again.gpkg --overwrite",
         says=r"again\.gpkg: is also an input", make=linked),
    Case(60, "an output that is a folder", CHANGES.format("before.tif after.tif"), says=r"change\.tif: is a folder",
         make=made("change.tif"), holds=lambda folder: not list((folder / "change.tif").iterdir())),
    Case(61, "an output that is there", POLYGONS.format("mask.tif"), says=r"map\.gpkg: exists already",
         make=text("map.gpkg", OLD), holds=is_old("map.gpkg")),
    Case(61, "an output that is there, when a run fails", POLYGONS.format("mask.tif --overwrite"),
         says=r"map\.gpkg: could not be written", make=text("map.gpkg", OLD), first="limit(20_000)",
         holds=is_old("map.gpkg")),
    Case(62, "what is added to is no GeoPackage", POLYGONS.format("mask.tif --append"), says=r"map\.gpkg: ",
         make=text("map.gpkg", OLD), holds=is_old("map.gpkg")),
    Case(63, "what is added to has another coordinate system", POLYGONS.format("deg.tif --append --layer polygons"),
         says=r"map\.gpkg: ", make=both(raster("deg.tif", blocks(), **DEGREES), copied("polygons.gpkg", "map.gpkg")),
         holds=are_alike("map.gpkg", "polygons.gpkg")),
    Case(64, "two runs, one output", POLYGONS.format("mask.tif"), says=r"map\.gpkg: another rsseg run", first=HELD,
         holds=NO_FILE),
    Case(65, "what a killed run left", POLYGONS.format("mask.tif"), 0,
         make=both(made(".map.gpkg.rsseg"), text(".map.gpkg.rsseg/map.gpkg", OLD)),
         holds=lambda folder: len(layer(folder)) > 0 and not list(folder.glob(".map*"))),
    Case(66, "SIGINT", MAP.format("scene.tif"), 130, "interrupted", first=AT_ROW.format("SIGINT"), holds=NO_FILE),
    Case(66, "SIGTERM", MAP.format("scene.tif"), 143, "terminated", first=AT_ROW.format("SIGTERM"), holds=NO_FILE),
    Case(67, "SIGKILL", MAP.format("scene.tif --overwrite"), -9, make=text("map.tif", OLD),
         first=AT_ROW.format("SIGKILL"), holds=is_old("map.tif")),
    Case(68, "nobody reads on", "$RSSEG vectorize mask.tif -o - -q | true", 0, "^$", shell=True),
    Case(69, "stdout and stderr closed", "$RSSEG vectorize mask.tif -o map.gpkg >&- 2>&-", 0, shell=True,
         holds=lambda folder: len(layer(folder)) > 0),
    Case(70, "little memory", MAP.format("scene.tif"), says=r"not enough memory",
         make=raster("scene.tif", noise(4, 700, 700)), first=LITTLE_MEMORY, holds=NO_FILE),
    Case(71, "a GPU's memory, played", MAP.format("scene.tif --batch 2 --tile-px 64 --overlap-px 0"), 0,
         r"warning: scene\.tif: not enough memory; trying once more with --batch 1", first=NO_ROOM_FOR_TILES,
         holds=maps_all),
    Case(71, "a GPU's memory", MAP.format("scene.tif --tile-px 8192 --device cuda"), says="not enough memory",
         first="import torch; torch.cuda.set_per_process_memory_fraction(0.001)",
         skip="" if torch.cuda.is_available() else "there is no GPU here"),
    Case(72, "one processor", MAP.format("scene.tif"), 0,
         first="os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"),
    Case(73, "another language",
         "vectorize mask.tif -o map.geojson --layer mask", 0,
         first="import locale; os.environ['LC_ALL'] = 'C'; locale.setlocale(locale.LC_ALL, '')",
         holds=are_alike("map.geojson", "usual.geojson")),
    Case(74, "a name with spaces, letters of all kinds and a line's end", POLYGONS.format("'Ort ü 地\n.tif'"), 0,
         make=raster("Ort ü 地\n.tif", blocks())),
    Case(74, "a name that is no text", POLYGONS.format("mask.tif").replace("map", "m\udcff"), says="not valid UTF-8"),
    Case(74, "a name of 255 bytes", POLYGONS.format("mask.tif").replace("map", 250 * "m"),
         says="the name is too long"),
    Case(75, "no folder for temporary files", POLYGONS.format("mask.tif"), 0,
         first="os.environ['TMPDIR'] = '/nowhere'"),
    Case(76, "no home", POLYGONS.format("mask.tif"), 0, first="os.environ.pop('HOME', None)"),
    Case(77, "no network", MAP.format("scene.tif"), 0, first="import socket; socket.socket.connect = None"),
    Case(78, "a clock that jumps back", MAP.format("scene.tif"), 0, first="import time; time.time = lambda: 0.0"),
    Case(79, "going on with another run", MAP.format("scene.tif --resume"),
         says=r"the run to go on with differs: .*scene was town\.tif, is scene\.tif.*\n.*without --resume",
         make=both(made(".map.tif.rsseg-rows"), text(".map.tif.rsseg-rows/run.json", '{"scene": "town.tif"}')),
         holds=NO_FILE),
)
# fmt: on


@pytest.fixture(scope="module")
def stock(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What most cases read."""
    folder = tmp_path_factory.mktemp("stock")
    shutil.copytree(bench.folder / "inputs" / "source", folder / "source")
    shutil.copy(bench.folder / "inputs" / "untrained.safetensors", folder / "model.safetensors")
    (folder / "empty").mkdir()
    for name, seed in (("scene.tif", 1), ("before.tif", 2), ("after.tif", 3)):
        write(folder / name, noise(seed=seed))
    write(folder / "mask.tif", blocks())
    for name, called in (("polygons.gpkg", "polygons"), ("usual.geojson", "mask")):
        assert bench.rsseg.run(folder, "vectorize", "mask.tif", "-o", name, "--layer", called).code == 0
    return folder


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def test_case(bench: Bench, stock: Path, tmp_path: Path, case: Case, thorough: bool) -> None:
    if skip := case.skip or ("" if thorough or not case.shell else "RSSEG_ALL_FAULTS=1 tries it"):
        print(f"\n{case.label}: not tried, {skip}")
        pytest.skip(skip)
    folder = tmp_path / "here"
    shutil.copytree(stock, folder)
    if case.make:
        case.make(folder)
    code, said, seconds = _in_shell(case.line, folder) if case.shell else _forked(bench, case, folder)
    print(f"\n{case.label}: exit {code}, {seconds:.1f} s: {_last(said)}")
    assert code == case.code, said
    assert re.search(case.says, said), said
    assert "Traceback" not in said
    assert code != 1 or "hint: " in said, said
    assert seconds < MOST_SECONDS
    assert case.holds is None or case.holds(folder)


def test_every_case_has_a_row() -> None:
    assert [number for number, _ in itertools.groupby(case.number for case in CASES)] == list(range(1, 80))


def _forked(bench: Bench, case: Case, folder: Path) -> tuple[int, str, float]:
    ended = bench.rsseg.run(folder, *shlex.split(case.line), first=case.first)
    return ended.code, ended.stdout + ended.stderr, ended.cpu_s


def _in_shell(line: str, folder: Path) -> tuple[int, str, float]:
    own = os.environ | {"RSSEG": f"{sys.executable} -m rsseg_cli", "OMP_NUM_THREADS": "1"}
    began = sum(os.times()[2:4])
    ended = subprocess.run(["bash", "-c", line], cwd=folder, env=own, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stdout + ended.stderr, sum(os.times()[2:4]) - began


def _last(said: str) -> str:
    """What matters of it: the error and its hint, else what is warned of, else what is last."""
    told = re.search(r"^error: ((?:.|\n)*)", said, re.MULTILINE) or re.search(r"^warning: (.*)", said, re.MULTILINE)
    return " | ".join(told[1].strip().split("\n")) if told else said.strip().rpartition("\n")[2]
