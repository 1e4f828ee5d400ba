"""Which processes there still are, where the system tells in /proc."""

import os
import time
from pathlib import Path

ALL = Path("/proc")


def has_ended(process: int, within_s: float = 1) -> bool:
    until = time.monotonic() + within_s
    while is_running(process):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def is_running(process: int) -> bool:
    """One that has ended and that nobody has asked for its exit code does not count."""
    try:
        return (ALL / str(process) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def commands() -> list[str]:
    """The command lines of all processes but this one."""
    found = []
    for folder in ALL.glob("[0-9]*"):
        try:
            found += [(folder / "cmdline").read_text(errors="replace")] if folder.name != str(os.getpid()) else []
        except OSError:
            continue  # it has just ended
    return found
