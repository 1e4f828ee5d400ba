"""A stop is heard, whatever a library makes of it."""

import importlib
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from rsseg_cli import stops
from rsseg_cli.errors import Terminated


@pytest.fixture(autouse=True)
def _usual_signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(stops, "_came", [])
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in usual.items():
        signal.signal(number, handler)


def _stopped_while_it_is_loaded(sent: signal.Signals) -> None:
    try:
        signal.raise_signal(sent)
    except BaseException:
        raise ImportError("initialization failed") from None


@pytest.mark.parametrize(("sent", "stop"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_what_a_library_says_after_a_stop_is_the_stop(sent: signal.Signals, stop: type[BaseException]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stops.listen()
    with pytest.raises(stop) as told, stops.heard():
        _stopped_while_it_is_loaded(sent)
    assert isinstance(told.value.__cause__, ImportError)


def test_without_a_stop_an_error_is_an_error() -> None:
    with pytest.raises(ImportError), stops.heard():
        importlib.import_module("there_is_no_such_module")


def test_who_was_started_to_overlook_ctrl_c_does() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stops.listen()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
@pytest.mark.parametrize("sent", ["SIGINT", "SIGTERM"])
def test_stopped_while_it_only_clears_up_it_ends_without_a_word(sent: str) -> None:
    script = (
        "import atexit, signal, sys\n"
        "from rsseg_cli import app\n"
        f"atexit.register(lambda: signal.raise_signal(signal.{sent}))\n"
        "sys.argv = ['rsseg', 'info', 'there-is-no-such-file.tif']\n"
        "app.main()\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == -getattr(signal, sent)
    assert ended.stderr.splitlines()[0].startswith("error: ")
    assert "Traceback" not in ended.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
@pytest.mark.parametrize(("sent", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_command_ends_as_stopped(sent: str, code: int) -> None:
    """`info` meets a library that makes an error of it."""
    script = (
        "import signal, sys\n"
        "from rsseg_cli import app, description\n"
        "def broken(*args, **options):\n"
        "    try:\n"
        f"        signal.raise_signal(signal.{sent})\n"
        "    except BaseException:\n"
        "        raise ImportError('initialization failed') from None\n"
        "description.describe = broken\n"
        "sys.argv = ['rsseg', 'info', 'x.tif']\n"
        "app.main()\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (ended.returncode, "Traceback" in ended.stderr) == (code, False)
    assert ended.stderr.count("error: ") == 1
