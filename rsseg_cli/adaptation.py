"""Learns a model from labelled scenes: find, check, draw, optimise, keep."""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rsseg_models.devices import choose_precision, forward_of
from rsseg_models.errors import ModelError
from rsseg_models.loading import load_encoder_weights
from rsseg_models.network import Architecture, SegmentationNetwork, build
from rsseg_models.optimise import optimise
from rsseg_models.source_only import Settings, SourceOnly
from rsseg_models.weights import read_weights

from rsseg_cli import __version__
from rsseg_cli.bundle import Card, save_bundle
from rsseg_cli.classes import UNLABELLED, ClassScheme
from rsseg_cli.delivery import check_target
from rsseg_cli.errors import RssegError
from rsseg_cli.folders import LabelOptions, find_labelled, find_scenes, positions
from rsseg_cli.normalisation import Normalisation
from rsseg_cli.patches import Crops, Domain, Drawer, class_weights, coarsest_gsd, normalisation_of, open_domain
from rsseg_cli.predict import Tiling, Walk, device_for
from rsseg_cli.progress import Track, untracked
from rsseg_cli.scores import Confusion
from rsseg_cli.segmentation import with_bands

ADAPTERS = {"source-only": SourceOnly}
# Steps that reach their best on a CPU in about five minutes; from nothing it takes more than from published weights.
STEPS = {"from nothing": 1200, "from weights": 600}
PRECISIONS = ("auto", "float32", "bfloat16")
CHECKPOINT_EVERY = 100
LOG_EVERY = 50

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What the person asked for."""

    sources: tuple[str, ...]
    targets: tuple[str, ...] = ()
    method: str = "source-only"
    encoder: str = "tiny"
    encoder_weights: str | None = None
    labels: LabelOptions = field(default_factory=LabelOptions)
    source_bands: str | None = None
    target_bands: str | None = None
    gsd_m: float | None = None
    normalise: str = "robust"
    steps: int | None = None
    crops: Crops = field(default_factory=Crops)
    settings: Mapping[str, str] = field(default_factory=dict)
    device: str = "auto"
    workdir: Path | None = None
    resume: bool = False


@dataclass(frozen=True, eq=False)
class Plan:
    """What was found, and what will be done with it."""

    domain: Domain
    bands: tuple[str, ...]
    gsd_m: float | None
    steps: int
    normalisation: Normalisation  # of the domain the model is for
    targets: int  # scenes

    def to_json(self) -> dict[str, Any]:
        training, validation = self.domain.training, self.domain.validation
        names = self.domain.scheme.names
        return {
            "source_scenes": [pair.scene.path for pair in self.domain.pairs],
            "target_scenes": self.targets,
            "bands": list(self.bands),
            "gsd_m": self.gsd_m,
            "steps": self.steps,
            "training_pixels": dict(zip(names, training.counts.sum(axis=0).tolist(), strict=True)),
            "validation_pixels": dict(zip(names, validation.counts.sum(axis=0).tolist(), strict=True)),
        }


def make_plan(request: Request) -> Plan:
    """Opens and checks everything before any work."""
    pairs = find_labelled(request.sources, request.labels, request.source_bands)
    bands = pairs[0].scene.names
    pairs = [type(pair)(with_bands(pair.scene, bands), pair.labels) for pair in pairs]
    targets = [with_bands(scene, bands) for scene in find_scenes(request.targets, request.target_bands)]
    gsd_m = request.gsd_m or coarsest_gsd([*(pair.scene for pair in pairs), *targets])
    domain = open_domain(pairs, gsd_m, request.normalise, request.crops)
    normalisation = normalisation_of(targets, request.normalise) if targets else domain.normalisations[0]
    steps = request.steps or STEPS["from weights" if request.encoder_weights else "from nothing"]
    return Plan(domain, bands, gsd_m, steps, normalisation, len(targets))


def adapt(
    request: Request, plan: Plan, output: Path, *, overwrite: bool = False, track: Track = untracked
) -> dict[str, Any]:
    """Trains, scores on held-back source ground, and writes the model."""
    check_target(output, overwrite=overwrite)
    started = time.perf_counter()
    device = device_for(request.device)
    torch.manual_seed(request.crops.seed)
    network = _network(request, plan).to(device)
    settings = _settings(Settings, request.settings, device)
    weights = class_weights(plan.domain.training).to(device)
    adapter = ADAPTERS[request.method](
        network, settings, plan.steps, weights, pretrained=request.encoder_weights is not None
    )
    _train(adapter, request, plan, device, track)
    scores = validate(adapter.network, plan.domain, device)
    card = Card(
        adapter.network.architecture,
        plan.domain.scheme,
        plan.normalisation,
        plan.gsd_m,
        request.method,
        asdict(settings) | {"steps": plan.steps} | asdict(request.crops),
        {"rsseg": __version__, "encoder_weights": request.encoder_weights, **plan.to_json()},
        {"source_validation_miou": scores["miou"], "source_validation": scores["classes"]},
    )
    save_bundle(output, card, adapter.network, overwrite=overwrite)
    if request.workdir:
        _checkpoint_path(request.workdir).unlink(missing_ok=True)
    return {
        "model": str(output),
        "method": request.method,
        "encoder": request.encoder,
        "classes": list(plan.domain.scheme.names),
        "bands": list(plan.bands),
        "gsd_m": plan.gsd_m,
        "steps": plan.steps,
        "seconds": time.perf_counter() - started,
        "source_validation_miou": scores["miou"],
        "settings": dict(card.settings),
    }


def validate(network: SegmentationNetwork, domain: Domain, device: str) -> dict[str, Any]:
    """Figures on the blocks that were held back."""
    scheme = ClassScheme.of_values(range(len(domain.scheme.classes)), dict(enumerate(domain.scheme.names)))
    confusion = Confusion(scheme)
    forward = forward_of(network, device, choose_precision("float32", device))
    for pair, normalisation, held_back in zip(domain.pairs, domain.normalisations, domain.held_back, strict=True):
        if not held_back:
            continue
        truth = np.full(pair.scene.grid.shape, UNLABELLED, np.uint8)
        for block in held_back:
            truth[block.toslices()] = positions(domain.scheme)[pair.labels.read(block)]
        walk = Walk(pair.scene, normalisation, forward, len(scheme.classes), Tiling(512, 64, 1))
        for cell, _ in walk.cells():
            confusion.add(truth[cell.window.toslices()], cell.places.astype(np.uint8))
    return confusion.figures()


def _network(request: Request, plan: Plan) -> SegmentationNetwork:
    try:
        network = build(Architecture(request.encoder, plan.bands, len(plan.domain.scheme.classes)))
        if request.encoder_weights:
            loaded = load_encoder_weights(network, read_weights(Path(request.encoder_weights)), plan.bands)
            logger.info("%s: %d tensors loaded into %s", request.encoder_weights, loaded.tensors, request.encoder)
            if loaded.bands_by_mean:
                logger.info("bands without published weights start from the mean: %s", ", ".join(loaded.bands_by_mean))
    except ModelError as problem:
        raise RssegError(problem.problem, problem.hint, file=request.encoder_weights) from problem
    return network


def _train(adapter: SourceOnly, request: Request, plan: Plan, device: str, track: Track) -> None:
    """All steps, from a checkpoint if the person wants to go on."""
    fingerprint = json.dumps([asdict(request.crops), plan.to_json(), request.encoder, dict(request.settings)])
    first = _restore(adapter, request, fingerprint)
    drawer = Drawer(plan.domain, request.crops, plan.steps)
    seed = request.crops.seed
    try:
        reports = optimise(adapter, lambda number: drawer(number).to(device), plan.steps, seed, first)
        for report in track(reports, f"training {request.encoder}", plan.steps - first):
            if report.step % LOG_EVERY == 0:
                logger.debug("step %d: %s", report.step, report.losses)
            if request.workdir and report.step % CHECKPOINT_EVERY == 0:
                _save_checkpoint(adapter, request.workdir, report.step, fingerprint)
    finally:
        drawer.close()


def _checkpoint_path(workdir: Path) -> Path:
    return workdir / "checkpoint.pt"


def _save_checkpoint(adapter: SourceOnly, workdir: Path, step: int, fingerprint: str) -> None:
    workdir.mkdir(parents=True, exist_ok=True)
    written = _checkpoint_path(workdir).with_suffix(".new")
    torch.save({"step": step, "fingerprint": fingerprint, "adapter": adapter.state_dict()}, written)
    written.replace(_checkpoint_path(workdir))


def _restore(adapter: SourceOnly, request: Request, fingerprint: str) -> int:
    """The step to go on from."""
    if not request.resume:
        return 0
    if request.workdir is None:
        raise RssegError("--resume needs the --workdir of the run to go on with", "name the folder of that run")
    path = _checkpoint_path(request.workdir)
    if not path.is_file():
        logger.info("%s: holds no checkpoint; starting from the first step", request.workdir)
        return 0
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if state["fingerprint"] != fingerprint:
        raise RssegError(
            f"{path}: belongs to a run with other inputs or settings",
            "repeat that run's options, or start anew without --resume",
            file=str(path),
        )
    adapter.load_state_dict(state["adapter"])
    logger.info("going on from step %d", state["step"])
    return int(state["step"])


def _settings(kind: type[Settings], given: Mapping[str, str], device: str) -> Settings:
    """Settings with what --set says, each value of its field's type."""
    known: dict[str, type[float] | type[str]] = {f.name: type(getattr(kind, f.name)) for f in fields(kind)}
    values: dict[str, Any] = {}
    for name, text in given.items():
        if name not in known:
            raise RssegError(f"--set {name}={text}: there is no such setting", f"there are: {', '.join(known)}")
        try:
            values[name] = known[name](text)
        except ValueError as problem:
            raise RssegError(f"--set {name}={text}: not a {known[name].__name__}", "give a number") from problem
    if values.get("precision", "auto") not in PRECISIONS:
        raise RssegError(f"--set precision={values['precision']}: not a precision", f"use {' or '.join(PRECISIONS)}")
    if values.get("precision", "auto") == "auto":
        quick = choose_precision("auto", device) == torch.bfloat16
        values["precision"] = "bfloat16" if quick else "float32"
    return kind(**values)


def parse_settings(pairs: Sequence[str] | None) -> dict[str, str]:
    """`NAME=VALUE` pairs of --set."""
    found = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals:
            raise RssegError(f"--set {pair}: not of the form NAME=VALUE", "for example --set learning_rate=0.0005")
        found[name.strip()] = value.strip()
    return found
