"""Whoever stops the program, by Ctrl-C, SIGTERM or by closing its window, is heard, whatever libraries make of it.

Stopped in the middle, a library in C may say that it could not be loaded, or that a file could not be closed: what it
says after a stop is of the stop.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

from rsseg_cli.errors import Terminated

# Windows has the third: Ctrl-Break, or the window was closed.
STOPS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]

_came: list[type[BaseException]] = []


def listen() -> None:
    """From now on; a program that was started to overlook Ctrl-C goes on doing so."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    for number in STOPS:
        if number != signal.SIGINT:
            signal.signal(number, terminate)


def listen_no_more() -> None:
    """Whoever stops a program that only clears up ends it at once, with no word from Python about where."""
    for number in STOPS:
        if signal.getsignal(number) in (interrupt, terminate):
            signal.signal(number, signal.SIG_DFL)


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


@contextmanager
def stops_wait() -> Iterator[None]:
    """Whoever stops the program meanwhile is heard when the block is done.

    torch, stopped while it writes, says that writing failed; and may end the process as it clears up.
    """
    usual: dict[int, Any] = {}
    came: list[int] = []
    try:
        if threading.current_thread() is threading.main_thread():  # in others nothing is stopped anyway
            for number in filter(signal.getsignal, STOPS):
                usual[number] = signal.signal(number, lambda number, frame: came.append(number))
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
        for number in came[:1]:
            signal.raise_signal(number)
