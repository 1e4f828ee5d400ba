"""What the person asked `adapt` for, what was found, and what is wrong with it; all of it before torch is loaded."""

import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rsseg_cli.classes import ClassScheme
from rsseg_cli.delivery import check_target
from rsseg_cli.domain import Crops, Domain, Scale, common_scale, moments_of, open_domain
from rsseg_cli.errors import RssegError
from rsseg_cli.folders import Labelled, LabelOptions, find_given, find_labelled, find_scenes, match_bands
from rsseg_cli.matching import MATCHES, NO_MATCH, matched
from rsseg_cli.model_file import read_card
from rsseg_cli.normalisation import Normalisation
from rsseg_cli.raster.bands import listed, shared_names
from rsseg_cli.raster.grid import SAME_GSD
from rsseg_cli.raster.kept_open import kept_open
from rsseg_cli.raster.labels import Labels
from rsseg_cli.raster.scene import Scene
from rsseg_cli.settings import toml_of
from rsseg_cli.target import Target, open_target

MODEL_SUFFIX = ".safetensors"
WEIGHT_SUFFIXES = (".safetensors", ".npz", ".pth", ".pt", ".bin")
MOST_SHOWN = 12  # scenes
# Of methods whose crops are not of the usual size: the discriminators of st-dasegnet need room.
CROP_PX = {"st-dasegnet": 192}
# What can learn from the source alone.
WITHOUT_TARGET = ("source-only", "ktda")
NO_TEACHER = "none"  # in place of a teacher's name
# Methods that take dated scenes of one place together.
OF_SERIES = ("da-stc",)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What the person asked for."""

    sources: tuple[str, ...]
    targets: tuple[str, ...] = ()
    method: str = "source-only"
    encoder: str | None = None  # None: tiny, or that of `init`
    encoder_weights: str | None = None
    head: str | None = None  # None: all-mlp, or that of `init`
    init: str | None = None  # a model to start from
    teacher: str | None = None  # of ktda: a vision transformer, or NO_TEACHER
    labels: LabelOptions = field(default_factory=LabelOptions)
    source_bands: str | None = None
    target_bands: str | None = None
    gsd_m: float | None = None
    normalise: str = "robust"
    target_labels: str | None = None  # of a few places in the target, FILE[:LAYER]
    match: str = "none"  # how the target is brought to the source's statistics
    steps: int | None = None
    minutes: float | None = None
    crops: Crops = field(default_factory=Crops)
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the method
    device: str = "auto"
    workdir: Path | None = None
    resume: bool = False


@dataclass(frozen=True, eq=False)
class Plan:
    """What was found."""

    sources: list[Labelled]  # as they are on disk
    targets: list[Scene]
    domain: Domain
    bands: tuple[str, ...]
    scale: Scale
    normalisations: Mapping[str, Normalisation]  # of the domain the model is for, by how it is matched to the source
    target: Target | None

    def to_json(self) -> dict[str, Any]:
        domain = self.domain
        counts = zip(domain.scheme.names, domain.training.totals.tolist(), domain.scored.tolist(), strict=True)
        return {
            "source": [_entry(pair.scene) | {"labels": pair.labels.path} for pair in self.sources],
            "target": [_entry(scene) for scene in self.targets],
            "target_labels": sorted({part.path for part in self.target.labels if part}) if self.target else [],
            "bands": list(self.bands),
            "gsd_m": self.scale.gsd_m,
            "detail_m": self.scale.detail_m,
            "classes": {name: {"training_pixels": t, "held_back_pixels": held} for name, t, held in counts},
            "normalisation": {
                "source": domain.normalisations[0].to_json(),
                "target": self.target and self.target.normalisation.to_json(),
                "model": {rule: found.to_json() for rule, found in self.normalisations.items()},
            },
        }


def _entry(scene: Scene) -> dict[str, Any]:
    grid = scene.grid
    of_grid = {"width": grid.width, "height": grid.height, "gsd_m": grid.gsd_m}
    return {"scene": scene.path, **of_grid, "lists": scene.listed}


def check_request(request: Request) -> None:
    """Refuses what cannot go together, before anything is read."""
    if request.steps is not None and request.steps < 1:
        raise RssegError(f"steps = {request.steps}: out of range", "give 1 or more")
    if request.resume and request.workdir is None:
        raise RssegError("--resume needs the --workdir of the run to go on with", "name the folder of that run")
    _check_teacher(request)
    if request.method not in WITHOUT_TARGET and not request.targets:
        raise RssegError(
            f"--method {request.method} adapts to scenes without labels, and there are none",
            "name them with --target DIR, or learn from the source alone: --method source-only",
        )
    if request.target_labels and (request.method == "source-only" or not request.targets):
        raise RssegError(
            "--target-labels are for methods that adapt to a --target",
            "name both; or give the labelled scenes with --source too",
        )
    if request.workdir is not None:
        _check_workdir(request.workdir)
    if request.init and request.encoder_weights:
        raise RssegError("--init and --encoder-weights both say what the encoder starts from", "leave one of them away")
    weights = request.encoder_weights
    # What looks like a file has to be one; anything else may be the id of a model.
    if weights and not Path(weights).exists() and (weights.count("/") != 1 or weights.endswith(WEIGHT_SUFFIXES)):
        raise RssegError(
            f"{weights}: no such file or folder",
            "check the name; or give a model id such as nvidia/mit-b0",
            file=weights,
        )
    if request.init:
        _check_init(request, request.init)


def _check_teacher(request: Request) -> None:
    name = request.teacher
    if request.method != "ktda":
        if name is not None:
            raise RssegError(f"--method {request.method} has no teacher", "leave --teacher away, or use --method ktda")
    elif name is None:
        raise RssegError(
            "ktda learns from a teacher, a vision transformer, and none is named",
            "fetch one once: hf download facebook/dinov2-small --local-dir dinov2-small; then --teacher dinov2-small. "
            "--teacher none learns without",
        )
    elif request.head is not None and not request.targets:
        raise RssegError("--method ktda brings a head of its own", "leave --head away")
    elif name != NO_TEACHER and not Path(name).is_dir() and name.count("/") != 1:
        raise RssegError(
            f"{name}: no such folder",
            "give the folder of a vision transformer, or a model id such as facebook/dinov2-small",
            file=name,
        )


def check_output(output: Path, *, overwrite: bool, inputs: Sequence[str] = ()) -> None:
    """Refuses what could not be written."""
    if output.suffix != MODEL_SUFFIX:
        raise RssegError(
            f"{output}: models are {MODEL_SUFFIX} files", f"-o {output.with_suffix(MODEL_SUFFIX)}", file=str(output)
        )
    check_target(output, overwrite=overwrite, inputs=inputs)


def _check_workdir(workdir: Path) -> None:
    there = next(path for path in (workdir.absolute(), *workdir.absolute().parents) if path.exists())
    if not there.is_dir():
        problem, hint = f"--workdir {workdir}: {there} is no folder", "name a folder; it is made if it is not there"
    elif not os.access(there, os.W_OK | os.X_OK):
        problem, hint = f"--workdir {workdir}: no right to write into {there}", "choose another folder"
    else:
        return
    raise RssegError(problem, hint, file=str(workdir), kind="output")


def _check_init(request: Request, path: str) -> None:
    own = read_card(path)["architecture"]["encoder"]
    if request.encoder not in (None, own):
        raise RssegError(
            f"{path}: has the encoder {own}, and --encoder says {request.encoder}",
            "leave --encoder away to go on with the model's, or --init to start with the other one",
            file=path,
        )


@kept_open()
def make_plan(request: Request) -> Plan:
    """Opens and checks all scenes and labels, and reads the labels once."""
    sources = find_labelled(request.sources, request.labels, request.source_bands)
    found = find_scenes(request.targets, request.target_bands)
    if request.init:
        bands, whose = tuple(read_card(request.init)["architecture"]["bands"]), request.init
    else:
        bands, whose = _common_bands(sources[0].scene, found), sources[0].scene.path
    sources = [replace(pair, scene=match_bands(pair.scene, bands, whose)) for pair in sources]
    options = ("--source-bands", "--target-bands")
    targets = [match_bands(scene, bands, whose, options) for scene in found]
    scenes = [*(pair.scene for pair in sources), *targets]
    scale = common_scale(scenes, request.gsd_m)
    as_series = request.method in OF_SERIES
    domain = open_domain(sources, scale, request.normalise, request.crops, as_series=as_series)
    _tell_of_sizes(request, scale.gsd_m, domain)
    if not targets:
        return Plan(sources, targets, domain, bands, scale, {NO_MATCH: domain.normalisations[0]}, None)
    given = _given(request, domain.scheme)
    target = open_target(targets, scale.gsd_m, request.normalise, request.crops, given, as_series=as_series)
    rules = (NO_MATCH, *MATCHES) if request.match == "auto" else (request.match,)
    return Plan(sources, targets, domain, bands, scale, _normalisations(rules, domain, target), target)


def _normalisations(rules: Sequence[str], domain: Domain, target: Target) -> dict[str, Normalisation]:
    """How the target's values reach the network: as the source's do, or brought to the source's statistics."""
    own, scenes = domain.normalisations[0], [pair.scene for pair in domain.pairs]
    moments = moments_of(target.scenes, target.normalisation), moments_of(scenes, own)
    return {rule: own if rule == NO_MATCH else matched(target.normalisation, rule, *moments) for rule in rules}


