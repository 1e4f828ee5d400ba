"""`rsseg adapt --method ktda` with few labels and with all, beside the same student without a teacher.

    python benchmarks/ktda.py --data DIR [--places sample dubai] [--arms NAME ...] [--shares 0.1 1] [--seeds 3]
        [--steps 600] [--work DIR] [--results FILE] [--table]

DIR (or RSSEG_DATA) holds seg/ and weights/. Needs rsseg[encoders]. Every run adds a line to the results at once, and
what is there already is not run again. Places are in domain: `sample` learns from the three source scenes of
sample_scenes and is scored on three others drawn by the same rules; `dubai` learns from the images 1 to 6 of tiles 1
to 3 and is scored on their images 7 to 9. A share of the labels is so many blocks of 32 px, drawn by the seed, and
every class among them; rsseg holds a fifth of the labels back in every run. All arms of a place, share and seed start
from the same encoder, see the same crops, and take as many steps. ktda_teachers.py says what the teachers are.
"""

import argparse
import json
import os
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import adapt
import adapt_tables
import ktda_tables
import numpy as np
from adapt_truth import Truth

HERE = Path(__file__).parent
BLOCK_PX = 32
NO_LABEL = 255
# What runs differ by.
KEYS = ("place", "share", "seed", "steps", "batch", "crop_px", "arm")


@dataclass(frozen=True)
class Arm:
    """A way to learn: the teacher ("" for none), and what is set."""

    method: str = "ktda"
    teacher: str = "random"
    settings: dict[str, Any] = field(default_factory=dict)
    bands: str | None = None


# `none` is told the shape of the random teacher, and never looks at it.
ARMS = {
    "plain": Arm("source-only", ""),
    "none": Arm(settings={"distil": 0.0}),
    "random": Arm(),
    "trained": Arm(teacher="trained"),
    "cnn": Arm(teacher="cnn"),
    **{f"cnn, alpha {alpha:g}": Arm(teacher="cnn", settings={"alpha": alpha}) for alpha in (0.0, 0.25, 0.75, 1.0)},
    "cnn, spatial": Arm(teacher="cnn", settings={"kl_axis": "spatial"}),
    "cnn, width": Arm(teacher="cnn", settings={"kl_axis": "width"}),
    "none, mlp": Arm(settings={"distil": 0.0, "fmm": "mlp"}),
    "none, no fmm": Arm(settings={"distil": 0.0, "fmm": "none"}),
    "cnn, no fmm": Arm(teacher="cnn", settings={"fmm": "none"}),
    "cnn, rgb": Arm(teacher="cnn", bands="red,green,blue"),
    "cnn, no dice, faded": Arm(teacher="cnn", settings={"dice": 0.0, "fade": 0.5}),
    "none, no dice": Arm(settings={"distil": 0.0, "dice": 0.0}),
    "random, no dice": Arm(settings={"dice": 0.0}),
    "cnn, no dice": Arm(teacher="cnn", settings={"dice": 0.0}),
}
FIRST = ("plain", "none", "random", "trained", "cnn")


@dataclass(frozen=True)
class Place:
    """Labelled folders to learn from and to score on, and images that a teacher may learn from."""

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    unlabelled: tuple[str, ...]


def places_of(options: argparse.Namespace) -> Iterator[Place]:
    if "sample" in options.places:
        same = next(p for p in adapt.pairs_of(None, options.work) if p.name == "sample, no shift")
        yield Place("sample", same.sources, same.truth, same.sources)
    if "dubai" in options.places and options.data:
        dubai = options.data / "seg" / "dubai"
        for part, numbers in (("train", range(1, 7)), ("test", range(7, 10))):
            _gather(options.work / "dubai" / part, dubai, "123", numbers)
        _gather(options.work / "dubai" / "more", dubai, "456", range(1, 7))
        train, test, more = (str(options.work / "dubai" / part) for part in ("train", "test", "more"))
        yield Place("dubai", (train,), (test,), (train, more))


