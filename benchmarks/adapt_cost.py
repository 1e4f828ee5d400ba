"""What a step of a method costs, beside the plain passes that it cannot do without.

    python benchmarks/adapt_cost.py [--encoder mit-b0] [--crop-px 512] [--batch 2] [--runs 5] [--device cpu]

Every figure is of a process of its own: seconds of a step are medians of --runs in turn with the plain passes, memory
is the highest of the process. Plain are the passes of the network that a method cannot do without, with and without
gradients, drawn crops in, one loss out; teachers of st-dasegnet are decoders alone, which look at what the students'
encoders have found. What comes on top - mixing, patches, gates, discriminators, fusion of dates, moving averages - is
what the ratio shows.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import torch
from rsseg_models import da_stc, self_training, st_dasegnet
from rsseg_models.batch import Batch, Clips, Domains, alone
from rsseg_models.devices import choose_precision
from rsseg_models.losses import cross_entropy
from rsseg_models.network import Architecture, SegmentationNetwork, build
from torch import Tensor

from rsseg_cli.environment import keep_freed_memory

CLASSES, BANDS = 6, ("red", "green", "blue")
DATES, DAYS_APART = 3, 30.0


class Passes(NamedTuple):
    """What a method cannot do without in a step."""

    looks: int  # without gradients
    heads: int  # the same of the head alone
    learned: int  # with gradients
    fooled: int = 0  # with gradients, of the encoder alone


# A teacher looks once at each date; students of a series look at the other dates of their four kinds of crops without
# learning there. Both students of st-dasegnet learn on the source and on mixed crops, and their encoders fool judges on
# the target.
METHODS = {
    "self-training": Passes(1, 0, 2),
    "st-dasegnet": Passes(0, 2, 4, 2),
    "da-stc": Passes(1, 0, 4),
    f"da-stc, {DATES} dates": Passes(DATES + 4 * (DATES - 1), 0, 4),
}


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
    kind, _, name = options.one.partition(" ")
    keep_freed_memory()  # as the command does
    torch.manual_seed(0)
    batch = Domains(_crops(options), _crops(options)).to(options.device)
    network = build(Architecture(options.encoder, BANDS, CLASSES)).to(options.device).train()
    both: dict[str, Callable[[], Any]] = {}
    if kind != "plain":
        adapter = _adapter(name, network, options)
        seen = _dated(batch, name).to(options.device) if name.startswith("da-stc") else batch
        both["step"] = lambda: adapter.step(seen, 1)
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


def _dated(batch: Domains[Batch], name: str) -> Domains[Clips]:
    """The same crops as series."""
    clips = Domains(alone(batch.source), alone(batch.target))
    if name == "da-stc":
        return clips
    return Domains(*(_repeated(part) for part in (clips.source, clips.target)))


def _repeated(clips: Clips) -> Clips:
    days = (DAYS_APART * torch.arange(DATES)).expand(len(clips.labels), -1)
    bands, valid = clips.bands.repeat(1, DATES, 1, 1, 1), clips.valid.repeat(1, DATES, 1, 1)
    return Clips(bands, valid, days, clips.labels)


def _adapter(name: str, network: SegmentationNetwork, options: argparse.Namespace) -> Any:
    precision = _precision(options)
    weights = torch.ones(CLASSES, device=options.device)
    shares = torch.full((CLASSES,), 1 / CLASSES, device=options.device)
    given = (100, weights, shares)
    if name == "self-training":
        return self_training.SelfTraining(network, self_training.Settings(precision=precision), *given)
    if name == "st-dasegnet":
        settings = st_dasegnet.Settings(precision=precision)
        return st_dasegnet.StDasegnet(network, settings, *given, crop_px=options.crop_px)
    # From the first step on all that a step can do.
    frames = 1 if name == "da-stc" else DATES
    return da_stc.DaStc(network, da_stc.Settings(frames=frames, fused_after=0, precision=precision), *given)


def _precision(options: argparse.Namespace) -> str:
    return "bfloat16" if choose_precision("auto", options.device) == torch.bfloat16 else "float32"


def _plain(name: str, network: SegmentationNetwork, batch: Domains, options: argparse.Namespace) -> Callable[[], None]:
    """The passes alone, with the optimiser's step."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-5)

    def mixed() -> torch.autocast:
        kind = options.device.partition(":")[0]
        return torch.autocast(kind, torch.bfloat16, enabled=_precision(options) == "bfloat16")

    def logits(bands: Tensor) -> Tensor:
        with mixed():
            found: Tensor = network(bands)
        return found

    needed = METHODS[name]
    with torch.no_grad(), mixed():
        levels = network.levels(batch.target.bands) if needed.heads else []

    def passes() -> None:
        with torch.no_grad(), mixed():
            for _ in range(needed.looks):
                network(batch.target.bands)
            for _ in range(needed.heads):
                network.decode(levels, batch.target.bands.shape[-2:])
        optimiser.zero_grad()
        # One graph for all, as the methods need them together.
        parts = [(batch.source, batch.target)[number % 2] for number in range(needed.learned)]
        losses = [cross_entropy(logits(part.bands), part.labels) for part in parts]
        with mixed():
            losses += [network.levels(batch.target.bands)[-1].float().mean() for _ in range(needed.fooled)]
        loss = torch.stack(losses).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return passes


if __name__ == "__main__":
    main()
