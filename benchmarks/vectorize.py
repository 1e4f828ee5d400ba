"""`rsseg vectorize` beside `gdal_polygonize` and `rasterio.features.shapes`: whole processes, in turn.

    python benchmarks/vectorize.py [--size 2048 --size 8192] [--mask mixed --mask salt] [--runs 3] [--folder DIR]

All read a GeoTIFF and write a GeoPackage with its spatial index. rsseg does so twice: with --exact, where it writes the
same polygons as the others, and as it does by default, without staircases. The floor reads the mask, finds its runs of
equal pixels, and stops. Ratios are medians over pairs of runs. On a busy machine, CPU seconds are what to go by. What
was written is compared as well: polygon by polygon up to 2,048 px, beyond by counts and areas of the classes.
`gdal_polygonize` is Debian's (gdal-bin, python3-gdal); where it is not installed it is left out.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

CLASSES, NODATA = 7, 255
# (size of patches in pixels, weight); the finest makes edges ragged.
OCTAVES = ((384, 1.0), (96, 0.5), (24, 0.22), (4, 0.05))
SALT = {"mixed": 0.0, "salt": 0.002}
BUILDINGS_PER_MPX = 150
NODATA_SHARE = 0.03
STRIP_ROWS = 512
ONE_BY_ONE_PX = 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, action="append", help="side in pixels; default: 2048 and 8192")
    parser.add_argument("--mask", action="append", choices=SALT, help="default: both")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="keep masks here, and use those that are there")
    parser.add_argument("--part", choices=PARTS, help="one part only (used by itself)")
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        PARTS[options.part](*options.words)
        return
    if not gdal():
        print("gdal_polygonize is not installed (gdal-bin, python3-gdal): left out\n")
    with tempfile.TemporaryDirectory() as temporary:
        for size in options.size or [2048, 8192]:
            for kind in options.mask or SALT:
                compare(mask_of(kind, size, options.folder or Path(temporary)), Path(temporary), options.runs)


def mask_of(kind: str, size: int, folder: Path) -> Path:
    mask = folder / f"{kind}_{size}.tif"
    if not mask.exists():
        subprocess.run([*part("mask"), mask, str(size), str(SALT[kind])], check=True)
    return mask


class Run(NamedTuple):
    wall_s: float
    cpu_s: float
    peak_mib: float


def compare(mask: Path, folder: Path, runs: int) -> None:
    calls = {
        "rsseg --exact": [*rsseg(), str(mask), "--exact", "-o"],
        "rsseg": [*rsseg(), str(mask), "-o"],
        "gdal_polygonize": gdal() and [*gdal(), str(mask)],
        "features.shapes": [*part("shapes"), str(mask)],
        "floor": [*part("floor"), str(mask)],
    }
    outputs = {name: folder / f"{name.replace(' ', '')}.gpkg" for name, call in calls.items() if call}
    found: dict[str, list[Run]] = {name: [] for name in outputs}
    for _ in range(runs):
        for name, output in outputs.items():
            output.unlink(missing_ok=True)
            found[name].append(measured([*calls[name], str(output)]))
    print(f"{mask.stem}, median of {runs}", flush=True)
    exact = [path for name, path in outputs.items() if path.exists() and name != "rsseg"]
    subprocess.run([*part("agree"), mask, *exact], check=True)
    print("| | wall s | CPU s | peak MiB | wall: exact / it | CPU: exact / it | wall: default / it |")
    print("|---|---|---|---|---|---|---|")
    for name, its in found.items():
        print(row(name, its, found["rsseg --exact"], found["rsseg"]))
    print(flush=True)


def row(name: str, its: list[Run], exact: list[Run], default: list[Run]) -> str:
    wall_s, cpu_s, peak_mib = (statistics.median(values) for values in zip(*its, strict=True))
    ratios = (ratio(exact, its, "wall_s"), ratio(exact, its, "cpu_s"), ratio(default, its, "wall_s"))
    cells = (f"{value:.3f}" for value in ratios)
    return f"| {name} | {wall_s:.2f} | {cpu_s:.2f} | {peak_mib:.0f} | {' | '.join(cells)} |"


def ratio(ours: list[Run], its: list[Run], what: str) -> float:
    return statistics.median(getattr(mine, what) / getattr(other, what) for mine, other in zip(ours, its, strict=True))


def measured(call: list[str]) -> Run:
    started = time.perf_counter()
    process = subprocess.Popen(call, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, call
    return Run(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def part(name: str) -> list[str]:
    # In a process of its own: a child's peak starts at what its parent holds.
    return [sys.executable, __file__, "--part", name]


def rsseg() -> list[str]:
    return [sys.executable, "-m", "rsseg_cli", "vectorize", "--quiet"]


def gdal() -> list[str]:
    found = shutil.which("gdal_polygonize.py") or shutil.which("gdal_polygonize")
    return [found, "-q", "-f", "GPKG"] if found else []


def run_shapes(mask: str, output: str) -> None:
    import geopandas
    import rasterio
    from rasterio.features import shapes
    from shapely.geometry import shape

    with rasterio.open(mask) as dataset:
        found = list(shapes(dataset.read(1), mask=dataset.read_masks(1), transform=dataset.transform))
        crs = dataset.crs
    outlines, ids = [shape(outline) for outline, _ in found], [int(value) for _, value in found]
    geopandas.GeoDataFrame({"DN": ids}, geometry=outlines, crs=crs).to_file(output)


def run_floor(mask: str, _: str) -> None:
    import rasterio
    from rasterio.windows import Window

    with rasterio.open(mask) as dataset:
        for top in range(0, dataset.height, STRIP_ROWS):
            window = Window(0, top, dataset.width, min(STRIP_ROWS, dataset.height - top))
            ids = dataset.read(1, window=window).ravel()
            begins = np.flatnonzero(ids[1:] != ids[:-1]) + 1
            assert ids[begins].size == begins.size


def agree(mask: str, first: str, *others: str) -> None:
    """Fails where a file holds other polygons than the first."""
    import rasterio

    with rasterio.open(mask) as dataset:
        content = one_by_one if dataset.width <= ONE_BY_ONE_PX else by_class
    wanted = content(first)
    for other in others:
        assert content(other) == wanted, f"{other} differs from {first}"
    print(f"the same polygons in {1 + len(others)} files, {content.__name__.replace('_', ' ')}\n")


def polygons(path: str) -> Any:
    import pyogrio

    layer = next(name for name, kind in pyogrio.list_layers(path) if kind)
    return pyogrio.read_dataframe(path, layer=layer).rename(columns={"class_id": "DN"})


def one_by_one(path: str) -> Any:
    frame = polygons(path)
    assert frame.is_valid.all()
    return sorted(zip(frame["DN"].tolist(), frame.normalize().to_wkb(hex=True).tolist(), strict=True))


def by_class(path: str) -> Any:
    frame = polygons(path)
    return frame.area.groupby(frame["DN"]).agg(["count", "sum"]).round().to_numpy().tolist()


def write_mask(path: str, size_text: str, salt_text: str) -> None:
    """Land cover in patches with ragged edges, houses on it, a slanted edge without data beside it, and salt."""
    import rasterio
    from rasterio.transform import from_origin
    from rasterio.windows import Window

    size, rng = int(size_text), np.random.default_rng(1)
    octaves = [(rng.standard_normal((size // px + 3,) * 2, np.float32), px, weight) for px, weight in OCTAVES]
    limits = np.quantile(rolling(octaves, 0, min(size, 2048), size), np.arange(1, CLASSES - 1) / (CLASSES - 1))
    houses = rng.integers((0, 0, 8, 8), (size, size, 48, 48), (BUILDINGS_PER_MPX * size**2 // 10**6, 4))
    place = {"crs": "EPSG:32633", "transform": from_origin(400_000, 5_400_000, 0.5, 0.5), "nodata": NODATA}
    layout = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "dtype": "uint8", "count": 1}
    with rasterio.open(
        path, "w", driver="GTiff", width=size, height=size, BIGTIFF="IF_SAFER", **place, **layout
    ) as out:
        for top in range(0, size, STRIP_ROWS):
            end = min(size, top + STRIP_ROWS)
            ids = np.searchsorted(limits, rolling(octaves, top, end, size)).astype(np.uint8)
            for row, col, height, width in houses[(houses[:, 0] < end) & (houses[:, 0] + houses[:, 2] > top)]:
                ids[max(0, row - top) : max(0, row + height - top), col : col + width] = CLASSES - 1
            hit = rng.random(ids.shape, np.float32) < float(salt_text)
            ids[hit] = rng.integers(0, CLASSES, np.count_nonzero(hit))
            edge = 2 * NODATA_SHARE * (size - np.arange(top, end))
            ids[np.arange(size) < edge[:, np.newaxis]] = NODATA
            out.write(ids, 1, window=Window(0, top, size, end - top))


def rolling(octaves: list[tuple[Any, int, float]], top: int, end: int, size: int) -> Any:
    """The sum of noises, each drawn out to its size of patches."""
    total = np.zeros((end - top, size), np.float32)
    for noise, px, weight in octaves:
        rows = between(noise, np.arange(top, end) / px)
        total += weight * between(rows.T, np.arange(size) / px).T
    return total


def between(noise: Any, at: Any) -> Any:
    """Rows of noise at fractions of a row."""
    whole = at.astype(int)
    share = (at - whole).astype(np.float32)[:, np.newaxis]
    return noise[whole] * (1 - share) + noise[whole + 1] * share


PARTS = {"shapes": run_shapes, "floor": run_floor, "agree": agree, "mask": write_mask}


if __name__ == "__main__":
    main()
