"""What is left under the final name when a disk fills up, a limit is met, or the program is stopped: rsseg and others.

    python benchmarks/faults.py [--only NAME ...] [--table]
    python benchmarks/faults.py --verification [--size 4096]

Each program writes the same scene or the same mask, as a process of its own, under a limit on the size of files (from
nothing to what it needs), on disks that are too small (as root, who may mount them), and stopped by SIGINT, SIGTERM or
SIGKILL at random moments of its run. Runs go into results/faults.jsonl, and what is there is not run again; --table
prints them. Programs that are not installed are left out.

--verification says which part of the time of `rsseg segment` and `rsseg vectorize` is looking at what was written.
"""

import argparse
import json
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import rasterio
from affine import Affine

RESULTS = Path(__file__).parent / "results" / "faults.jsonl"
SAMPLES = Path(__file__).parents[1] / "sample_scenes"
SIDE_PX, PATCH_PX, CLASSES = 512, 8, 6
BUDGETS, DISKS, STOPS = 16, 12, 24
SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
LONGEST_S = 600
SUFFIXES = ("gpkg", "fgb", "parquet", "geojson")
# What is counted, as the table calls it.
OUTCOMES = {
    "silent": "exit 0 and damaged",
    "partial": "opens, and is not whole",
    "unreadable": "left, and does not open",
    "nothing": "nothing left",
    "whole": "whole",
}


@dataclass(frozen=True)
class Program:
    """A command line, and the file it writes."""

    call: tuple[str, ...]  # SCENE, MASK, MODEL and OUT stand for files
    output: str

    @property
    def is_there(self) -> bool:
        return shutil.which(self.call[0]) is not None


