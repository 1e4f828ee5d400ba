"""`--method da-stc` on the sample series, beside ways that take each date by itself; every run is a process.

    python benchmarks/series.py [--methods NAME ...] [--seeds 3] [--tag WORD] [--work DIR] [--results FILE] [--table]

Models are learned by `rsseg adapt` and scored against truth that lies apart from the target. A run adds a line to the
results, and what is there already is not run again. Of every model: how well it maps dates by themselves, with the
nearest 1, 2, 4 and all other dates as references, on ground that the date shows and on ground that it does not
(clouds, gaps); where truth changes between dates; and how often the class flips where it does not. `fill` takes what a
date does not show from the map of the nearest date that does, `vote` the most frequent class of all dates.
"""

import argparse
import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
SERIES = HERE.parent / "sample_scenes" / "series"
NOTHING = 255
REFERENCES = (0, 1, 2, 4, 5)
STEPS = 160  # of every method that adapts
# Of each name: --method, what is set for it, and by how many pixels every other date of the target is off.
METHODS: dict[str, tuple[str, dict[str, Any], int]] = {
    "source-only": ("source-only", {}, 0),
    "self-training": ("self-training", {}, 0),
    "single dates": ("da-stc", {"frames": 1}, 0),
    "series": ("da-stc", {}, 0),
    "series, never alone": ("da-stc", {"alone": 0.0}, 0),
    "series, no feature fusion": ("da-stc", {"feature_fusion": "none"}, 0),
    "series, no alignment": ("da-stc", {"alignment": "none"}, 0),
    "series, mmd": ("da-stc", {"alignment": "mmd", "alignment_weight": 0.01}, 0),
    "series, quad": ("da-stc", {"quad": "true"}, 0),
    "series, no gate": ("da-stc", {"gate": "false"}, 0),
    "series, 1 px off": ("da-stc", {}, 1),
    "series, 2 px off": ("da-stc", {}, 2),
}


@dataclass(frozen=True)
class Dates:
    """All dates of the target and what is true of them; everything by date."""

    valid: NDArray[np.bool_]  # (T, H, W)
    days: NDArray[np.float32]
    truth: NDArray[np.uint8]  # (T, H, W), places among the model's classes


