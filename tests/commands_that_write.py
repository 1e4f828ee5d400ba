"""Every command that writes, on small inputs: what it writes when nothing goes wrong, and how it may end when something
does."""

import hashlib
import json
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import rasterio
from forked import Ended, Rsseg, Running
from rasterio.errors import RasterioError
from rasterio.windows import Window
from safetensors import SafetensorError, safe_open
from untrained import save_untrained

SAMPLES = Path(__file__).parents[1] / "sample_scenes"
CUT = ("source/meadow_1", "source/meadow_1_labels", "source/meadow_2", "source/meadow_2_labels", "target/karst_1")
PAIR = ("change/before", "change/after")
SMALL_PX = 128
# Columns of a GeoPackage that hold the time of writing.
TIMES = ("last_change", "update_time")
OLD = b"old"
# What is counted, as it is printed.
KINDS = {"silent": "silent", "partial": "partial", "traceback": "tracebacks", "untold": "without help"}


@dataclass(frozen=True)
class Command:
    """A command line, and the files that it writes into the folder where it runs. INPUTS stands for a folder."""

    name: str
    argv: tuple[str, ...]
    outputs: tuple[str, ...]  # the first of them last
    resumes: bool = False
    adds: bool = False  # to a file that has to be there
    quick: bool = True  # few tenths of a second

    def __str__(self) -> str:
        return self.name


VECTORIZE = tuple(
    Command(
        f"vectorize to {suffix}",
        ("vectorize", "INPUTS/source/meadow_1_labels.tif", "-o", f"map.{suffix}"),
        (f"map.{suffix}",),
    )
    for suffix in ("gpkg", "fgb", "geojson", "parquet")
)
CHANGE = (
    "detect-change",
    *(f"INPUTS/{name}.tif" for name in PAIR),
    "-o",
    "change.tif",
    "--probability",
    "score.tif",
    "--polygons",
)
LEARN = ("--crop-px", "64", "--batch", "2", "-o", "model.safetensors")
MAPS = ("-o", "labels.tif", "--probabilities", "probabilities.tif", "--confidence", "confidence.tif")
SEGMENT = Command(
    "segment",
    ("segment", str(SAMPLES / "target" / "karst_1.tif"), "--model", "INPUTS/untrained.safetensors", *MAPS),
    ("labels.tif", "labels.qml", "probabilities.tif", "confidence.tif"),
    resumes=True,
)
KEPT = ("--workdir", "work")
ADAPT = ("adapt", "--source", "INPUTS/source")
COMMANDS = (
    SEGMENT,
    *VECTORIZE,
    Command("vectorize --append", (*VECTORIZE[0].argv, "--layer", "more", "--append"), ("map.gpkg",), adds=True),
    Command(
        "detect-change by cva",
        (*CHANGE, "change.gpkg", "--method", "cva"),
        ("change.tif", "change.qml", "score.tif", "change.gpkg"),
        resumes=True,
    ),
    Command(
        "adapt",
        (*ADAPT, "--method", "source-only", "--steps", "2", *LEARN),
        ("model.safetensors",),
    ),
    Command("qgis-plugin", ("qgis-plugin", "-o", "rsseg.zip"), ("rsseg.zip",)),
    Command(
        "detect-change by ir-mad",
        (*CHANGE, "change.fgb", "--method", "ir-mad"),
        ("change.tif", "change.qml", "score.tif", "change.fgb"),
        resumes=True,
        quick=False,
    ),
    Command(
        "detect-change by metric-cd",
        (*CHANGE, "change.gpkg", "--steps", "5"),
        ("change.tif", "change.qml", "score.tif", "change.gpkg"),
        resumes=True,
        quick=False,
    ),
    Command(
        "adapt by self-training",
        (*ADAPT, "--target", "INPUTS/target", "--steps", "3", "--set", "source.steps=3", *LEARN, *KEPT),
        ("model.safetensors",),
        resumes=True,
        quick=False,
    ),
)


def chosen(thorough: bool) -> tuple[Command, ...]:
    return tuple(command for command in COMMANDS if command.quick or thorough)


def write_inputs(folder: Path) -> None:
    """Pieces of the sample scenes, and a model that maps noise."""
    for name in (*CUT, *PAIR):
        _cut(SAMPLES / f"{name}.tif", folder / f"{name}.tif")
    with rasterio.open(SAMPLES / "target" / "karst_1.tif") as scene:
        save_untrained(folder / "untrained.safetensors", scene.descriptions, scene.res[0])


