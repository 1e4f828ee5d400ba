"""How long `rsseg --help` takes beside `rio --help`, in turn, wall time.

python benchmarks/startup.py [--runs N]
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    scripts = Path(sys.executable).parent
    pairs = [(seconds(scripts / "rsseg"), seconds(scripts / "rio")) for _ in range(runs + 1)][1:]  # one to warm up
    ours, peer = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratios = [mine / theirs for mine, theirs in pairs]
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    print("| `rsseg --help` s | `rio --help` s | ratio, median (lowest to highest) | runs |\n|---|---|---|---|")
    print(f"| {ours:.3f} | {peer:.3f} | {spread} | {runs} |")


def seconds(command: Path) -> float:
    started = time.perf_counter()
    subprocess.run([command, "--help"], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
