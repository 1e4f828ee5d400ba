"""The program rsseg: where it is, how it is run, and how it is ended. Nothing here needs QGIS."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import Empty, Queue
from typing import Any

POLL_S = 0.1
# Somebody who cancels waits no longer than this and a little; a tidy end takes a tenth of a second as a rule.
GRACE_S = 1.5
# QGIS sets these for its own PROJ, GDAL and Python; those of rsseg are others.
FOREIGN = ("PROJ_LIB", "PROJ_DATA", "GDAL_DATA", "GDAL_DRIVER_PATH")
PROGRAMS = ("bin/rsseg", "Scripts/rsseg.exe", "rsseg.exe", "rsseg")
WHERE = "if it is installed, say where: Settings > Options > Processing > Providers > rsseg"


class NotFoundError(Exception):
    """There is no rsseg where it should be."""


class CanceledError(Exception):
    """The person wants no more of it."""


def find_program(program: str, environment: str) -> str:
    """The program that a person named, the one in the environment that they chose, or the one on PATH."""
    if program:
        if Path(program).is_file():
            return program
        raise NotFoundError(f"there is no file {program}, which the settings name as the program rsseg; {WHERE}")
    if environment:
        for name in PROGRAMS:
            if (Path(environment) / name).is_file():
                return str(Path(environment) / name)
        raise NotFoundError(f"there is no rsseg in the environment {environment}, which the settings name; {WHERE}")
    found = shutil.which("rsseg")
    if found is None:
        raise NotFoundError(f"the program rsseg was not found; {WHERE}")
    return found


def child_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON") and name not in FOREIGN}
    # Windows would have it write in a code page, which knows few characters.
    return {**kept, "PYTHONIOENCODING": "utf-8"}


def run(call: Sequence[str], said: Callable[[str], None], is_canceled: Callable[[], bool]) -> tuple[int, str]:
    """(exit code, what came on stdout); each line of stderr is `said` as it comes, in this thread."""
    with tempfile.TemporaryFile() as output:  # a file never fills up as a pipe does
        process = subprocess.Popen(  # noqa: S603 - a list, no shell
            call,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            env=child_environment(),
            **_apart(),
        )
        try:
            for line in _lines(process, is_canceled):
                said(line)
        except BaseException:
            _end(process)
            raise
        output.seek(0)
        return process.returncode, output.read().decode("utf-8", "replace")


def _lines(process: subprocess.Popen[bytes], is_canceled: Callable[[], bool]) -> Iterator[str]:
    """What the process says, until it ends. It may be silent for long: a thread waits for it, and we look up."""
    lines: Queue[str | None] = Queue()
    assert process.stderr is not None
    stderr = process.stderr

    def read() -> None:
        with stderr:
            for line in stderr:
                lines.put(line.decode("utf-8", "replace").rstrip())
        process.wait()
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        if is_canceled():
            raise CanceledError
        try:
            line = lines.get(timeout=POLL_S)
        except Empty:
            continue
        if line is None:
            return
        yield line


def _apart() -> dict[str, Any]:
    """A group of its own, so that all of it can be ended; on Windows without a window that pops up."""
    if os.name == "nt":
        return {"creationflags": subprocess.CREATE_NO_WINDOW}  # type: ignore[attr-defined, unused-ignore]
    return {"start_new_session": True}


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the process and all that it started: asked first, so that it can tidy up, then made to."""
    if os.name == "nt":
        # There is no way to ask a program without a window.
        call = ["taskkill", "/T", "/F", "/PID", str(process.pid)]
        subprocess.run(call, check=False, capture_output=True, **_apart())  # noqa: S603
    else:
        until = time.monotonic() + GRACE_S
        is_left = _signal(process, signal.SIGTERM)
        while is_left and time.monotonic() < until:
            time.sleep(POLL_S / 2)
            process.poll()
            is_left = _signal(process, 0)
        _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: subprocess.Popen[bytes], number: int) -> bool:
    """Whether there was anybody to get the signal."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):  # macOS says the second of what has just ended
        return False
    return True


def unfinished_of(outputs: Sequence[str]) -> set[Path]:
    """What rsseg keeps beside its outputs while it writes them."""
    return {
        beside
        for output in map(Path, outputs)
        if output.parent.is_dir()
        for beside in output.parent.iterdir()
        if beside.name.startswith(f".{output.name}.rsseg")
    }


def remove(folders: set[Path]) -> set[Path]:
    """Those that would not go."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return {folder for folder in folders if folder.exists()}
