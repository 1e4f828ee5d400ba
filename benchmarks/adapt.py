"""`rsseg adapt` for places with known truth, beside simpler ways; every run is a process.

    python benchmarks/adapt.py --data DIR [--pairs WORD ...] [--methods NAME ...] [--seeds 3] [--set KEY=VALUE ...]
        [--tag WORD] [--work DIR] [--results FILE] [--table]

DIR (or RSSEG_DATA) holds seg/ and weights/. Every run adds a line to the results at once, and what is there already is
not run again: interrupt it, go on, and see --table at any time. Runs differ by pair, method, seed, what was --set, and
tag (version and commit of rsseg, unless told). Models of the source alone lie in --work and serve all methods of a pair
and seed. Truth is read by this script, to score; nothing that rsseg decides sees it.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import adapt_tables
from adapt_truth import Truth

HERE = Path(__file__).parent
SAMPLES = HERE.parent / "sample_scenes"
DRAWS = (2, 4, 5, 6)  # seeds of other scenes drawn by the rules of the sample scenes
WEIGHTS = "mobilenetv2_imagenet_bnfolded_fp32.npz"
# Of each name: --method, and what is set for it. `continued` goes on with the source for as long as `self-training`
# takes; `oracle` learns from labels of other scenes of the target's kind.
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "self-training": ("self-training", {}),
    "continued": ("source-only", {}),
    "matched": ("self-training", {"mixed": 0.0}),
    "st-dasegnet": ("st-dasegnet", {}),
    "st-dasegnet, no adversary": ("st-dasegnet", {"adversary": 0.0}),
    "st-dasegnet, no self-training": ("st-dasegnet", {"self_training": 0.0}),
    "da-stc": ("da-stc", {"frames": 1}),
    "oracle": ("source-only", {}),
}


@dataclass(frozen=True)
class Pair:
    """Two domains, and truth for the second."""

    name: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    truth: tuple[str, ...]  # folders of labelled scenes
    encoder: str = "tiny"
    crop_px: int = 128
    batch: int = 8
    unseen: tuple[str, ...] = ()  # labelled scenes of the same kind that were not adapted to
    oracle: tuple[str, ...] = ()  # labelled scenes that the oracle learns from
    gsd_m: float | None = None  # of the pixels that methods learn at, for the oracle: its scenes would not tell
    source_bands: str | None = None
    target_bands: str | None = None
    where: str | None = None


def pairs_of(data: Path | None, work: Path) -> Iterator[Pair]:
    """What can be made of the folders there are."""
    yield from _drawn_pairs(work / "drawn")
    if data is None:
        return
    dubai = data / "seg" / "dubai"

    def tiles(numbers: str) -> tuple[str, ...]:
        return tuple(str(dubai / f"tile{number}") for number in numbers)

    for source, target in (("123", "5"), ("45", "6"), ("123", "4"), ("123", "6"), ("56", "1")):
        yield Pair(
            f"dubai {'+'.join(source)} to {target}",
            tiles(source),
            tuple(str(Path(tile) / "images") for tile in tiles(target)),
            tiles(target),
            encoder="mobilenet-v2",
            crop_px=224,
            batch=6,
        )
    yield Pair(
        "landsat to sentinel",
        (str(data / "seg" / "brazil_landsat5"),),
        (str(data / "seg" / "brazil_sentinel2" / "image.tif"),),
        (str(data / "seg" / "brazil_sentinel2"),),
        crop_px=64,
        source_bands="blue=1,green=2,red=3,nir=4,swir1=5,swir2=7",
        target_bands="blue=2,green=3,red=4,nir=8,swir1=11,swir2=12",
        where="class in ('forest', 'water')",
    )


def _drawn_pairs(folder: Path) -> Iterator[Pair]:
    """The sample scenes; and others drawn by the same rules."""
    for name, seed in (("target", 3), *((name, seed) for seed in DRAWS for name in ("source", "target"))):
        _draw(folder / f"{name}_{seed}", name, seed)
    _lay_out(folder / "truth", SAMPLES / "target", SAMPLES / "truth")
    source, target = str(SAMPLES / "source"), str(SAMPLES / "target")
    unseen, oracle = str(folder / "target_2"), str(folder / "target_3")
    yield Pair("sample", (source,), (target,), (str(folder / "truth"),), unseen=(unseen,), oracle=(oracle,), gsd_m=0.5)
    same = str(folder / "source_2")
    yield Pair("sample, reversed", (oracle,), (f"{same}/images",), (same,))
    yield Pair("sample, no shift", (source,), (f"{same}/images",), (same,))
    for seed in DRAWS:
        labelled, other = (str(folder / f"{name}_{seed}") for name in ("source", "target"))
        yield Pair(f"draw {seed}", (labelled,), (f"{other}/images",), (other,))


def _draw(folder: Path, name: str, seed: int) -> None:
    from rsseg_cli.raster.write import create_labels
    from rsseg_cli.samples.folder import SCHEME, grid_of, write_image
    from rsseg_cli.samples.scenes import DEFAULT_SIZE_PX, SOURCE, TARGET, draw_scene

    if folder.exists():
        return
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for number in (1, 2, 3):
        scene = draw_scene(SOURCE if name == "source" else TARGET, number, DEFAULT_SIZE_PX, seed)
        write_image(folder / "images" / f"{number}.tif", scene)
        grid = grid_of(scene)
        with create_labels(folder / "labels" / f"{number}.tif", grid, SCHEME) as writer:
            writer.write(scene.labels, grid.window)


def _lay_out(folder: Path, images: Path, truth: Path) -> None:
    """Images and labels as a labelled folder."""
    if folder.exists():
        return
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for image in images.glob("*.tif"):
        shutil.copy(image, folder / "images" / image.name)
        shutil.copy(truth / f"{image.stem}_labels.tif", folder / "labels" / image.name)


def main() -> None:
    options = _options()
    if options.one:
        print(json.dumps(run(json.loads(options.one), options)))
        return
    if options.table:
        adapt_tables.show(options.results, options.tag)
        return
    done = {_key(entry) for entry in adapt_tables.entries(options.results)}
    for job in _jobs(options):
        if _key(job) not in done:
            _run_aside(job, options)


def _jobs(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    given = dict(pair.split("=", 1) for pair in options.set or ())
    pairs = list(pairs_of(options.data, options.work))
    names = {pair.name for pair in pairs}
    for pair in pairs:
        # A whole name means that pair alone, also where others' names hold it.
        if options.pairs and not any(word in ({pair.name} if word in names else pair.name) for word in options.pairs):
            continue
        for seed in range(options.seeds):
            for name in options.methods or METHODS:
                if name != "oracle" or pair.oracle:
                    yield {"tag": options.tag, "pair": pair.name, "method": name, "seed": seed, "set": given}


def _key(entry: dict[str, Any]) -> str:
    return json.dumps([entry[name] for name in ("tag", "pair", "method", "seed", "set")])


def _run_aside(job: dict[str, Any], options: argparse.Namespace) -> None:
    """In a process of its own, whose peak of memory is its own."""
    words = [sys.executable, __file__, *sys.argv[1:], "--one", json.dumps(job)]
    ended = subprocess.run(words, stdout=subprocess.PIPE, check=True, text=True)
    with options.results.open("a") as file:
        file.write(ended.stdout.splitlines()[-1] + "\n")
    print(adapt_tables.line(json.loads(ended.stdout.splitlines()[-1])), flush=True)


def run(job: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """One method on one pair, every checkpoint scored against the truth."""
    import torch

    from rsseg_cli.adaptation import prepare
    from rsseg_cli.plan import CROP_PX, make_plan
    from rsseg_cli.progress import untracked
    from rsseg_cli.selection import Way
    from rsseg_cli.training import Run
    from rsseg_cli.work import Pace

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    pair = next(pair for pair in pairs_of(options.data, options.work) if pair.name == job["pair"])
    if job["method"] == "oracle":
        pair = replace(pair, sources=pair.oracle)
    method, settings = METHODS[job["method"]]
    source_s = _learn_source(pair, job, options)
    request = _request(pair, job, options)
    if job["method"] != "oracle":
        request = replace(request, init=str(_source_model(pair, job, options)), encoder=None, encoder_weights=None)
        given = settings | job["set"]
        steps = int(given.pop("steps", 0)) or None
        request = replace(request, method=method, settings=given, steps=steps, match=_match(job["method"]))
        crop_px = max(pair.crop_px, CROP_PX.get(method, 0))
        request = replace(request, crops=replace(request.crops, crop_px=crop_px))
    plan = make_plan(request)
    truth = Truth(pair.truth, plan, pair.where, pair.target_bands)
    source = _load(_source_model(pair, job, options))
    before = truth.counts(source, "none")
    entry = job | {"source_s": source_s, "source_only": truth.figures(before), "oracle": None}
    if job["method"] == "oracle":
        return entry | {"delivered": truth.figures(before), "seconds": source_s}
    if job["method"] == "continued":
        request = replace(request, steps=_steps_in_the_time_of("self-training", request))
    work = prepare(request, plan)
    seen = {(0, work.first_way): before}

    def look(run: Run) -> None:
        line = run.line
        which, scores = (line.step, line.way), line.candidates.scores
        if scores and scores[-1]["step"] == line.step and which not in seen:
            seen[which] = truth.counts(line.adapter.network, line.way.match)

    truth.seconds = 0.0
    pace, started = Pace(tuple(stage.steps for stage in work.stages)), time.perf_counter()
    learned = Run(work, pace).learn(untracked, float("inf"), look)
    seconds = time.perf_counter() - started - truth.seconds
    candidates: list[dict[str, Any]] = []
    if learned.candidates is None:
        delivered, step = truth.counts(learned.network, learned.match), pace.steps[0]
    else:
        found = [
            (int(entry["step"]), Way(entry["match"], entry["target_norms"])) for entry in learned.candidates.scores
        ]
        step, delivered = found[learned.candidates.best][0], seen[found[learned.candidates.best]]
        candidates = [
            entry | {"miou": truth.figures(seen[which])["miou"]}
            for entry, which in zip(learned.candidates.scores, found, strict=True)
        ]
    low, high = truth.interval(before, delivered)
    unseen = Truth(pair.unseen, plan, pair.where, pair.target_bands) if pair.unseen else None
    return entry | {
        "steps": sum(learned.pace.steps),
        "seconds": seconds,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "delivered": truth.figures(delivered),
        "delivered_step": step,
        "gain_interval": [low, high],
        "candidates": candidates,
        "match": learned.match,
        "unseen": unseen and unseen.figures(unseen.counts(learned.network, learned.match)),
        "unseen_source_only": unseen and unseen.figures(unseen.counts(source, "none")),
    }


def _request(pair: Pair, job: dict[str, Any], options: argparse.Namespace) -> Any:
    from rsseg_cli.domain import Crops
    from rsseg_cli.folders import LabelOptions
    from rsseg_cli.labels import PolygonOptions
    from rsseg_cli.plan import Request

    return Request(
        pair.sources,
        pair.targets,
        labels=LabelOptions(polygons=PolygonOptions(where=pair.where)) if pair.where else LabelOptions(),
        source_bands=pair.source_bands,
        target_bands=pair.target_bands,
        gsd_m=pair.gsd_m if job["method"] == "oracle" else None,
        encoder=pair.encoder,
        encoder_weights=str(options.data / "weights" / WEIGHTS) if pair.encoder == "mobilenet-v2" else None,
        crops=Crops(batch=pair.batch, crop_px=pair.crop_px, seed=job["seed"]),
    )


def _match(name: str) -> str:
    return "none" if METHODS[name][0] == "source-only" else "auto"


def _source_model(pair: Pair, job: dict[str, Any], options: argparse.Namespace) -> Path:
    kind = "oracle" if job["method"] == "oracle" else "source"
    return Path(options.work / f"{pair.name} {kind} {job['seed']}.safetensors".replace(" ", "_"))


def _learn_source(pair: Pair, job: dict[str, Any], options: argparse.Namespace) -> float:
    """The model of the source alone, once for all methods; how long it took."""
    from rsseg_cli.adaptation import adapt
    from rsseg_cli.plan import make_plan

    path = _source_model(pair, job, options)
    timed = path.with_suffix(".json")
    if not path.exists():
        request = _request(pair, job, options)
        timed.write_text(json.dumps(adapt(request, make_plan(request), path)["seconds"]))
    return float(json.loads(timed.read_text()))


def _steps_in_the_time_of(method: str, request: Any) -> int:
    """Of source-only, judged by a few steps of either."""
    from rsseg_cli.adaptation import prepare
    from rsseg_cli.plan import make_plan

    plan = make_plan(request)
    other = prepare(replace(request, method=method, settings={}), plan).pace(float("inf"))
    own = prepare(replace(request, steps=1), plan).pace(float("inf"))
    return max(1, round(other.seconds_from(len(other.steps) - 1) / own.step_s[-1]))


def _load(path: Path) -> Any:
    from rsseg_cli.bundle import load_bundle

    return load_bundle(path).network


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = os.environ.get("RSSEG_DATA")
    parser.add_argument("--data", type=Path, default=Path(data) if data else None)
    parser.add_argument("--pairs", nargs="+")
    parser.add_argument("--methods", nargs="+", choices=METHODS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", nargs="+")
    parser.add_argument("--tag", default=None)
    parser.add_argument("--work", type=Path, default=Path("adapt_work"))
    parser.add_argument("--results", type=Path, default=HERE / "results" / "adapt.jsonl")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tag is None and not options.table:
        options.tag = _version()
    options.work.mkdir(parents=True, exist_ok=True)
    return options


def _version() -> str:
    from rsseg_cli import __version__

    described = subprocess.run(["git", "-C", HERE, "describe", "--always", "--dirty"], capture_output=True, text=True)
    return f"{__version__} {described.stdout.strip()}".strip()


if __name__ == "__main__":
    warnings.filterwarnings("ignore", "Dataset has no geotransform")
    main()
