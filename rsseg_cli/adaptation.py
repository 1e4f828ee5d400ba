"""Learns a model from a plan: start, learn, score, keep."""

import logging
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from rsseg_models.devices import choose_precision, forward_of
from rsseg_models.network import SegmentationNetwork, count_parameters

from rsseg_cli import __version__, checkpoint
from rsseg_cli.beginning import Beginning, first_network
from rsseg_cli.bundle import Card, in_words, save_bundle
from rsseg_cli.calibration import Calibration, calibrate
from rsseg_cli.diary import Diary, Palette
from rsseg_cli.domain import Crops
from rsseg_cli.environment import keep_freed_memory
from rsseg_cli.errors import RssegError
from rsseg_cli.matching import NO_MATCH
from rsseg_cli.memory import memory_told, with_less
from rsseg_cli.methods import METHODS, SOURCE_ONLY, Method
from rsseg_cli.plan import Plan, Request, check_output
from rsseg_cli.predict import device_for
from rsseg_cli.progress import Track, untracked
from rsseg_cli.raster.kept_open import kept_open
from rsseg_cli.settings import convert, fill_known, types_of
from rsseg_cli.teachers import open_teacher
from rsseg_cli.training import Learned, Run
from rsseg_cli.validation import Sample, validate
from rsseg_cli.work import OF_SOURCE, Pace, Stage, Work

OF_MEMORY = memory_told(
    "adapt",
    "learn with a smaller --batch, --crop-px or --encoder, or close other programs; with --workdir, --resume goes on",
)

# A model of fewer steps knows next to nothing.
FEW_STEPS = 50

logger = logging.getLogger(__name__)


@OF_MEMORY
def prepare(request: Request, plan: Plan) -> Work:
    """Network and settings, checked."""
    device = device_for(request.device)
    keep_freed_memory()
    torch.manual_seed(request.crops.seed)
    begin = first_network(request, plan)
    with in_words():
        stages = _stages(request, plan, begin, device)
        teaching = open_teacher(request, plan, stages[-1].settings)
        work = Work(request, plan, begin.network, begin.origin, stages, device, teaching)
        # What the last stage cannot do is better said now than after the first.
        work.adapter(len(work.stages) - 1, 1, begin.network, work.first_way)
    return work


def _stages(request: Request, plan: Plan, begin: Beginning, device: str) -> tuple[Stage, ...]:
    """What is done one after the other; a model of the source that is there already is not learned again."""
    has_weights = bool(begin.origin)
    if not request.targets or request.method == SOURCE_ONLY:
        return (_stage(request.method, dict(request.settings), request.steps, has_weights, device),)
    of_source = {
        name.removeprefix(OF_SOURCE): value for name, value in request.settings.items() if name.startswith(OF_SOURCE)
    }
    own = {name: value for name, value in request.settings.items() if not name.startswith(OF_SOURCE)}
    # What an earlier model has learned of the source is no more than the first stage would have learned.
    is_pretrained = "encoder_weights" in begin.origin
    last = _stage(request.method, own, request.steps or _of_series(request, plan), is_pretrained, device, adapts=True)
    if begin.knows_all and not of_source:
        logger.info("%s is adapted as it is (--set source.steps=N learns from the source before)", request.init)
        return (last,)
    steps = convert("source.steps", of_source.pop("steps"), int) if "steps" in of_source else None
    first = _stage(SOURCE_ONLY, of_source, steps, has_weights, device)
    return first, last


def _of_series(request: Request, plan: Plan) -> int | None:
    """The usual steps, where they are others for a target of many dates."""
    is_series = plan.target is not None and plan.target.timeline.most_dates > 1
    return METHODS[request.method].steps_of_series if is_series else None


