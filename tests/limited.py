"""Commands with limits of time and memory, each in a process forked from one that has imported everything.

Run as a script, it is the process that forks them.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import traceback
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import rasterio

# Other programs may have the processor.
PATIENCE = 10
IMPORTED = ("app", "description", "mapping", "bundle", "evaluation", "vectorization", "vector.labels", "vector.write")


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    code: int  # below zero: by that signal
    said: str  # on stdout and stderr
    seconds: float  # that the processor was at work
    mib: float  # the most it held, what it shares with others included

    @property
    def is_orderly(self) -> bool:
        """Done, or refused in words."""
        return self.code in (0, 1) and "Traceback" not in self.said and (self.code == 0) == ("error: " not in self.said)


class Limited:
    """Runs `rsseg ARGUMENTS` in a folder, again and again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.zygote = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def run(self, *arguments: object, seconds: float = 30, more_mib: int | None = None) -> Ended:
        """Ended by SIGPROF after so many seconds of work, and by SIGALRM when it is found waiting.

        With so much memory beyond what it holds at the start.
        """
        assert self.zygote.stdin is not None
        assert self.zygote.stdout is not None
        said = self.folder / "said.txt"
        request = {"arguments": [str(each) for each in arguments], "seconds": seconds, "more_mib": more_mib}
        print(json.dumps(request | {"said": str(said)}), file=self.zygote.stdin, flush=True)
        code, took, mib = json.loads(self.zygote.stdout.readline())
        return Ended(code, said.read_text(encoding="utf-8", errors="replace"), took, mib)

    def close(self) -> None:
        self.zygote.communicate()


def _serve() -> None:
    for name in IMPORTED:
        import_module(f"rsseg_cli.{name}")
    with rasterio.Env():  # which makes a list of all formats once
        pass
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _be_the_command(request)
        _, status, used = os.wait4(pid, 0)
        ended = [os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]
        print(json.dumps(ended), flush=True)


def _be_the_command(request: dict[str, Any]) -> NoReturn:
    said = os.open(request["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number, handle in enumerate((os.open(os.devnull, os.O_RDONLY), said, said)):
        os.dup2(handle, number)
    signal.setitimer(signal.ITIMER_PROF, request["seconds"])
    signal.setitimer(signal.ITIMER_REAL, 20 + PATIENCE * request["seconds"])
    if request["more_mib"] is not None:
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = held + (request["more_mib"] << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    sys.argv = ["rsseg", *request["arguments"]]
    code = _exit_code()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _exit_code() -> int:
    from rsseg_cli.app import main

    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    _serve()
