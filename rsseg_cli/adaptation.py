"""Learns a model from a plan: start, optimise, score, keep."""

import copy
import json
import logging
import math
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rsseg_models import source_only
from rsseg_models.devices import choose_precision, forward_of
from rsseg_models.network import SegmentationNetwork, count_parameters
from rsseg_models.optimise import Adapter, Report, optimise, typical_seconds

from rsseg_cli import __version__
from rsseg_cli.beginning import first_network
from rsseg_cli.bundle import Card, in_words, save_bundle
from rsseg_cli.errors import RssegError
from rsseg_cli.patches import Drawer, class_weights
from rsseg_cli.plan import Plan, Request, check_output
from rsseg_cli.predict import device_for
from rsseg_cli.progress import Track, untracked
from rsseg_cli.settings import fill_known
from rsseg_cli.validation import seen_windows, validate

ADAPTERS = {"source-only": (source_only.SourceOnly, source_only.Settings)}
# Steps that reach their best on a CPU in about five minutes; from nothing it takes more than from published weights.
STEPS = {"from nothing": 1200, "from weights": 600}
CHECKPOINT_EVERY = 100
LOG_EVERY = 50
# What is tried out, at most, to learn how long a step takes.
TRIAL_STEPS, TRIAL_S = 8, 4.0
# Of the time there is, what is planned for; steps may turn out slower than those tried.
SPARE = 0.95
# A model of fewer steps knows next to nothing.
FEW_STEPS = 50

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pace:
    """How many steps, and what they cost."""

    steps: int
    step_s: float = 0.0
    scoring_s: float = 0.0


@dataclass(frozen=True, eq=False)
class Work:
    """A request with everything settled but how many steps there is time for."""

    request: Request
    plan: Plan
    network: SegmentationNetwork  # as it starts
    origin: Mapping[str, Any]  # what its weights come from; empty: from nothing
    settings: Any  # of the method
    device: str

    @property
    def steps(self) -> int:
        return self.request.steps or STEPS["from weights" if self.origin else "from nothing"]

    def adapter(self, steps: int) -> Adapter:
        """The method before its first step; the same each time."""
        torch.manual_seed(self.request.crops.seed)
        kind, _ = ADAPTERS[self.request.method]
        training = self.plan.domain.training
        weights = class_weights(training).to(self.device)
        shares = torch.tensor(training.shares, dtype=torch.float32, device=self.device)
        network = copy.deepcopy(self.network).to(self.device)
        return kind(network, self.settings, steps, weights, shares, pretrained=bool(self.origin))

    def reports(self, adapter: Adapter, steps: int, first: int = 0) -> Generator[Report]:
        """Steps as they are done."""
        crops = self.request.crops
        drawer = Drawer(self.plan.domain, crops, steps)
        try:
            yield from optimise(adapter, lambda number: drawer(number).to(self.device), steps, crops.seed, first)
        except FloatingPointError as problem:
            raise RssegError(
                f"training failed: {problem}", "learn more slowly: --set learning_rate=0.0005"
            ) from problem
        finally:
            drawer.close()

    def pace(self, deadline: float) -> Pace:
        """All steps, or as many as there is time for, judged by a few that are forgotten again."""
        with closing(self.reports(self.adapter(TRIAL_STEPS), TRIAL_STEPS)) as reports:
            step_s = typical_seconds(reports, TRIAL_S)
        crops = self.request.crops
        scored_px = sum(window.height * window.width for _, _, window in seen_windows(self.plan.domain))
        scoring_s = 1 + scored_px * step_s / (crops.batch * crops.crop_px**2)
        if deadline == math.inf:
            return Pace(self.steps, step_s, scoring_s)
        fitting = max(1, int(SPARE * (deadline - time.monotonic() - scoring_s) / step_s))
        return Pace(min(fitting, self.request.steps or fitting), step_s, scoring_s)

    def settings_in_full(self, steps: int) -> dict[str, Any]:
        """What --settings reads again."""
        return {"steps": steps} | asdict(self.request.crops) | asdict(self.settings)


def prepare(request: Request, plan: Plan) -> Work:
    """Network and settings, checked."""
    device = device_for(request.device)
    _, kind = ADAPTERS[request.method]
    with in_words():
        settings = fill_known(kind, request.settings, ("steps", *asdict(request.crops)))
    if settings.precision == "auto":
        quick = choose_precision("auto", device) == torch.bfloat16
        settings = replace(settings, precision="bfloat16" if quick else "float32")
    torch.manual_seed(request.crops.seed)
    network, origin = first_network(request, plan)
    return Work(request, plan, network, origin, settings, device)


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
        "steps": pace.steps,
        "expected_seconds": pace.steps * pace.step_s + pace.scoring_s,
        "expected_memory_mib": _peak_mib(),
        "settings": work.settings_in_full(pace.steps),
    }