def _gather(folder: Path, dubai: Path, tiles: Sequence[str], numbers: Iterable[int]) -> None:
    """Images of several tiles in one folder; as GeoTIFFs, of which a crop is read without the rest."""
    import rasterio

    for part, suffix in (("images", "jpg"), ("labels", "png")):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for tile in tiles:
            for number in numbers:
                written = folder / part / f"{tile}_{number}.tif"
                if not written.exists():
                    with rasterio.open(dubai / f"tile{tile}" / part / f"image_part_{number:03d}.{suffix}") as read:
                        values, profile = read.read(), {"driver": "GTiff", "tiled": True, "compress": "deflate"}
                        shape = {"count": len(values), "height": read.height, "width": read.width}
                    with rasterio.open(written, "w", dtype="uint8", **profile, **shape) as dataset:
                        dataset.write(values)


def labelled(place: Place, share: float, seed: int, work: Path) -> str:
    """A folder with the images of a place and a share of its labels."""
    from rsseg_cli.folders import LabelOptions, find_labelled
    from rsseg_cli.raster.write import create_labels

    folder = work / f"{place.name} {share:g} {seed}".replace(" ", "_")
    if folder.exists():
        return str(folder)
    pairs = find_labelled(place.train, LabelOptions(), None)
    ids = [pair.labels.read(pair.scene.grid.window) for pair in pairs]
    kept = _kept(ids, share, seed)
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for pair, found, mask in zip(pairs, ids, kept, strict=True):
        image = Path(pair.scene.path)
        (folder / "images" / image.name).symlink_to(image.absolute())
        with create_labels(folder / "labels" / image.name, pair.scene.grid, pair.labels.scheme) as writer:
            writer.write(np.where(mask, found, NO_LABEL), pair.scene.grid.window)
    return str(folder)


