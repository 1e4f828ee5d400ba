"""`rsseg segment` beside the network alone (the limit) and beside a plain sliding window, on one drawn scene.

    python benchmarks/segment.py [--size 4096] [--encoder mit-b0] [--runs 3] [--threads 2]
    python benchmarks/segment.py --size 32768 --encoder tiny --runs 1 --only rsseg      (for its memory)

The limit is the network as PyTorch runs it on the scene's own pixels, without overlap, files or start-up, in the best
of a few batches and tile sizes. rsseg is the whole command with its defaults. The plain script is the usual loop:
batch 1, float32, half a tile of overlap, logits of the whole raster in memory. Both are timed as whole processes, and
once more without their start-up, which is what they import; the limit has none. Runs alternate, medians are printed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

BANDS = ("red", "green", "blue")
CLASSES = 6
REPEAT_PX = 1024
START = """
from rsseg_cli.environment import collect_no_more, collect_seldom
collect_seldom()
import rsseg_cli.app, rsseg_cli.mapping
collect_no_more()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--encoder", default="mit-b0")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--plain-size", type=int, default=4096, help="side of what the plain script maps at most")
    parser.add_argument("--only", choices=["limit", "rsseg", "plain"], action="append", help="default: all three")
    parser.add_argument("--part", choices=["prepare", "limit", "plain"], help="run one part only (used by itself)")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.part:
        {"prepare": prepare, "limit": limit, "plain": plain}[options.part](options)
        return
    with tempfile.TemporaryDirectory() as folder:
        options.folder = Path(folder)
        part(options, "prepare")
        runs: dict[str, Callable[[], dict[str, Any]]] = {
            "limit": lambda: part(options, "limit"),
            "rsseg": lambda: run_segment(options),
            "plain": lambda: run_plain(options),
        }
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in options.only or runs}
        for _ in range(options.runs):
            for name, results in found.items():
                results.append(runs[name]())
    show(options, found)


def show(options: argparse.Namespace, found: dict[str, list[dict[str, Any]]]) -> None:
    def middle(name: str, what: str) -> float:
        return statistics.median(run[what] for run in found[name])

    print(f"{options.encoder}, {options.size} px, {options.threads} threads, median of {options.runs}")
    print("| what | Mpx/s | of the limit | times the plain script | peak MiB |\n|---|---|---|---|---|")
    for what, words in (("mpx_s", ""), ("mpx_s_after_start", ", without start-up")):
        for name in (name for name in found if what in found[name][0]):
            speed = middle(name, what)
            of_limit = f"{speed / middle('limit', 'mpx_s'):.2f}" if "limit" in found else ""
            times = f"{speed / middle('plain', what):.2f}" if "plain" in found else ""
            print(f"| {name}{words} | {speed:.3f} | {of_limit} | {times} | {middle(name, 'peak_mib'):.0f} |")
    if "limit" in found:
        print("limit:", found["limit"][0]["setting"])


def part(options: argparse.Namespace, name: str) -> dict[str, Any]:
    return measured(call_of(options, name), options)


def call_of(options: argparse.Namespace, name: str) -> list[str]:
    words = ["--size", options.size, "--encoder", options.encoder, "--threads", options.threads, "--plain-size"]
    call = [__file__, *words, options.plain_size, "--part", name, "--folder", options.folder]
    return [sys.executable, *map(str, call)]


def run_segment(options: argparse.Namespace) -> dict[str, Any]:
    """The whole command, and the same without what it needs to start."""
    scene, model, out = (options.folder / name for name in ("scene.tif", "m.safetensors", "map.tif"))
    words = ["segment", scene, "--model", model, "-o", out, "--overwrite", "--quiet", "--json"]
    seconds, found = timed([sys.executable, "-m", "rsseg_cli", *map(str, words)], options)
    to_start, _ = timed([sys.executable, "-c", START], options)
    megapixels = options.size**2 / 1e6
    return {
        "mpx_s": megapixels / seconds,
        "mpx_s_after_start": megapixels / (seconds - to_start),
        "peak_mib": found["peak_mib"],
    }


def run_plain(options: argparse.Namespace) -> dict[str, Any]:
    seconds, found = timed(call_of(options, "plain"), options)
    return found | {"mpx_s": found["megapixels"] / seconds}


def timed(call: list[str], options: argparse.Namespace) -> tuple[float, dict[str, Any]]:
    started = time.perf_counter()
    found = measured(call, options)
    return time.perf_counter() - started, found


