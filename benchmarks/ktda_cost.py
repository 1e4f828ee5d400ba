"""What the presets of ktda cost when they map, beside the same encoder with a plain UPerNet head.

    python benchmarks/ktda_cost.py [--encoder mit-b0] [--presets tiny base] [--size-px 512] [--aligned 768] [--runs 5]

Seconds are medians of --runs on one tile in turn with the plain student, whose head is as wide as `--head uper` makes
it; memory is the highest of a process that does nothing but map. `paper` takes minutes a tile.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from rsseg_models.ktda import PRESETS
from rsseg_models.ktda_modules import transferred
from rsseg_models.network import Architecture, build, count_parameters
from torch.utils.flop_counter import FlopCounterMode

BANDS, CLASSES = ("red", "green", "blue"), 6
COLUMNS = ("network", "million parameters", "MiB on disk", "GMAC", "s a tile", "beside plain", "peak MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="mit-b0")
    parser.add_argument("--presets", nargs="+", default=["tiny", "base"], choices=PRESETS)
    parser.add_argument("--size-px", type=int, default=512)
    parser.add_argument("--aligned", type=int, default=768)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options)))
        return
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    for name in ("plain", *options.presets):
        words = [sys.executable, __file__, *sys.argv[1:], "--one", name]
        found = json.loads(subprocess.run(words, stdout=subprocess.PIPE, check=True, text=True).stdout)
        cells = (name, *(f"{found[key]:.{digits}f}" for key, digits in found["shown"]))
        print("| " + " | ".join(cells) + " |", flush=True)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    network = _network(options.one, options)
    parameters = count_parameters(network)
    tile = torch.randn(1, len(BANDS), options.size_px, options.size_px).to(memory_format=torch.channels_last)
    _seconds(network, tile)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    plain, own, ratios = _network("plain", options), [], []
    for _ in range(options.runs):
        beside = _seconds(plain, tile)
        own.append(_seconds(network, tile))
        ratios.append(own[-1] / beside)
    with FlopCounterMode(display=False) as counted, torch.inference_mode():
        network(tile)
    return {
        "parameters": parameters / 1e6,
        "mib": 4 * parameters / 2**20,
        "gmac": counted.get_total_flops() / 2e9,
        "seconds": median(own),
        "ratio": median(ratios),
        "peak_mib": peak_mib,
        "shown": [("parameters", 2), ("mib", 1), ("gmac", 1), ("seconds", 2), ("ratio", 2), ("peak_mib", 0)],
    }


def _network(name: str, options: argparse.Namespace) -> Any:
    torch.manual_seed(0)
    network: Any = build(Architecture(options.encoder, BANDS, CLASSES, "uper"))
    if name != "plain":
        settings = replace(PRESETS[name], aligned_width=options.aligned)
        network = transferred(network, settings.form(None), settings.decoder)
    return network.eval().to(memory_format=torch.channels_last)


def _seconds(network: Any, tile: torch.Tensor) -> float:
    started = time.perf_counter()
    with torch.inference_mode():
        network(tile)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