def adapt(
    request: Request,
    plan: Plan,
    output: Path,
    *,
    overwrite: bool = False,
    track: Track = untracked,
    started: float | None = None,
) -> dict[str, Any]:
    """Trains, scores on held-back source ground, and writes the model. `started`: since when the person waits."""
    check_output(output, overwrite=overwrite)
    work = prepare(request, plan)
    if request.workdir:
        request.workdir.mkdir(parents=True, exist_ok=True)
    state = _restored(work)
    started = (time.monotonic() if started is None else started) - (state["seconds"] if state else 0)
    network, steps = _train(work, state, started, track)
    precision = choose_precision("float32", work.device)
    scores = validate(forward_of(network, work.device, precision), plan.domain)
    if scores["miou"] is not None:
        logger.info("mIoU %.3f on source ground held back from training", scores["miou"])
    card = _card(work, network, steps, scores)
    save_bundle(output, card, network, overwrite=overwrite)
    if request.workdir:
        _checkpoint_path(request.workdir).unlink(missing_ok=True)
    return {
        "model": str(output),
        "method": request.method,
        "encoder": network.architecture.encoder,
        "classes": list(card.scheme.names),
        "bands": list(card.bands),
        "gsd_m": card.gsd_m,
        "steps": steps,
        "seconds": time.monotonic() - started,
        "source_validation_miou": scores["miou"],
        "settings": dict(card.settings),
    }


def _card(work: Work, network: SegmentationNetwork, steps: int, scores: Mapping[str, Any]) -> Card:
    plan = work.plan
    return Card(
        network.architecture,
        plan.domain.scheme,
        plan.normalisation,
        plan.gsd_m,
        work.request.method,
        work.settings_in_full(steps),
        {"rsseg": __version__, **work.origin, **plan.to_json()},
        {"source_validation_miou": scores["miou"], "source_validation": scores["classes"]},
    )


def _train(
    work: Work, state: Mapping[str, Any] | None, started: float, track: Track
) -> tuple[SegmentationNetwork, int]:
    """The network that is kept, and how many steps were done."""
    request, deadline = work.request, _deadline(work.request, started)
    pace = Pace(**state["pace"]) if state else _pace_told(work, deadline)
    adapter = work.adapter(pace.steps)
    step = 0
    if state:
        adapter.load_state_dict(state["adapter"])
        step = int(state["step"])
        logger.info("going on from step %d of %d", step, pace.steps)
    reports = work.reports(adapter, pace.steps, step)
    label = f"training {request.encoder or work.network.architecture.encoder}"
    for report in track(reports, label, pace.steps - step):
        step = report.step
        if step % LOG_EVERY == 0:
            logger.debug("step %d: %s", step, report.losses)
        if request.workdir and step % CHECKPOINT_EVERY == 0:
            _save_checkpoint(work, adapter, pace, step, time.monotonic() - started)
        if time.monotonic() > deadline - pace.scoring_s - pace.step_s and step < pace.steps:
            logger.warning("stopped after step %d of %d: steps became slower, and time is up", step, pace.steps)
            break
    network = adapter.network
    assert isinstance(network, SegmentationNetwork)
    return network, step


def _pace_told(work: Work, deadline: float) -> Pace:
    """How many steps; said where the time decides."""
    if deadline == math.inf:
        return Pace(work.steps)
    pace = work.pace(deadline)
    logger.info("%d steps in %g minutes, at %.2f s a step", pace.steps, work.request.minutes, pace.step_s)
    if pace.steps < min(FEW_STEPS, work.request.steps or FEW_STEPS):
        logger.warning("so few steps teach little: give more --minutes, or a smaller --batch, --crop-px or --encoder")
    return pace


def _deadline(request: Request, started: float) -> float:
    return started + 60 * request.minutes if request.minutes else math.inf


def _checkpoint_path(workdir: Path) -> Path:
    return workdir / "checkpoint.pt"


def _fingerprint(work: Work) -> str:
    """What must be the same for a run to go on."""
    request = work.request
    settings = work.settings_in_full(request.steps or 0)
    architecture = work.network.architecture.as_json()
    return json.dumps([settings, architecture, work.origin, request.method, request.minutes, work.plan.to_json()])


def _save_checkpoint(work: Work, adapter: Adapter, pace: Pace, step: int, seconds: float) -> None:
    assert work.request.workdir is not None
    path = _checkpoint_path(work.request.workdir)
    written = path.with_suffix(".new")
    state = {"fingerprint": _fingerprint(work), "step": step, "seconds": seconds, "pace": asdict(pace)}
    torch.save(state | {"adapter": adapter.state_dict()}, written)
    written.replace(path)


def _restored(work: Work) -> dict[str, Any] | None:
    """The checkpoint to go on from, if the person wants to and there is one."""
    workdir = work.request.workdir
    path = _checkpoint_path(workdir) if workdir else None
    if path is None or not path.is_file():
        if work.request.resume:
            logger.info("%s: holds no checkpoint; starting from the first step", workdir)
        return None
    if not work.request.resume:
        logger.warning("%s: is of an unfinished run and will be replaced (--resume goes on from it)", path)
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        is_same = state["fingerprint"] == _fingerprint(work)
    except Exception as problem:  # torch raises several kinds for a damaged file
        raise RssegError(f"{path}: is damaged", "start anew, without --resume", file=str(path)) from problem
    if not is_same:
        raise RssegError(
            f"{path}: belongs to a run with other inputs or settings",
            "repeat that run's options, or start anew without --resume",
            file=str(path),
        )
    return state


def _peak_mib() -> int | None:
    """Memory this process has taken so far, where the system tells."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak / 2**20 if sys.platform == "darwin" else peak / 2**10)