def _given(request: Request, scheme: ClassScheme) -> dict[str, Labels]:
    """What the person has labelled of the target, by the path of its scene."""
    if request.target_labels is None:
        return {}
    options = replace(request.labels, file=request.target_labels)
    return find_given(request.targets, options, request.target_bands, scheme)


def _common_bands(source: Scene, targets: Sequence[Scene]) -> tuple[str, ...]:
    """The source's bands, but for those that a target lacks and that others share by name."""
    shared = [name for name in source.names if all(name in shared_names(scene, source.names) for scene in targets)]
    if not shared or len(shared) == len(source.names):
        return source.names
    left_out = [name for name in source.names if name not in shared]
    logger.warning(
        "source and target have %s in common; the source's %s is left out (--source-bands and --target-bands say "
        "otherwise)",
        listed(shared),
        listed(left_out),
    )
    return tuple(shared)


def _tell_of_sizes(request: Request, gsd_m: float | None, domain: Domain) -> None:
    learned_at = read_card(request.init)["gsd_m"] if request.init else None
    if learned_at and gsd_m and abs(learned_at / gsd_m - 1) > SAME_GSD:
        logger.info("%s learned at %.4g m, this run learns at %.4g m (--gsd)", request.init, learned_at, gsd_m)
    largest = max(max(pair.scene.grid.shape) for pair in domain.pairs)
    if largest < request.crops.crop_px:
        logger.info(
            "no scene is as large as a crop of %d pixels, which is filled up with nothing (--crop-px %d is enough)",
            request.crops.crop_px,
            max(32, 32 * math.ceil(largest / 32)),
        )