def measured(call: list[str], options: argparse.Namespace) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    process = subprocess.Popen(call, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, text
    result: dict[str, Any] = json.loads(text.splitlines()[-1]) if text.strip() else {}
    return result | {"peak_mib": usage.ru_maxrss / 1024}


def prepare(options: argparse.Namespace) -> None:
    """A scene of repeated sample ground, and a model of random weights."""
    import torch
    from rsseg_models.network import Architecture, build

    from rsseg_cli.bundle import Card, save_bundle
    from rsseg_cli.classes import ClassScheme
    from rsseg_cli.normalisation import Normalisation
    from rsseg_cli.raster.layout import Layout
    from rsseg_cli.raster.tiles import blocks
    from rsseg_cli.raster.write import create_raster
    from rsseg_cli.samples import draw_samples
    from rsseg_cli.samples.folder import grid_of

    ground = next(iter(draw_samples(REPEAT_PX)))
    grid = replace(grid_of(ground), height=options.size, width=options.size)
    with create_raster(options.folder / "scene.tif", grid, Layout(BANDS, "uint8", None)) as writer:
        for window in blocks(grid, REPEAT_PX):
            writer.write(ground.image[: len(BANDS), : window.height, : window.width], window)
    torch.manual_seed(0)
    network = build(Architecture(options.encoder, BANDS, CLASSES))
    normalisation = Normalisation("fixed", (100.0,) * 3, (40.0,) * 3)
    card = Card(network.architecture, ClassScheme.of_values(range(CLASSES)), normalisation, 0.5, "source-only")
    save_bundle(options.folder / "m.safetensors", card, network)


def limit(options: argparse.Namespace) -> None:
    """The network alone, best of a few settings."""
    import rasterio
    import torch
    from rasterio.windows import Window
    from rsseg_models.devices import choose_precision

    from rsseg_cli.bundle import load_bundle

    torch.set_num_threads(options.threads)
    bundle = load_bundle(options.folder / "m.safetensors")
    precision = choose_precision("auto", "cpu")
    best: dict[str, Any] = {"mpx_s": 0.0}
    for tile, batch in ((448, 4), (512, 1), (512, 2), (512, 4), (544, 2), (768, 2), (1024, 1)):
        with rasterio.open(options.folder / "scene.tif") as dataset:
            pixels = dataset.read(window=Window(0, 0, tile, tile)).astype("float32")
        bands = torch.from_numpy(bundle.card.normalisation.apply(pixels)).expand(batch, -1, -1, -1).contiguous()
        seconds = []
        with torch.inference_mode(), torch.autocast("cpu", precision, enabled=precision != torch.float32):
            for _ in range(6):
                started = time.perf_counter()
                bundle.network(bands)
                seconds.append(time.perf_counter() - started)
        speed = batch * tile**2 / 1e6 / statistics.median(seconds[1:])
        if speed > best["mpx_s"]:
            best = {"mpx_s": speed, "setting": f"tiles of {tile}, batches of {batch}, {precision}"}
    print(json.dumps(best))


def plain(options: argparse.Namespace) -> None:
    """What a script of the usual kind does."""
    import numpy as np
    import rasterio
    import torch

    from rsseg_cli.bundle import load_bundle

    torch.set_num_threads(options.threads)
    size, tile = min(options.plain_size, options.size), 512
    started = time.perf_counter()
    network = load_bundle(options.folder / "m.safetensors").network
    with rasterio.open(options.folder / "scene.tif") as dataset:
        image = (dataset.read(window=((0, size), (0, size))).astype(np.float32) - 100) / 40
    sums, times = np.zeros((CLASSES, size, size), np.float32), np.zeros((size, size), np.float32)
    places = [*range(0, size - tile, tile // 2), size - tile]
    with torch.inference_mode():
        for row in places:
            for col in places:
                part = np.s_[row : row + tile, col : col + tile]
                crop = torch.from_numpy(image[(slice(None), *part)])[None]
                sums[(slice(None), *part)] += network(crop)[0].numpy()
                times[part] += 1
    np.save(options.folder / "plain.npy", (sums / times).argmax(axis=0).astype(np.uint8))
    megapixels = size**2 / 1e6
    print(json.dumps({"megapixels": megapixels, "mpx_s_after_start": megapixels / (time.perf_counter() - started)}))


if __name__ == "__main__":
    main()
