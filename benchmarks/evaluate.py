"""Time and peak memory of `rsseg evaluate` on a large label map against itself.

python benchmarks/evaluate.py [--size PIXELS]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TILE_PX = 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=16384)
    parser.add_argument("--write", type=Path, help="only write the label map, to this file")
    options = parser.parse_args()
    size = options.size
    if options.write:
        write_patches(options.write, size)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.tif"
        # In a process of its own: a child's peak starts at what its parent holds.
        subprocess.run([sys.executable, __file__, "--size", str(size), "--write", path], check=True)
        wall_s, peak_mib = measured(path)
    print("| side px | wall s | Mpx/s | peak resident MiB |\n|---|---|---|---|")
    print(f"| {size} | {wall_s:.1f} | {size * size / 1e6 / wall_s:.0f} | {peak_mib:.0f} |")


def write_patches(path: Path, size: int) -> None:
    import numpy as np
    from affine import Affine
    from rasterio.crs import CRS
    from scipy import ndimage

    from rsseg_cli.classes import ClassScheme
    from rsseg_cli.raster.grid import Grid
    from rsseg_cli.raster.tiles import blocks
    from rsseg_cli.raster.write import create_labels

    noise = np.random.default_rng(0).normal(size=(7, TILE_PX, TILE_PX)).astype(np.float32)
    tile = ndimage.gaussian_filter(noise, (0, 5, 5)).argmax(axis=0).astype(np.uint8)
    grid = Grid(CRS.from_epsg(32633), Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000), size, size)
    with create_labels(path, grid, ClassScheme.of_values(range(7))) as writer:
        for number, window in enumerate(blocks(grid, TILE_PX)):
            writer.write(np.roll(tile, 97 * number)[: window.height, : window.width], window)


def measured(path: Path) -> tuple[float, float]:
    started = time.perf_counter()
    call = [sys.executable, "-m", "rsseg_cli", "evaluate", str(path), str(path), "--quiet"]
    process = subprocess.Popen(call, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return time.perf_counter() - started, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
