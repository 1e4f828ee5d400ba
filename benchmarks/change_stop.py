"""Does metric-cd stop in the right place? It has no truth to stop by; here the truth says what it missed.

    python benchmarks/change_stop.py --data DIR [--pairs WORD ...] [--seeds 3]

Of each staged pair: AUC and AP of the map by the generator that is kept, and of the best one over all steps.
"""

import argparse
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from change import ranked, staged_pairs, truth_of
from rsseg_models.metric_cd import CHECK_EVERY, Generator, MetricCd, Settings, learn

from rsseg_cli.change.distance import fit_distance
from rsseg_cli.change.levels import Levels
from rsseg_cli.change.optimised import Fusion, Weights, sample_of
from rsseg_cli.change.pair import open_pair
from rsseg_cli.change.sampling import draw
from rsseg_cli.progress import untracked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("RSSEG_DATA"))
    parser.add_argument("--pairs", nargs="+", default=[""], metavar="WORD")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    for pair in staged_pairs(Path(options.data) / "change"):
        if pair.counts and any(word in pair.name for word in options.pairs):
            files = pair.make(Path(), 0)
            for seed in range(options.seeds):
                print(pair.name, seed, _line(files.before, files.after, files.truth, seed), flush=True)


def _line(before: Path, after: Path, truth: Path, seed: int) -> str:
    pair = open_pair(str(before), str(after)).held_if_small()
    levels = Levels(fit_distance(pair, seed=seed), None)
    drawn = draw(pair, levels, Settings.known_share, seed, untracked)
    sample = sample_of(drawn, "cpu")
    changed, valid = truth_of(truth)
    classical, every = levels.of(*pair.read())
    table = every[:, valid]

    def quality(network: Generator) -> tuple[float, float]:
        weights = Weights.of(network)
        fusion = Fusion.of(drawn.real.classical, weights.logits(drawn.real.levels.T), Settings.trust)
        found = ranked(fusion.distance(classical[valid], weights.logits(table)), changed[valid])
        return found["auc"], found["ap"]

    kept = learn(sample, Settings(), seed)
    reached = np.array([quality(network) for network in _every(sample, seed)])
    auc, ap = quality(kept.network)
    best = reached.max(axis=0)
    return f"steps {kept.steps}: AUC {auc:.4f} (best {best[0]:.4f}), AP {ap:.4f} (best {best[1]:.4f})"


def _every(sample: object, seed: int) -> Iterator[Generator]:
    """Generators after so many steps, to the end."""
    torch.manual_seed(seed)
    method = MetricCd(sample, replace(Settings(), patience=10**6))
    for number in range(Settings.steps):
        method.step(None, number)
        if (number + 1) % CHECK_EVERY == 0:
            yield method.network


if __name__ == "__main__":
    main()
