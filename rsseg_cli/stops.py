"""Whoever stops the program, by Ctrl-C, SIGTERM or by closing its window, is heard, whatever libraries make of it.

Stopped in the middle, a library in C may say that it could not be loaded, or that a file could not be closed: what it
says after a stop is of the stop.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from rsseg_cli.errors import Terminated

_came: list[type[BaseException]] = []


def listen() -> None:
    """From now on; a program that was started to overlook Ctrl-C goes on doing so."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    for name in ("SIGTERM", "SIGBREAK"):  # Windows has the second: Ctrl-Break, or the window was closed
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), terminate)


def interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    _came.append(KeyboardInterrupt)
    raise KeyboardInterrupt


def terminate(signum: int, frame: FrameType | None) -> NoReturn:
    _came.append(Terminated)
    raise Terminated


@contextmanager
def heard() -> Iterator[None]:
    """What goes wrong in the block after a stop is that stop."""
    try:
        yield
    except Exception as problem:
        if _came:
            raise _came[0] from problem
        raise