def _kept(ids: Sequence[Any], share: float, seed: int) -> list[Any]:
    """Which pixels keep their label: blocks by chance, drawn again until no class is missing."""
    classes = set(np.unique(np.concatenate([part.ravel() for part in ids]))) - {NO_LABEL}
    rng = np.random.default_rng([seed, 23])
    while True:
        kept = []
        for part in ids:
            blocks = rng.random([-(-side // BLOCK_PX) for side in part.shape]) < share
            kept.append(np.kron(blocks, np.ones((BLOCK_PX, BLOCK_PX), bool))[: part.shape[0], : part.shape[1]])
        left = [part[mask] for part, mask in zip(ids, kept, strict=True)]
        counts = np.bincount(np.concatenate(left), minlength=256)
        if all(counts[each] >= BLOCK_PX**2 // 4 for each in classes):
            return kept


def run(place: Place, job: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """One arm, scored on ground that nothing has learned from."""
    from rsseg_cli.adaptation import prepare
    from rsseg_cli.domain import Crops
    from rsseg_cli.plan import Request, make_plan
    from rsseg_cli.training import Run
    from rsseg_cli.work import Pace

    arm = ARMS[job["arm"]]
    request = Request(
        (labelled(place, job["share"], job["seed"], options.work),),
        method=arm.method,
        head="uper" if arm.method == "source-only" else None,
        teacher="none" if arm.method == "ktda" else None,
        source_bands=arm.bands,
        steps=job["steps"],
        crops=Crops(batch=job["batch"], crop_px=job["crop_px"], seed=job["seed"]),
        settings=arm.settings,
    )
    plan = make_plan(request)
    work = prepare(replace(request, settings={}) if arm.teacher else request, plan)
    if arm.teacher:
        work = _taught(work, arm, place, options)
    likeness: list[float] = []

    def track(reports: Iterable[Any], label: str, total: int) -> Iterator[Any]:
        for report in reports:
            likeness.extend([report.losses["likeness"]] if "likeness" in report.losses else [])
            yield report

    started = time.process_time()
    network = Run(work, Pace((job["steps"],))).learn(track, float("inf"), lambda run: None).network
    seconds = time.process_time() - started
    truth = Truth(place.test, plan, None, arm.bands)
    return job | {
        "cpu_seconds": seconds,
        "likeness": [float(np.mean(part)) for part in (likeness[:10], likeness[-10:])] if likeness else None,
        **_figures(truth.counts(network, "none").sum(axis=0), truth.scheme.names, plan.domain.training.totals),
    }


def _taught(work: Any, arm: Arm, place: Place, options: argparse.Namespace) -> Any:
    """The work with the arm's teacher and settings, which are settled as those of a person are."""
    from rsseg_models.teachers import Teacher, open_vision_transformer

    from rsseg_cli.teachers import Teaching, composite_of

    composite = composite_of(work.plan)
    if arm.teacher == "cnn":
        from ktda_teachers import Cnn

        backbone: Any = Cnn(options.data / "weights" / adapt.WEIGHTS)
    else:
        backbone = open_vision_transformer(str(_folder(arm.teacher, place, composite, options)))
    stage = work.stages[0]
    stage = replace(stage, settings=replace(stage.settings, **arm.settings))
    return replace(work, stages=(stage,), teaching=Teaching(Teacher(backbone, composite), arm.teacher))


def _folder(name: str, place: Place, composite: Any, options: argparse.Namespace) -> Path:
    import torch
    from ktda_teachers import write_random, write_trained
    from rsseg_models.teachers import IMAGENET

    from rsseg_cli.domain import normalisation_of
    from rsseg_cli.folders import find_scenes

    if name == "random":
        return write_random(options.work / "teacher_random")
    folder = options.work / f"teacher_{place.name}"
    if folder.exists():
        return folder
    scenes = find_scenes(place.unlabelled)
    normalisation = normalisation_of(scenes, "robust")
    mean, std = (torch.tensor(part)[:, None, None] for part in IMAGENET)
    images = [torch.from_numpy(normalisation.apply(scene.values(scene.grid.window))) for scene in scenes]
    return write_trained(folder, [(composite(image[None])[0] - mean) / std for image in images], options.teacher_steps)


def _figures(confusion: Any, names: Sequence[str], labelled_px: Any) -> dict[str, Any]:
    hits, true, found = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    iou = np.where(true > 0, hits / np.maximum(true + found - hits, 1), np.nan)
    f1 = np.where(true > 0, 2 * hits / np.maximum(true + found, 1), np.nan)
    rarest = int(np.argmin(np.where(true > 0, labelled_px, np.inf)))
    return {
        "miou": float(np.nanmean(iou)),
        "f1_macro": float(np.nanmean(f1)),
        "rarest": names[rarest],
        "rarest_iou": float(iou[rarest]),
        "classes": {name: round(float(value), 4) for name, value in zip(names, iou, strict=True)},
    }


def main() -> None:
    options = _options()
    if options.table:
        ktda_tables.show(options.results)
        return
    done = {tuple(run[key] for key in KEYS) for run in adapt_tables.entries(options.results)}
    places = list(places_of(options))
    for seed in range(options.seeds):
        for share in options.shares:
            for place in places:
                for arm in options.arms:
                    size = options.steps, options.batch, options.crop_px
                    job = dict(zip(KEYS, (place.name, share, seed, *size, arm), strict=True))
                    if tuple(job.values()) not in done:
                        entry = run(place, job, options)
                        with options.results.open("a") as file:
                            file.write(json.dumps(entry) + "\n")
                        print(f"{job}: mIoU {entry['miou']:.3f}, {entry['cpu_seconds']:.0f} s", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = os.environ.get("RSSEG_DATA")
    parser.add_argument("--data", type=Path, default=Path(data) if data else None)
    parser.add_argument("--places", nargs="+", default=["sample", "dubai"], choices=["sample", "dubai"])
    parser.add_argument("--arms", nargs="+", default=FIRST, choices=ARMS)
    parser.add_argument("--shares", nargs="+", type=float, default=[0.1, 1.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--crop-px", type=int, default=96)
    parser.add_argument("--teacher-steps", type=int, default=250)
    parser.add_argument("--work", type=Path, default=Path("ktda_work"))
    parser.add_argument("--results", type=Path, default=HERE / "results" / "ktda.jsonl")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    return options


if __name__ == "__main__":
    warnings.filterwarnings("ignore", "Dataset has no geotransform")
    main()