def _stage(
    name: str, given: dict[str, Any], steps: int | None, has_weights: bool, device: str, *, adapts: bool = False
) -> Stage:
    method = METHODS[name]
    others = ("steps", "preset", *types_of(Crops))
    preset = _preset(name, given)
    usual = method.from_weights if has_weights else {}
    settings = fill_known(method.settings, {**usual, **preset, **given}, others)
    if settings.precision == "auto":
        quick = choose_precision("auto", device) == torch.bfloat16
        settings = replace(settings, precision="bfloat16" if quick else "float32")
    _tell_of_idle(method, settings, given)
    enough = method.steps_from_weights if has_weights else method.steps_from_nothing
    return Stage(name, settings, steps or enough, adapts)


def _tell_of_idle(method: Method, settings: Any, given: Mapping[str, Any]) -> None:
    usual = method.settings()
    for name, hindered_by in method.idle(settings).items():
        if name in given and getattr(settings, name) != getattr(usual, name):
            logger.warning("--set %s=%s does nothing with %s", name, given[name], hindered_by)


def _preset(method: str, given: dict[str, Any]) -> dict[str, Any]:
    """The settings that a preset stands for; its name is taken out of what is given."""
    presets, name = METHODS[method].presets, given.pop("preset", None)
    if name is None:
        return {}
    if name not in presets:
        known = ", ".join(presets) or "none"
        raise RssegError(f"{method} has no preset {name}", f"there are: {known}")
    return asdict(presets[name])


@OF_MEMORY
@kept_open()
def rehearse(request: Request, plan: Plan, started: float) -> dict[str, Any]:
    """What a run would be like, judged by a few steps of it."""
    work = prepare(request, plan)
    pace = work.pace(_deadline(request, started))
    return plan.to_json() | {
        "method": request.method,
        "architecture": work.network.architecture.as_json(),
        "parameters": count_parameters(work.network),
        "starts_from": dict(work.origin),
        "device": work.device,
        "steps": sum(pace.steps),
        "stages": [{"method": stage.method, "steps": n} for stage, n in zip(work.stages, pace.steps, strict=True)],
        "expected_seconds": pace.seconds,
        "expected_memory_mib": _peak_mib(),
        "settings": work.settings_in_full(pace),
    }


@kept_open()
def adapt(
    request: Request,
    plan: Plan,
    output: Path,
    *,
    overwrite: bool = False,
    track: Track = untracked,
    started: float | None = None,
) -> dict[str, Any]:
    """Learns, scores on held-back source ground, and writes the model. `started`: since when the person waits."""
    check_output(output, overwrite=overwrite)
    since = time.monotonic() if started is None else started
    with checkpoint.held(request.workdir):
        first = prepare(request, plan)
        work, (learned, started) = with_less(lambda work: _learn(work, since, track), first, lambda: _less(first))
        card, scores = _judged(work, learned)
        save_bundle(output, card, learned.network, overwrite=overwrite)
        checkpoint.remove(request)
    return {
        "model": str(output),
        "method": request.method,
        "encoder": card.architecture.encoder,
        "classes": list(card.scheme.names),
        "bands": list(card.bands),
        "gsd_m": card.gsd_m,
        "steps": sum(learned.pace.steps),
        "seconds": time.monotonic() - started,
        "selected": learned.candidates.to_json() if learned.candidates else None,
        "checkpoints": learned.candidates.scores if learned.candidates else [],
        "source_validation_miou": scores["miou"],
        "temperature": card.temperature,
        "settings": dict(card.settings),
    }


