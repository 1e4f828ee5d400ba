"""Checkpoints: a run on disk, from which it can go on."""

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from rsseg_cli.errors import RssegError
from rsseg_cli.plan import Request
from rsseg_cli.training import Pace, Run, Work

logger = logging.getLogger(__name__)


def path_in(workdir: Path) -> Path:
    return workdir / "checkpoint.pt"


def fingerprint(work: Work) -> str:
    """What must be the same for a run to go on."""
    request = work.request
    settings = work.settings_in_full(Pace(tuple(stage.steps for stage in work.stages)))
    architecture = work.network.architecture.as_json()
    return json.dumps([settings, architecture, work.origin, request.method, request.minutes, work.plan.to_json()])


def save(run: Run, started: float) -> None:
    """Where the person wants it."""
    workdir = run.work.request.workdir
    if workdir is None:
        return
    written = path_in(workdir).with_suffix(".new")
    torch.save(
        {"fingerprint": fingerprint(run.work), "seconds": time.monotonic() - started, "run": run.state_dict()}, written
    )
    written.replace(path_in(workdir))
    if run.diary:
        run.diary.write()  # so that it holds each step once, however often a run is taken up


def remove(request: Request) -> None:
    if request.workdir:
        path_in(request.workdir).unlink(missing_ok=True)


def restored(work: Work) -> Mapping[str, Any] | None:
    """The run to go on with, and the seconds it took before; if the person wants to and there is one."""
    workdir = work.request.workdir
    path = path_in(workdir) if workdir else None
    if path is None or not path.is_file():
        if work.request.resume:
            logger.info("%s: holds no checkpoint; starting from the first step", workdir)
        return None
    if not work.request.resume:
        logger.warning("%s: is of an unfinished run and will be replaced (--resume goes on from it)", path)
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        is_same = state["fingerprint"] == fingerprint(work)
    except Exception as problem:  # torch raises several kinds for a damaged file
        raise RssegError(f"{path}: is damaged", "start anew, without --resume", file=str(path)) from problem
    if not is_same:
        raise RssegError(
            f"{path}: belongs to a run with other inputs or settings",
            "repeat that run's options, or start anew without --resume",
            file=str(path),
        )
    return state