def _cut(scene: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Window(0, 0, SMALL_PX, SMALL_PX)
    with rasterio.open(scene) as source:
        profile = source.profile | {"width": SMALL_PX, "height": SMALL_PX, "driver": "GTiff"}
        with rasterio.open(target, "w", **profile) as cut:
            cut.write(source.read(window=part))
            cut.descriptions = source.descriptions
            cut.update_tags(**source.tags())
            if source.count == 1:
                cut.write_colormap(1, source.colormap(1))


@dataclass(frozen=True)
class Usual:
    """What a command does when nothing goes wrong."""

    files: Mapping[str, str]  # digests of what it writes, by name
    most_bytes: int  # of the largest of its files
    all_bytes: int
    calls: int  # that changed files
    seconds: float


class Bench:
    """A folder where commands run one after another, and what they should have done there."""

    def __init__(self, rsseg: Rsseg, folder: Path) -> None:
        self.rsseg, self.folder, self.place = rsseg, folder, folder / "here"
        self._usual: dict[str, Usual] = {}
        write_inputs(folder / "inputs")

    def usual(self, command: Command) -> Usual:
        if command.name not in self._usual:
            self.clear(command)
            started = time.monotonic()
            ended = self.start(command, first=self.failing(0) if self.rsseg.can_fail else "").end()
            seconds = time.monotonic() - started
            assert (ended.code, strays(self.place)) == (0, []), ended.stderr
            sizes = [(self.place / name).stat().st_size for name in command.outputs]
            files = found(self.place, command)
            self._usual[command.name] = Usual(files, max(sizes), sum(sizes), ended.calls, seconds)
        return self._usual[command.name]

    def start(self, command: Command, *more: str, old: bool = False, resume: bool = False, first: str = "") -> Running:
        more += ("--overwrite",) * (old and not command.adds) + ("--resume",) * (resume and command.resumes)
        return self._start(self.place, (*command.argv, *more), first)

    def _start(self, place: Path, line: Iterable[str], first: str = "") -> Running:
        words = [word.replace("INPUTS", str(self.folder / "inputs")) for word in line]
        return self.rsseg.start(place, *words, first=first)

    def clear(self, command: Command, old: bool = False) -> None:
        """An empty folder, or one where a file lies under each name."""
        added_to = self._added_to() if command.adds else None
        self.place.mkdir(exist_ok=True)
        for path in self.place.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for name in command.outputs if old or added_to else ():
            (self.place / name).write_bytes(added_to or OLD)

    def _added_to(self) -> bytes:
        file = self.folder / VECTORIZE[0].outputs[0]
        if not file.exists():
            assert self._start(self.folder, VECTORIZE[0].argv).end().code == 0
        return file.read_bytes()

    def failing(self, number: int, problem: int = 0, for_good: bool = False) -> str:
        """What makes the n-th call fail, for those that start a command."""
        return f"fail_at({str(self.place)!r}, {number}, {problem}, {for_good})"

    def run(self, command: Command, *, old: bool = False, first: str = "") -> tuple[Ended, list[str]]:
        """In a fresh folder; and which promises the run broke."""
        usual = self.usual(command)
        self.clear(command, old)
        before = found(self.place, command)
        ended = self.start(command, old=old, first=first).end()
        return ended, broken(ended, before, found(self.place, command), usual.files)


def broken(ended: Ended, before: Mapping[str, str], after: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """The promises that a run broke: no damage without a word, none under a final name, and words that help."""
    told = f"\n{ended.stderr}".rpartition("\nerror: ")[2]
    named = [name for name in after if name in told]
    faults = {
        "silent": ended.code == 0 and after != wanted,
        "partial": any(after[name] not in (before[name], wanted[name]) for name in after),
        "replaced": ended.code == 1 and any(after[name] != before[name] for name in named),
        "untold": ended.code == 1 and not ("hint: " in told and (named or "work" in told)),
        "traceback": "Traceback" in ended.stderr,
        "ended": ended.code not in (0, 1),
    }
    return [name for name, is_so in faults.items() if is_so]


def summary(command: Command, what: str, faults: Iterable[Iterable[str]]) -> str:
    runs = [set(each) for each in faults]
    count = Counter(name for each in runs for name in each)
    told = ", ".join(f"{count[name]} {kind}" for name, kind in KINDS.items())
    return f"{command}: {len(runs)} {what}, {told}"


def strays(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir() if path.name.startswith("."))


def found(place: Path, command: Command) -> dict[str, str]:
    """Digests of what lies under the names of a command's outputs."""
    return {name: _digest(place / name) if (place / name).exists() else "nothing" for name in command.outputs}


def _digest(file: Path) -> str:
    data = file.read_bytes()
    try:
        if file.suffix == ".gpkg" and data != OLD:
            data = _of_database(file)
        if file.suffix == ".safetensors" and data != OLD:
            data = _of_model(file)
        if file.suffix == ".tif" and data != OLD:
            data = _of_raster(file)
    except (sqlite3.Error, SafetensorError, RasterioError, ValueError, KeyError) as problem:
        return f"unreadable: {problem}"
    return hashlib.sha256(data).hexdigest()


def _of_database(file: Path) -> bytes:
    """All its rows, but not when they were written."""
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as database:
        tables = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
        (check,) = database.execute("PRAGMA integrity_check").fetchone()
        rows = {table: _rows(database, table) for table, _ in tables}
    return repr((check, tables, rows)).encode()


def _rows(database: sqlite3.Connection, table: str) -> list[tuple[object, ...]]:
    columns = [row[1] for row in database.execute(f'PRAGMA table_info("{table}")')]
    kept = ", ".join(f'"{column}"' for column in columns if column not in TIMES)
    return database.execute(f'SELECT {kept} FROM "{table}"').fetchall()


def _of_raster(file: Path) -> bytes:
    """Its pixels and what is said of them. A block that GDAL wrote at the second try may lie elsewhere in the file."""
    with rasterio.open(file) as dataset:
        said = dataset.profile, dataset.tags(), dataset.descriptions, dataset.overviews(1)
        return repr(sorted(map(repr, said))).encode() + dataset.read().tobytes()


def _of_model(file: Path) -> bytes:
    """All its tensors, and what is said of them but when they were made."""
    with safe_open(file, "np") as model:
        card = json.loads((model.metadata() or {})["rsseg"])
        del card["provenance"], card["seal"]  # which covers the time
        tensors = [(name, model.get_tensor(name).tobytes()) for name in sorted(model.keys())]
    return repr((card, tensors)).encode()
