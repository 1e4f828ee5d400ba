"""What the person sees: results on stdout; notes, warnings and progress on stderr."""

import json
import logging
import os
import signal
import sys
import threading
import time
from _thread import interrupt_main
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Literal, TypeVar

from rsseg_cli.environment import to_a_reader
from rsseg_cli.errors import RssegError

ProgressStyle = Literal["auto", "bar", "plain", "json"]
Step = TypeVar("Step")

# A caller that sees no event for this long may take the run for dead.
HEARTBEAT_S = 1.5
PLAIN_INTERVAL_S = 10.0
# Everything below reports by logging to this name; only the console decides how it looks.
LOGGER = logging.getLogger("rsseg_cli")
PREFIXES = {logging.DEBUG: "debug", logging.INFO: "note", logging.WARNING: "warning", logging.ERROR: "error"}


@dataclass
class Console:
    """One run's voice. Long lines stay whole: stdout may be a pipe, stderr a log.

    JSON is ASCII, with other letters as \\u escapes: no code page between two programs can spoil it.
    """

    as_json: bool = False  # stdout carries exactly one JSON object
    quiet: bool = False  # stderr carries errors only
    verbose: bool = False  # stderr carries debugging notes, and what GDAL says
    progress: ProgressStyle = "auto"
    log: Path | None = None  # everything said is also written here, with times
    said: set[str] = field(default_factory=set)

    def report(self, result: dict[str, Any], lines: Iterable[str]) -> None:
        """The result on stdout: one JSON object, or lines for people and pipes."""
        text = json.dumps(result) if self.as_json else "\n".join(lines)
        if text:
            with to_a_reader():
                print(f"{text}\n", end="", flush=True)  # at once, also where nothing is buffered

    def fail(self, error: RssegError, on_stdout: bool = True) -> None:
        """Problem and hint on stderr; with --json the same as one object on stdout, unless more follows there."""
        LOGGER.error(error.problem, extra={"hint": error.hint})
        if self.as_json and on_stdout:
            with to_a_reader():
                print(json.dumps({"error": error.as_json()}) + "\n", end="", flush=True)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Shows what any part of rsseg logs for as long as the run lasts."""
        level = logging.ERROR if self.quiet else logging.DEBUG if self.verbose else logging.INFO
        handlers: list[logging.Handler] = [_StderrHandler(self, level)]
        if self.log is not None:
            handlers.append(_log_file(self.log))
        # GDAL's own words help only who asks for them; what matters reaches the person as an RssegError.
        gdal = logging.getLogger("rasterio")
        quiet_gdal = handlers[1:] + (handlers[:1] if self.verbose else []) or [logging.NullHandler()]
        LOGGER.setLevel(logging.DEBUG)
        try:
            _attach(LOGGER, handlers)
            _attach(gdal, quiet_gdal)
            LOGGER.debug("command line: %s", " ".join(sys.argv))
            yield
        finally:
            _detach(LOGGER, handlers)
            _detach(gdal, quiet_gdal)
            for handler in handlers:
                handler.close()

    def track(self, steps: Iterable[Step], label: str, total: int) -> Iterator[Step]:
        """Passes steps through and shows how far they have come."""
        style = self._style()
        if style == "bar":
            yield from _bar(steps, label, total)
        elif style == "json":
            yield from _counted(steps, _JsonMeter(label, total))
        elif style == "plain":
            yield from _counted(steps, _PlainMeter(label, total))
        else:
            yield from steps

    def _style(self) -> str:
        if self.progress == "auto":
            return "none" if self.quiet else "bar" if sys.stderr.isatty() else "plain"
        return self.progress


class _StderrHandler(logging.Handler):
    """`note:`, `warning:` and `error:` lines, each said once; or JSON events."""

    def __init__(self, console: Console, level: int) -> None:
        super().__init__(level)
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        # A note on a topic is said of the first file; it holds for all others it holds for.
        topic = getattr(record, "topic", text)
        if topic in self.console.said:
            return
        self.console.said.add(topic)
        prefix = PREFIXES[record.levelno]
        hint = getattr(record, "hint", None)
        if self.console.progress == "json":
            _event(prefix, text=text, **({"hint": hint} if hint else {}))
        else:
            _say(f"{prefix}: {text}" + (f"\nhint: {hint}" if hint else ""))


def _log_file(path: Path) -> logging.Handler:
    if path.exists() and path.stat().st_size and path.suffix.lower() not in (".log", ".txt"):
        raise RssegError(
            f"{path}: exists, and its name is not that of a log",
            "name a new file, or one that ends in .log or .txt; the log is added to it",
            file=str(path),
            kind="output",
        )
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as problem:
        raise RssegError(
            f"{path}: cannot write the log: {problem.strerror}",
            "name a file in a folder you may write to, or leave --log away",
            file=str(path),
            kind="output",
        ) from problem
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    return handler


def _attach(logger: logging.Logger, handlers: list[logging.Handler]) -> None:
    for handler in handlers:
        logger.addHandler(handler)
    logger.propagate = False


def _detach(logger: logging.Logger, handlers: list[logging.Handler]) -> None:
    for handler in handlers:
        logger.removeHandler(handler)
    logger.propagate = True


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _event(event: str, **values: Any) -> None:
    # One write a line, so that events of two threads never interleave.
    sys.stderr.write(json.dumps({"event": event, **values}) + "\n")
    sys.stderr.flush()


def _bar(steps: Iterable[Step], label: str, total: int) -> Iterator[Step]:
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=RichConsole(stderr=True)) as progress:
        yield from progress.track(steps, total=total, description=label)


@dataclass
class _PlainMeter:
    """`label: NN%` lines, at most one every ten seconds and one at the end."""

    label: str
    total: int
    shown_at: float = field(default_factory=time.monotonic)

    def show(self, done: int) -> None:
        ended = done >= self.total
        if ended or time.monotonic() - self.shown_at >= PLAIN_INTERVAL_S:
            self.shown_at = time.monotonic()
            _say(f"{self.label}: {percent(done, self.total)}%")

    def beat(self, done: int) -> None:
        self.show(min(done, self.total - 1))


@dataclass
class _JsonMeter:
    """One JSON event a change of percent, and a heartbeat in between."""

    label: str
    total: int
    shown: int = -1

    def show(self, done: int) -> None:
        if percent(done, self.total) != self.shown:
            self.beat(done)

    def beat(self, done: int) -> None:
        self.shown = percent(done, self.total)
        _event("progress", label=self.label, done=done, total=self.total, percent=self.shown)


def _counted(steps: Iterable[Step], meter: _PlainMeter | _JsonMeter) -> Iterator[Step]:
    """Shows each finished step, and beats while a long one runs."""
    done = 0
    stop = threading.Event()

    def beat() -> None:
        try:
            while not stop.wait(HEARTBEAT_S):
                meter.beat(done)
        except BrokenPipeError:
            # Who was told is gone, QGIS say: without it nobody could stop the run any more.
            interrupt_main(signal.SIGTERM)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        meter.show(0)
        for step in steps:
            yield step
            done += 1
            meter.show(done)
    finally:
        stop.set()
        thread.join()


def percent(done: int, total: int) -> int:
    return 100 if total <= 0 else min(100, 100 * done // total)


def print_any_name() -> None:
    """A name that the terminal's code page has no letters for is shown with escapes; nothing breaks off over it."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def silence_closed_pipe() -> None:
    """After `| head` has gone, Python's flush at exit must not complain either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
