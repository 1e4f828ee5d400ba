"""What a step of a method costs, beside the plain passes that it cannot do without.

    python benchmarks/adapt_cost.py [--encoder mit-b0] [--crop-px 512] [--batch 2] [--runs 5] [--device cpu]

Every figure is of a process of its own: seconds of a step are medians of --runs in turn with the plain passes, memory
is the highest of the process. Plain are the forward and backward passes of the network, drawn crops in, one loss out:
self-training has one pass for the teacher and two with gradients; st-dasegnet has four with gradients (two students,
two domains). What comes on top - mixing, teachers' heads, discriminators, moving averages - is what the ratio shows.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from rsseg_models import self_training, st_dasegnet
from rsseg_models.batch import Batch, Domains
from rsseg_models.devices import choose_precision
from rsseg_models.losses import cross_entropy
from rsseg_models.network import Architecture, SegmentationNetwork, build
from torch import Tensor

CLASSES, BANDS = 6, ("red", "green", "blue")
METHODS = ("self-training", "st-dasegnet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="mit-b0")
    parser.add_argument("--crop-px", type=int, default=512)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--one", choices=[f"{kind} {name}" for kind in ("both", "step", "plain") for name in METHODS])
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options)))
        return
    print("| method | step s | plain s | ratio, median | step peak MiB | plain peak MiB |\n|---|---|---|---|---|---|")
    for name in METHODS:
        both, step, plain = (_aside(f"{kind} {name}") for kind in ("both", "step", "plain"))
        print(
            f"| {name} | {both['step_s']:.2f} | {both['plain_s']:.2f} | {both['ratio']:.2f} "
            f"| {step['peak_mib']:.0f} | {plain['peak_mib']:.0f} |",
            flush=True,
        )


def _aside(what: str) -> dict[str, float]:
    words = [sys.executable, __file__, *sys.argv[1:], "--one", what]
    ended = subprocess.run(words, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, float] = json.loads(ended.stdout)
    return found


def measure(options: argparse.Namespace) -> dict[str, float]:
    kind, name = options.one.split(" ")
    torch.manual_seed(0)
    batch = Domains(_crops(options), _crops(options)).to(options.device)
    network = build(Architecture(options.encoder, BANDS, CLASSES)).to(options.device).train()
    both: dict[str, Callable[[], Any]] = {}
    if kind != "plain":
        adapter = _adapter(name, network, options)
        both["step"] = lambda: adapter.step(batch, 1)
    if kind != "step":
        both["plain"] = _plain(name, network, batch, options)
    taken: dict[str, list[float]] = {what: [] for what in both}
    for number in range(options.runs + 1):
        for what, work in both.items():
            seconds = _seconds(work, options.device)
            if number:  # the first prepares what later ones find ready
                taken[what].append(seconds)
    found = {f"{what}_s": median(seconds) for what, seconds in taken.items()}
    if kind == "both":
        found["ratio"] = median(s / p for s, p in zip(taken["step"], taken["plain"], strict=True))
    return found | {"peak_mib": _peak_mib(options.device)}


def _seconds(work: Callable[[], Any], device: str) -> float:
    started = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _peak_mib(device: str) -> float:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _crops(options: argparse.Namespace) -> Batch:
    side = (options.batch, options.crop_px, options.crop_px)
    labels = torch.randint(0, CLASSES, side)
    return Batch(torch.randn(options.batch, len(BANDS), *side[1:]), torch.ones(side, dtype=torch.bool), labels)


def _adapter(name: str, network: SegmentationNetwork, options: argparse.Namespace) -> Any:
    precision = _precision(options)
    weights, shares = (torch.ones(CLASSES, device=options.device), torch.full((CLASSES,), 1 / CLASSES))
    if name == "st-dasegnet":
        settings = st_dasegnet.Settings(precision=precision)
        return st_dasegnet.StDasegnet(
            network, settings, 100, weights, shares.to(options.device), crop_px=options.crop_px
        )
    training = self_training.Settings(precision=precision)
    return self_training.SelfTraining(network, training, 100, weights, shares.to(options.device))


def _precision(options: argparse.Namespace) -> str:
    return "bfloat16" if choose_precision("auto", options.device) == torch.bfloat16 else "float32"


def _plain(name: str, network: SegmentationNetwork, batch: Domains, options: argparse.Namespace) -> Callable[[], None]:
    """The passes alone, with the optimiser's step."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-5)

    def logits(bands: Tensor) -> Tensor:
        with torch.autocast(
            options.device.partition(":")[0], torch.bfloat16, enabled=_precision(options) == "bfloat16"
        ):
            found: Tensor = network(bands)
        return found

    def self_training_passes() -> None:
        with torch.no_grad():
            logits(batch.target.bands)
        optimiser.zero_grad()
        # One graph for both, as the method needs them together.
        loss = sum(cross_entropy(logits(part.bands), part.labels) for part in (batch.source, batch.target))
        assert isinstance(loss, Tensor)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    def st_dasegnet_passes() -> None:
        optimiser.zero_grad()
        total = torch.zeros((), device=options.device)
        for part in (batch.source, batch.source, batch.target, batch.target):
            total = total + cross_entropy(logits(part.bands), part.labels)
        total.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return self_training_passes if name == "self-training" else st_dasegnet_passes


if __name__ == "__main__":
    main()