RSSEG = (sys.executable, "-m", "rsseg_cli")
PROGRAMS = {
    "rsseg segment": Program(
        (*RSSEG, "segment", "SCENE", "--bands", "red=1,green=2,blue=3,nir=4", "--model", "MODEL", "-o", "OUT", "-q"),
        "out.tif",
    ),
    "rsseg vectorize": Program((*RSSEG, "vectorize", "MASK", "--exact", "-o", "OUT", "-q"), "out.gpkg"),
    "a rasterio loop": Program((sys.executable, __file__, "--loop", "SCENE", "OUT"), "out.tif"),
    "rio convert": Program(
        ("rio", "convert", "SCENE", "OUT", "--co", "compress=deflate", "--co", "tiled=yes"), "out.tif"
    ),
    "gdal_translate": Program(
        ("gdal_translate", "-q", "-co", "COMPRESS=DEFLATE", "-co", "TILED=YES", "SCENE", "OUT"), "out.tif"
    ),
    "gdal_translate to COG": Program(("gdal_translate", "-q", "-of", "COG", "SCENE", "OUT"), "out.tif"),
    "gdal_polygonize.py": Program(("gdal_polygonize.py", "-q", "-f", "GPKG", "MASK", "OUT"), "out.gpkg"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=PROGRAMS, help="default: all")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--verification", action="store_true")
    parser.add_argument("--size", type=int, default=4096, help="of the scene that --verification maps")
    parser.add_argument("--loop", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.loop:
        loop(*options.loop)
    elif options.table:
        table()
    else:
        with tempfile.TemporaryDirectory() as folder:
            if options.verification:
                shares(Path(folder), options.size)
            else:
                run_all(Path(folder), options.only or list(PROGRAMS))


def loop(scene: str, output: str) -> None:
    """As most scripts have it."""
    with rasterio.open(scene) as source:
        profile = source.profile | {"compress": "deflate", "tiled": True, "blockxsize": 256, "blockysize": 256}
        with rasterio.open(output, "w", **profile) as target:
            for _, window in target.block_windows(1):
                target.write(source.read(window=window), window=window)


def run_all(folder: Path, names: list[str]) -> None:
    files = write_inputs(folder)
    if any("MODEL" in PROGRAMS[name].call for name in names):
        learn(Path(files["MODEL"]))
    done = {(row["program"], row["fault"], row["point"]) for row in rows()}
    for name in names:
        if not PROGRAMS[name].is_there:
            print(f"{name}: not installed, left out", file=sys.stderr)
            continue
        case = Case(PROGRAMS[name], files, folder / "out")
        for fault, point in points(case):
            if (name, fault, point) not in done:
                row = {"program": name, "fault": fault, "point": point, **case.meet(fault, point)}
                with RESULTS.open("a") as results:
                    print(json.dumps(row), file=results)


def write_inputs(folder: Path) -> dict[str, str]:
    """A scene that does not compress, a mask of small patches, and where a model may be."""
    files = {"SCENE": folder / "scene.tif", "MASK": folder / "mask.tif", "MODEL": folder / "model.safetensors"}
    rng = np.random.default_rng(0)
    _write(files["SCENE"], rng.integers(1, 255, (4, SIDE_PX, SIDE_PX), dtype=np.uint8))
    patches = rng.integers(1, CLASSES + 1, (1, SIDE_PX // PATCH_PX, SIDE_PX // PATCH_PX), dtype=np.uint8)
    _write(files["MASK"], patches.repeat(PATCH_PX, axis=1).repeat(PATCH_PX, axis=2))
    return {name: str(path) for name, path in files.items()}


def learn(model: Path) -> None:
    """Next to nothing: what it maps does not matter."""
    words = ("adapt", "--source", SAMPLES / "source", "--crop-px", "64", "--steps", "4", "-o", model, "-q")
    subprocess.run([*RSSEG, *map(str, words)], check=True, stdout=sys.stderr)


def _write(path: Path, values: np.ndarray[Any, Any]) -> None:
    place = {"crs": "EPSG:32633", "transform": Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)}
    count, height, width = values.shape
    with rasterio.open(path, "w", "GTiff", width, height, count, dtype="uint8", tiled=True, **place) as file:
        file.write(values)


class Case:
    """A program in a folder of its own, and what it writes there when nothing goes wrong."""

    def __init__(self, program: Program, files: dict[str, str], folder: Path) -> None:
        self.program, self.files, self.folder = program, files, folder
        self.clear()
        began = time.monotonic()
        assert self.run() == 0, program.call
        self.seconds = time.monotonic() - began
        self.wanted, self.size = content(self.file), self.file.stat().st_size

    @property
    def file(self) -> Path:
        return self.folder / self.program.output

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()

    def run(self, limit: int | None = None, stop: tuple[float, signal.Signals] | None = None) -> int:
        words = [self.files.get(word, word) for word in self.program.call]
        words = [str(self.file) if word == "OUT" else word for word in words]

        def prepare() -> None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # what runs in the background may have it ignored
            # A limit is to be met as a full disk is: by an error, not by a signal that ends the program.
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(words, **quiet, restore_signals=False, preexec_fn=prepare)
        if stop is not None:
            time.sleep(stop[0])
            process.send_signal(stop[1])
        return process.wait(LONGEST_S)

    def meet(self, fault: str, point: float) -> dict[str, Any]:
        """What became of a run at one point."""
        self.clear()
        if fault == "disk":
            with small_disk(self.folder, int(point)):
                return self._judged(self.run())
        if fault == "limit":
            return self._judged(self.run(limit=int(point)))
        return self._judged(self.run(stop=(point * self.seconds, signal.Signals[fault])))

    def _judged(self, code: int) -> dict[str, Any]:
        return {"exit": code, "outcome": outcome(code, self.file, self.wanted)}


def points(case: Case) -> Iterator[tuple[str, float]]:
    """Budgets in bytes, disks in KiB, and moments as parts of the run."""
    for number in range(BUDGETS):
        yield "limit", case.size * number // (BUDGETS - 1)
    if can_mount(case.folder):
        for number in range(1, DISKS + 1):
            yield "disk", max(16, case.size * number // (DISKS // 2) // 1024)
    else:
        print("no right to mount small disks: left out", file=sys.stderr)
    for number, moment in enumerate(np.random.default_rng(1).uniform(0, 1, STOPS)):
        yield SIGNALS[number % 3].name, round(float(moment), 3)


def can_mount(folder: Path) -> bool:
    try:
        with small_disk(folder, 64):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[None]:
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", folder]
    subprocess.run(mount, check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def outcome(code: int, file: Path, wanted: object) -> str:
    if not file.exists():
        return "nothing"
    try:
        if content(file) == wanted:
            return "whole"
    except Exception:  # every broken file has its own
        pass
    return "silent" if code == 0 else "partial" if opens(file) else "unreadable"


def opens(file: Path) -> bool:
    """As far as a program goes that looks before it reads."""
    try:
        if file.suffix == ".gpkg":
            return bool(pyogrio.read_info(file)["features"] >= 0)
        with rasterio.open(file) as dataset:
            return dataset.count > 0
    except Exception:  # every broken file has its own
        return False


def content(file: Path) -> object:
    """All that can be read: pixels of all zoom levels; or rows, and those that the spatial index finds."""
    if file.suffix == ".gpkg":
        left, bottom, right, top = pyogrio.read_info(file)["total_bounds"]
        part = (left, bottom, (left + right) / 2, (bottom + top) / 2)
        indexed = pyogrio.read_info(file)["capabilities"]["fast_spatial_filter"]
        frames = [pyogrio.read_dataframe(file, bbox=window) for window in (None, part)]
        return indexed, [(frame.geometry.to_wkb().tolist(), len(frame)) for frame in frames]
    with rasterio.open(file) as dataset:
        levels = [dataset.read().tobytes()]
        count = len(dataset.overviews(1))
    for level in range(count):
        with rasterio.open(file, OVERVIEW_LEVEL=level) as dataset:
            levels.append(dataset.read().tobytes())
    return levels


def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def table() -> None:
    print(f"| program | points | silent or partial | {' | '.join(OUTCOMES.values())} |")
    print("|---" * (3 + len(OUTCOMES)) + "|")
    for name in PROGRAMS:
        count = Counter(row["outcome"] for row in rows() if row["program"] == name)
        if count.total():
            bad = (count["silent"] + count["partial"]) / count.total()
            print(f"| {name} | {count.total()} | {bad:.0%} | {' | '.join(str(count[kind]) for kind in OUTCOMES)} |")


def shares(folder: Path, size: int) -> None:
    """The part of looking at what was written in the time of whole commands, by rsseg's own clock."""
    scene, labels = folder / "scene.tif", folder / "labels.tif"
    model = folder / "model.safetensors"
    learn(model)
    enlarge(SAMPLES / "target" / "karst_1.tif", scene, size)
    enlarge(SAMPLES / "truth" / "karst_1_labels.tif", labels, size)
    maps = ("--probabilities", folder / "p.tif", "--confidence", folder / "c.tif")
    calls: dict[str, tuple[object, ...]] = {
        "segment": ("segment", scene, "--model", model, "-o", folder / "1.tif"),
        "segment, probabilities too": ("segment", scene, "--model", model, "-o", folder / "2.tif", *maps),
        **{f"vectorize to {end}": ("vectorize", labels, "-o", folder / f"map.{end}") for end in SUFFIXES},
    }
    print("| command | wall s | verifying s | share |\n|---|---|---|---|")
    for name, call in calls.items():
        began = time.monotonic()
        ended = subprocess.run([*RSSEG, *map(str, call), "-v"], capture_output=True, text=True, check=True)
        wall = time.monotonic() - began
        spent = sum(map(float, re.findall(r"debug: verified .* in ([\d.]+) s", ended.stderr)))
        print(f"| {name} | {wall:.1f} | {spent:.2f} | {spent / wall:.1%} |", flush=True)


def enlarge(small: Path, large: Path, size: int) -> None:
    """The sample again and again, mirrored at its edges."""
    with rasterio.open(small) as source:
        more = size - source.height
        values = np.pad(source.read(), ((0, 0), (0, more), (0, more)), "symmetric")
        profile = source.profile | {"driver": "GTiff", "width": size, "height": size}
        with rasterio.open(large, "w", **profile) as target:
            target.write(values)
            target.descriptions = source.descriptions
            target.update_tags(**source.tags())


if __name__ == "__main__":
    main()
