"""Reads, describes and rewrites every raster of a folder, and says what became of it.

    python benchmarks/awkward.py FOLDER [--json]

A raster passes when the copy that rsseg writes has the same coordinate system, transform and shape to the last bit,
holds nothing exactly where the original does (as rasterio sees it), and the same measurements elsewhere;
or when it is refused with a hint. Exit code 1 if one does neither.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import rasterio

from rsseg_cli.errors import RssegError
from rsseg_cli.raster.layout import Layout
from rsseg_cli.raster.scene import Scene
from rsseg_cli.raster.sources import list_scenes, open_scene
from rsseg_cli.raster.tiles import blocks
from rsseg_cli.raster.write import create_raster


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    files = sorted(p for p in options.folder.iterdir() if p.suffix not in (".md", ".txt"))
    rows = [{"file": path.name, "info": info(path), "copy": rewritten(path)} for path in files]
    if options.json:
        print(json.dumps(rows))
    else:
        print("| file | `rsseg info` | open, read, write |\n|---|---|---|")
        for row in rows:
            print(f"| {row['file']} | {row['info']} | {row['copy']} |")
    bad = [row for row in rows if not (row["copy"] == "identical" or row["copy"].startswith("refused: "))]
    sys.exit(1 if bad or any("TRACEBACK" in row["info"] for row in rows) else 0)


def info(path: Path) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "rsseg_cli", "info", str(path)], capture_output=True, text=True, check=False
    )
    if "Traceback" in ended.stderr:
        return "TRACEBACK"
    return {0: "described", 1: "refused with a hint"}.get(ended.returncode, f"exit {ended.returncode}")


def rewritten(path: Path) -> str:
    try:
        scene = open_scene(list_scenes([str(path)])[0])
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "copy.tif"
            rewrite(scene, copy)
            return difference(path, scene, copy)
    except RssegError as refusal:
        return f"refused: {refusal.problem.replace(str(path.parent) + '/', '')}"


def rewrite(scene: Scene, copy: Path) -> None:
    with create_raster(copy, scene.grid, Layout(scene.names, "float32", float("nan"))) as writer:
        for window in blocks(scene.grid, 1024):
            writer.write(scene.read(window).values, window)


def difference(path: Path, scene: Scene, copy: Path) -> str:
    """Compared through rasterio alone, so that rsseg does not judge itself."""
    with rasterio.open(path) as before, rasterio.open(copy) as after:
        if (before.crs, before.transform, before.shape) != (after.crs, after.transform, after.shape):
            return "GRID DIFFERS"
        indexes = [index for index in before.indexes if index in scene.pixels.indexes]
        original = before.read(indexes).astype("float64")
        scales = np.array([before.scales[i - 1] for i in indexes])[:, None, None]
        offsets = np.array([before.offsets[i - 1] for i in indexes])[:, None, None]
        valid = (before.dataset_mask() > 0) & np.isfinite(original).any(axis=0)
        copied = after.read().astype("float64")
        kept = np.isfinite(copied)
        if not np.array_equal(valid, kept.any(axis=0)):
            return f"VALID PIXELS DIFFER ({int(valid.sum())} before, {int(kept.any(axis=0).sum())} after)"
        measured = original * scales + offsets
        close = np.isclose(copied[kept], measured[kept], rtol=1e-6, atol=0)
        return "identical" if close.all() else "VALUES DIFFER"


if __name__ == "__main__":
    main()