def _less(work: Work) -> tuple[str, Work] | None:
    """The same with half as many crops a step, which is another run; None where there is one to go on with."""
    crops = work.request.crops
    if crops.batch == 1 or checkpoint.is_kept(work.request):
        return None
    half = replace(crops, batch=crops.batch // 2)
    return f"--batch {half.batch}, from the first step", replace(work, request=replace(work.request, crops=half))


@OF_MEMORY
def _learn(work: Work, started: float, track: Track) -> tuple[Learned, float]:
    """What was learned, and since when, with the time of a run that this one goes on with."""
    state = checkpoint.restored(work)
    started -= state["seconds"] if state else 0
    deadline = _deadline(work.request, started)
    diary = _diary(work, is_new=state is None)
    run = Run(work, Pace(**state["run"]["pace"]) if state else _pace_told(work, deadline), diary)
    if state:
        run.load_state_dict(state["run"])
        logger.info("going on from step %d of %d", run.line.step, run.pace.steps[run.number])
    learned = run.learn(track, deadline, lambda run: checkpoint.save(run, started))
    if diary:
        diary.write()
    _tell_of_choice(learned)
    return learned, started


def _diary(work: Work, is_new: bool) -> Diary | None:
    if work.request.workdir is None:
        return None
    diary = Diary(work.request.workdir, Palette(work.plan.bands, work.plan.domain.scheme))
    if is_new:
        diary.clear()
    return diary


@OF_MEMORY
def _judged(work: Work, learned: Learned) -> tuple[Card, dict[str, Any]]:
    """How good the model is and how sure it may be: its card, and its scores on the source."""
    scores, sample = _source_scores(work, learned.before)
    target = work.plan.target and replace(work.plan.target, normalisation=work.plan.normalisations[learned.match])
    return _card(work, learned, scores, calibrate(learned.network, sample, target, work.device)), scores


def _source_scores(work: Work, network: SegmentationNetwork) -> tuple[dict[str, Any], Sample]:
    """Of the model before it adapts: what comes after is for other ground."""
    precision = choose_precision("float32", work.device)
    scores, sample = validate(forward_of(network, work.device, precision), work.plan.domain)
    if scores["miou"] is not None:
        logger.info("mIoU %.3f on source ground held back from training", scores["miou"])
    if missed := [name for name, found in scores["classes"].items() if found["recall"] == 0]:
        logger.warning("%s: never found on source ground held back from training", ", ".join(missed))
    return scores, sample


def _tell_of_choice(learned: Learned) -> None:
    candidates = learned.candidates
    if candidates is None:
        return
    found = candidates.to_json()
    what = "the adapted model" if candidates.has_learned else "source-only"
    matched = f" on bands matched by {candidates.match}" if candidates.match != NO_MATCH else ""
    logger.info(
        "%s%s is delivered (step %d): on target ground held back it has a score of %.3f, source-only as it is %.3f",
        what,
        matched,
        found["step"],
        found["score"],
        found["source_only_score"],
    )


def _card(work: Work, learned: Learned, scores: Mapping[str, Any], calibration: Calibration) -> Card:
    plan = work.plan
    chosen = (
        {"selected": learned.candidates.to_json(), "checkpoints": learned.candidates.scores}
        if learned.candidates
        else {}
    )
    return Card(
        learned.network.architecture,
        plan.domain.scheme,
        plan.normalisations[learned.match],
        plan.scale.gsd_m,
        work.request.method,
        work.settings_in_full(learned.pace),
        {"rsseg": __version__, **work.origin, **work.taught_by, **plan.to_json()},
        {
            "source_validation_miou": scores["miou"],
            "source_validation": scores["classes"],
            "calibration": calibration.to_json(),
            **chosen,
        },
        calibration.temperature,
    )


def _pace_told(work: Work, deadline: float) -> Pace:
    """How many steps; said where the time decides."""
    if deadline == math.inf:
        return Pace(tuple(stage.steps for stage in work.stages))
    pace = work.pace(deadline)
    steps = " + ".join(map(str, pace.steps))
    logger.info("%s steps in %g minutes, at %s s a step", steps, work.request.minutes, _each(pace.step_s))
    if min(pace.steps) < min(FEW_STEPS, work.request.steps or FEW_STEPS):
        logger.warning("so few steps teach little: give more --minutes, or a smaller --batch, --crop-px or --encoder")
    return pace


def _each(seconds: tuple[float, ...]) -> str:
    return " and ".join(f"{each:.2f}" for each in seconds)


def _deadline(request: Request, started: float) -> float:
    return started + 60 * request.minutes if request.minutes else math.inf


def _peak_mib() -> int | None:
    """Memory this process has taken so far, where the system tells."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak / 2**20 if sys.platform == "darwin" else peak / 2**10)
