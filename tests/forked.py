"""rsseg as a person runs it, in processes forked from one that has imported everything: tenths of a second instead of
seconds. Run as a script, it is the process that forks them."""

import ctypes
import fcntl
import gc
import importlib
import json
import os
import pkgutil
import resource
import signal
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import rasterio

# What a command says waits in a pipe until the command has ended.
PIPE_BYTES = 1 << 20
F_SETPIPE_SZ = 1031
STOPS = {signal.SIGINT, signal.SIGTERM}


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit code, or the signal that killed it as a negative number."""

    code: int
    stdout: str
    stderr: str
    calls: int  # that changed files below the folder that `fail_at` named
    cpu_s: float


class Running:
    def __init__(self, rsseg: "Rsseg", pid: int) -> None:
        self.rsseg, self.pid = rsseg, pid

    def kill(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)  # who has ended keeps its number until somebody asks how

    def end(self) -> Ended:
        return Ended(**self.rsseg._ask({"end": self.pid}))


class Rsseg:
    """Starts commands. `first` is Python that a command's process runs before; what it may call is defined below."""

    def __init__(self, preload: Path | None = None) -> None:
        self.can_fail = preload is not None
        more = {"LD_PRELOAD": str(preload)} if preload else {}
        self.zygote = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "COLUMNS": "120", "OMP_NUM_THREADS": "1", **more},
        )

    def start(self, folder: Path, *argv: object, first: str = "") -> Running:
        return Running(self, self._ask({"folder": str(folder), "argv": [str(word) for word in argv], "first": first}))

    def run(self, folder: Path, *argv: object, first: str = "") -> Ended:
        return self.start(folder, *argv, first=first).end()

    def close(self) -> None:
        self.zygote.communicate()

    def _ask(self, what: dict[str, Any]) -> Any:
        assert self.zygote.stdin is not None
        assert self.zygote.stdout is not None
        print(json.dumps(what), file=self.zygote.stdin, flush=True)
        return json.loads(self.zygote.stdout.readline())


def limit(size: int) -> None:
    """No file may grow beyond."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def fail_at(folder: str, number: int, problem: int, for_good: bool = False) -> None:
    """The n-th call fails that changes files below the folder, or all from there on; none does at 0."""
    ctypes.CDLL(None).fail_at(os.fsencode(folder), ctypes.c_long(number), problem, int(for_good))


def unreserved() -> None:
    """As on file systems that cannot say beforehand whether there is space."""
    from rsseg_cli import delivery

    delivery._reserve = lambda *_: None


def unverified() -> None:
    """Without the step that finds damage."""
    from rsseg_cli import delivery

    delivery._Look.__call__ = lambda *_: None  # type: ignore[method-assign]


def _work() -> None:
    children: dict[int, list[int]] = {}
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    for line in sys.stdin:
        what = json.loads(line)
        answer = _ended(what["end"], children.pop(what["end"])) if "end" in what else _forked(what, children)
        print(json.dumps(answer), flush=True)


def _forked(what: dict[str, Any], children: dict[int, list[int]]) -> int:
    pipes = [os.pipe() for _ in range(3)]
    pid = os.fork()
    if pid == 0:
        for number, (_, end) in enumerate(pipes[:2], 1):
            os.dup2(end, number)
        _do(what, pipes[2][1])
    for _, end in pipes:
        os.close(end)
    children[pid] = [begin for begin, _ in pipes]
    return pid


def _ended(pid: int, pipes: list[int]) -> dict[str, Any]:
    stdout, stderr, calls = (os.fdopen(pipe, errors="replace").read() for pipe in pipes)
    _, status, used = os.wait4(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    cpu_s = used.ru_utime + used.ru_stime
    return {"code": code, "stdout": stdout, "stderr": stderr, "calls": int(calls or 0), "cpu_s": cpu_s}


def _do(what: dict[str, Any], calls: int) -> NoReturn:
    for number in (1, 2):
        fcntl.fcntl(number, F_SETPIPE_SZ, PIPE_BYTES)
    os.chdir(what["folder"])
    sys.argv = ["rsseg", *what["argv"]]
    exec(what["first"], globals())
    code = _exit_code()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if hasattr(ctypes.CDLL(None), "calls_seen"):
        os.write(calls, str(ctypes.CDLL(None).calls_seen()).encode())
    os._exit(code)


def _exit_code() -> int:
    from rsseg_cli import app

    really = app.app

    def heard(**options: Any) -> None:
        """Signals reach the command, and not the few lines of this file around it."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        try:
            really(**options)
        finally:
            for stop in STOPS:  # a mask would hold for this thread alone
                signal.signal(stop, signal.SIG_IGN)

    app.app = heard  # type: ignore[assignment]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever is started in the background has none
    try:
        app.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    return 1


def _import_everything() -> None:
    import rsseg_models
    import torch._dynamo  # noqa: F401 - optimisers import it when they are made

    import rsseg_cli

    for package in (rsseg_cli, rsseg_models):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.startswith(("rsseg_cli.qgis", "rsseg_cli.__main__")):
                importlib.import_module(module.name)
    with rasterio.Env():  # as costly as an import: drivers are registered once for all
        gc.collect()
    gc.freeze()  # so that what was imported stays shared between the processes


if __name__ == "__main__":
    _import_everything()
    _work()