def lines_of(found: Mapping[str, Any]) -> list[str]:
    """A dry run for people."""
    network = found["architecture"]
    starts_from = next(iter(found["starts_from"].values()), "nothing")
    memory = found["expected_memory_mib"]
    steps = " + ".join(str(stage["steps"]) for stage in found["stages"])
    return [
        *_scene_lines("source", found["source"]),
        *_scene_lines("target", found["target"]),
        *_class_lines(found["classes"]),
        f"method    {found['method']}, from {starts_from}",
        f"network   encoder {network['encoder']}, head {network['head']}, "
        f"{found['parameters'] / 1e6:.2f} million parameters",
        f"bands     {', '.join(found['bands'])}; {found['normalisation']['source']['rule']} normalisation",
        f"pixels   {_ground(found['gsd_m']) or ' as they are, of no known size'}{_blunted(found)}",
        f"takes     {_duration(found['expected_seconds'])} for {steps} steps on {found['device']}"
        + (f", and {memory} MiB of memory" if memory else ""),
        "settings  for --settings FILE.toml:",
        *(f"  {line}" for line in toml_of(found["settings"])),
    ]


def _ground(gsd_m: float | None) -> str:
    return f" of {gsd_m:.4g} m" if gsd_m else ""


def _blunted(found: Mapping[str, Any]) -> str:
    """Said where labelled scenes could show more than they do."""
    detail_m, sizes = found["detail_m"], [scene["gsd_m"] for scene in found["source"] if scene["gsd_m"]]
    could = sizes and max(found["gsd_m"], min(sizes)) < detail_m / (1 + SAME_GSD)
    return f"; the source shows no finer detail than pixels{_ground(detail_m)} do" if could else ""


def _scene_lines(domain: str, scenes: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [f"{domain}    {len(scenes) or 'no'} scene{'s' * (len(scenes) != 1)}"]
    for scene in scenes[:MOST_SHOWN]:
        size = f"{scene['width']} x {scene['height']} pixels" + (
            f" of {scene['gsd_m']:.4g} m" if scene["gsd_m"] else ""
        )
        labels = f", labels {Path(scene['labels']).name}" if "labels" in scene else ""
        lines.append(f"  {scene['scene']}: {size}{labels}")
        lines += [f"    lists {file}" for file in scene["lists"][:MOST_SHOWN]]
    if len(scenes) > MOST_SHOWN:
        lines.append(f"  ... and {len(scenes) - MOST_SHOWN} more (--json lists all)")
    return lines


def _class_lines(classes: Mapping[str, Mapping[str, int]]) -> list[str]:
    width = max(10, *(len(name) + 2 for name in classes))
    return [
        f"{'class':<{width}}{'trained on':>14}{'held back':>14}  pixels",
        *(f"  {name:<{width - 2}}{c['training_pixels']:>14}{c['held_back_pixels']:>14}" for name, c in classes.items()),
    ]


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.0f} minutes"