def run(job: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    from rsseg_cli.adaptation import adapt
    from rsseg_cli.domain import Crops
    from rsseg_cli.plan import Request, make_plan

    method, settings, off = METHODS[job["method"]]
    crops, target = Crops(seed=job["seed"]), _target(off, options.work)
    source, learned = options.work / f"source_{job['seed']}.safetensors", {}
    if not source.exists():
        request = Request((str(SERIES / "source"),), crops=crops)
        adapt(request, make_plan(request), source)
    model = source
    if method != "source-only":
        model = options.work / f"{job['method']} {job['seed']}.safetensors".replace(" ", "_")
        request = Request(
            (str(SERIES / "source"),),
            (str(target),),
            method=method,
            init=str(source),
            settings=settings,
            match="auto",
            steps=STEPS,
            crops=crops,
        )
        learned = adapt(request, make_plan(request), model, overwrite=True)
    found = {"seconds": learned.get("seconds"), "selected": learned.get("selected")}
    return job | found | {"scores": scores(model, target, off)}


def _target(off: int, work: Path) -> Path:
    """The target; or a copy whose every other date lies so many pixels to the right, and says that it does not."""
    if not off:
        return SERIES / "target"
    import rasterio

    folder = work / f"target_{off}_px_off"
    if not folder.exists():
        shutil.copytree(SERIES / "target", folder)
        dates = sorted(path for path in folder.glob("*.tif") if not path.stem.endswith("clouds"))
        for path in dates[1::2]:
            for part in (path, path.with_name(f"{path.stem}_clouds.tif")):
                with rasterio.open(part) as file:
                    profile, values, names, tags = file.profile, file.read(), file.descriptions, file.tags()
                with rasterio.open(part, "w", **profile) as file:
                    file.write(np.roll(values, off, axis=2))
                    file.descriptions = names
                    file.update_tags(**tags)
    return folder


def scores(model: Path, target: Path, off: int) -> dict[str, Any]:
    """What the model makes of the dates of the target. A date that lies off has its truth where it shows the ground."""
    import torch
    from rsseg_models.devices import choose_precision, forward_of
    from rsseg_models.fusion import Fusion, parts_of

    from rsseg_cli.bundle import load_bundle
    from rsseg_cli.folders import match_bands
    from rsseg_cli.raster.series import open_series

    bundle = load_bundle(model)
    series = open_series(target).each(lambda scene: match_bands(scene, bundle.card.bands, "the model"))
    values = series.values()
    truth = _truth(bundle.card.scheme, series)
    truth[1::2] = np.roll(truth[1::2], off, axis=2)
    dates = Dates(np.isfinite(values).all(axis=1), series.days.astype(np.float32), truth)
    network, fusion = parts_of(bundle.network, len(bundle.card.scheme.classes))
    forward = forward_of(network, "cpu", choose_precision("auto", "cpu"))
    shown = [torch.from_numpy(bundle.card.normalisation.apply(date))[None] for date in values]
    logits = torch.stack([forward(bands)[0] for bands in shown])[None]
    fusion, plain = fusion.cpu(), Fusion(logits.shape[2])
    ways = {"fused": (fusion, None), "listening": (plain, None)}
    if off:
        ways["shifts estimated"] = (fusion, torch.from_numpy(series.shifts))
    result: dict[str, Any] = {"alone": _scored(_alone(fusion, logits, dates), dates)}
    result["fill"] = _scored(_filled(_alone(fusion, logits, dates), dates), dates)
    result["vote"] = _scored(_voted(_alone(fusion, logits, dates), dates), dates)
    for name, (way, shifts) in ways.items():
        for count in REFERENCES[1:]:
            result[f"{name}, {count}"] = _scored(_fused(way, logits, dates, count, shifts), dates)
    return result


def _truth(scheme: Any, series: Any) -> NDArray[np.uint8]:
    from rsseg_cli.classes import join
    from rsseg_cli.folders import positions
    from rsseg_cli.labels import open_labels

    found = []
    for scene in series.scenes:
        stem = Path(scene.path).stem
        labels = open_labels(str(SERIES / "truth" / f"{stem}_labels.tif"), scene.grid, None, None)
        _, table = join(labels.scheme, scheme)
        found.append(positions(scheme)[table[labels.read(scene.grid.window)]])
    return np.stack(found)


def _alone(fusion: Any, logits: Any, dates: Dates) -> NDArray[np.uint8]:
    import torch

    with torch.inference_mode():
        classes = fusion(logits[0], logits[0]).argmax(1).numpy()
    return np.where(dates.valid, classes, NOTHING).astype(np.uint8)


def _fused(fusion: Any, logits: Any, dates: Dates, count: int, shifts: Any) -> NDArray[np.uint8]:
    """Each date with so many others, the nearest in time."""
    import torch

    maps, days = [], torch.from_numpy(dates.days)
    for date in range(len(days)):
        nearest = sorted(range(len(days)), key=lambda other, date=date: abs(float(days[other] - days[date])))
        taken = nearest[: count + 1]
        valid = torch.from_numpy(dates.valid[taken])[None]
        with torch.inference_mode():
            moved = None if shifts is None else shifts[taken]
            fused, known = fusion.fuse(logits[:, taken], valid, days[taken], moved)
        maps.append(np.where(known[0, 0].numpy(), fused[0, 0].argmax(0).numpy(), NOTHING))
    return np.stack(maps).astype(np.uint8)


def _filled(maps: NDArray[np.uint8], dates: Dates) -> NDArray[np.uint8]:
    filled = maps.copy()
    for date in range(len(maps)):
        for other in sorted(range(len(maps)), key=lambda n, date=date: abs(dates.days[n] - dates.days[date])):
            filled[date] = np.where(filled[date] == NOTHING, maps[other], filled[date])
    return filled


def _voted(maps: NDArray[np.uint8], dates: Dates) -> NDArray[np.uint8]:
    counts = np.stack(
        [(maps == place).sum(axis=0) for place in range(int(dates.truth[dates.truth < NOTHING].max()) + 1)]
    )
    return np.broadcast_to(counts.argmax(axis=0).astype(np.uint8), maps.shape)


def _scored(maps: NDArray[np.uint8], dates: Dates) -> dict[str, float]:
    """Mean IoU where dates show the ground and where they do not but others do; and on changed ground, and flips."""
    changes = (dates.truth != dates.truth[0]).any(axis=0)
    hidden = ~dates.valid & dates.valid.any(axis=0)
    both = dates.valid[1:] & dates.valid[:-1] & ~changes
    flips = (maps[1:] != maps[:-1])[both].mean()
    return {
        "shown": _miou(maps[dates.valid], dates.truth[dates.valid]),
        "hidden": _miou(maps[hidden], dates.truth[hidden]),
        "changed": float((maps == dates.truth)[dates.valid & changes].mean()),
        "flips": float(flips),
    }


def _miou(found: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    ious = []
    for place in np.unique(truth[truth != NOTHING]):
        one, other = found[truth != NOTHING] == place, truth[truth != NOTHING] == place
        ious.append((one & other).sum() / (one | other).sum())
    return float(np.mean(ious))


def main() -> None:
    options = _options()
    if options.one:
        print(json.dumps(run(json.loads(options.one), options)))
        return
    if options.table:
        show(options.results, options.tag)
        return
    done = {_key(entry) for entry in _entries(options.results)}
    for job in _jobs(options):
        if _key(job) not in done:
            words = [sys.executable, __file__, *sys.argv[1:], "--one", json.dumps(job)]
            ended = subprocess.run(words, stdout=subprocess.PIPE, check=True, text=True)
            with options.results.open("a") as file:
                file.write(ended.stdout.splitlines()[-1] + "\n")
            print(_key(job), flush=True)


def _jobs(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for seed in range(options.seeds):
        for name in options.methods or METHODS:
            yield {"tag": options.tag, "method": name, "seed": seed}


def _key(entry: dict[str, Any]) -> str:
    return json.dumps([entry[name] for name in ("tag", "method", "seed")])


def _entries(results: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def show(results: Path, tag: str | None) -> None:
    """Mean and spread over seeds; in points, but for flips in per cent."""
    entries = [entry for entry in _entries(results) if tag in (None, entry["tag"])]
    print(f"{'model':28}{'map':22}{'shown':>12}{'hidden':>12}{'changed':>12}{'flips':>12}")
    for name in METHODS:
        own = [entry["scores"] for entry in entries if entry["method"] == name]
        for way in own[0] if own else ():
            cells = (_cell([100 * scores[way][what] for scores in own]) for what in own[0][way])
            print(f"{name:28}{way:22}" + "".join(f"{cell:>12}" for cell in cells))


def _cell(values: list[float]) -> str:
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=METHODS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tag", default=None)
    parser.add_argument("--work", type=Path, default=Path("series_work"))
    parser.add_argument("--results", type=Path, default=HERE / "results" / "series.jsonl")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    return options


if __name__ == "__main__":
    warnings.filterwarnings("ignore", "Dataset has no geotransform")
    main()
