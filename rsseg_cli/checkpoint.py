"""Checkpoints: a run on disk, from which it can go on."""

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from rsseg_cli import __version__
from rsseg_cli.delivery import failure
from rsseg_cli.errors import RssegError
from rsseg_cli.plan import Request
from rsseg_cli.sameness import FILES, differences, stamps
from rsseg_cli.stops import stops_wait
from rsseg_cli.training import Run
from rsseg_cli.work import Pace, Work

LOCK = ".lock"

logger = logging.getLogger(__name__)


def path_in(workdir: Path) -> Path:
    return workdir / "checkpoint.pt"


@contextmanager
def held(workdir: Path | None) -> Iterator[None]:
    """The folder, where there is to be one, for this run alone: two would take each other's checkpoints away."""
    if workdir is None:
        yield
        return
    workdir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(workdir / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout as problem:
        raise RssegError(
            f"{workdir}: another rsseg run keeps its checkpoint there",
            "wait until that run has ended, or name another --workdir",
            file=str(workdir),
            kind="output",
        ) from problem
    except OSError as problem:
        raise failure(workdir / LOCK, problem) from problem
    with lock:
        yield


def run_of(work: Work) -> dict[str, Any]:
    """What must be the same for a run to go on where another stopped."""
    request, plan = work.request, work.plan
    trained = zip(plan.domain.scheme.names, plan.domain.training.totals.tolist(), strict=True)
    found: dict[str, Any] = {
        "rsseg": __version__,
        FILES: stamps(_files(work)),
        "method": request.method,
        "minutes": request.minutes,
        "init": request.init,
        "encoder_weights": request.encoder_weights,
        "teacher": request.teacher,
        "network": work.network.architecture.as_json(),
        "settings": work.settings_in_full(Pace(tuple(stage.steps for stage in work.stages))),
        "gsd": plan.scale.gsd_m,
        "labels": {f"training pixels of {name}": count for name, count in trained},
        "statistics of the bands": [plan.to_json()["normalisation"]],
    }
    return dict(json.loads(json.dumps(found)))


def _files(work: Work) -> list[str]:
    request, plan = work.request, work.plan
    labelled = [part.path for part in plan.target.labels if part] if plan.target else []
    scenes = chain((pair.scene for pair in plan.sources), plan.targets)
    given = [file for file in (request.init, request.encoder_weights) if file]
    return [
        *(file for scene in scenes for file in scene.files),
        *(pair.labels.path for pair in plan.sources),
        *labelled,
        *given,
    ]


def save(run: Run, started: float) -> None:
    """Where the person wants it."""
    workdir = run.work.request.workdir
    if workdir is None:
        return
    state = {"of": run_of(run.work), "seconds": time.monotonic() - started, "run": run.state_dict()}
    _write(state, path_in(workdir))
    if run.diary:
        run.diary.write()  # so that it holds each step once, however often a run is taken up


def _write(state: Mapping[str, Any], path: Path) -> None:
    """Under its name there is the one before, or all of this one."""
    new = path.with_suffix(".new")
    try:
        with stops_wait(), new.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except (OSError, RuntimeError) as problem:  # torch wraps what the system says
        raise failure(path, problem) from problem
    finally:
        new.unlink(missing_ok=True)


def is_kept(request: Request) -> bool:
    """Whether there is a run to go on with."""
    return request.workdir is not None and path_in(request.workdir).is_file()


def remove(request: Request) -> None:
    if request.workdir:
        path_in(request.workdir).unlink(missing_ok=True)


def restored(work: Work) -> Mapping[str, Any] | None:
    """The run to go on with, and the seconds it took before; if the person wants to and there is one."""
    request = work.request
    if request.workdir is None or not is_kept(request):
        if request.resume:
            logger.info("%s: holds no checkpoint; starting from the first step", request.workdir)
        return None
    path = path_in(request.workdir)
    if not request.resume:
        logger.warning("%s: is of an unfinished run and will be replaced (--resume goes on from it)", path)
        return None
    state = _read(path)
    if changed := differences(state["of"], run_of(work)):
        raise RssegError(
            f"{path}: the run to go on with differs: {changed}",
            "repeat that run's inputs and options, or start anew without --resume",
            file=str(path),
        )
    return state


def _read(path: Path) -> Mapping[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if set(state) != {"of", "seconds", "run"}:
            raise ValueError(f"holds {', '.join(state)}")
    except Exception as problem:  # torch raises several kinds for a damaged file
        raise RssegError(
            f"{path}: is no checkpoint of this rsseg, or is damaged", "start anew, without --resume", file=str(path)
        ) from problem
    return state
