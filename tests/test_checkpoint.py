"""Checkpoints: whole under their name, whoever stops the program while one is written."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from rsseg_cli import checkpoint
from rsseg_cli.errors import RssegError, Terminated

ROUNDS = 40


def state(value: float) -> dict[str, Any]:
    """Of many parts, so that writing takes a while."""
    return {"run": [torch.full((100, 100), float(value)) for _ in range(400)]}


def written(path: Path) -> set[float]:
    return {float(part.mean()) for part in torch.load(path, weights_only=True)["run"]}


def stop(number: int, frame: object) -> NoReturn:
    raise Terminated


@pytest.fixture
def _stopped_by_sigterm() -> Iterator[None]:
    usual = signal.signal(signal.SIGTERM, stop)
    yield
    signal.signal(signal.SIGTERM, usual)


@pytest.mark.skipif(os.name != "posix", reason="Windows ends a process that SIGTERM is sent to")
@pytest.mark.usefixtures("_stopped_by_sigterm")
def test_who_stops_the_program_while_it_writes_is_heard_and_the_file_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint._write(state(-1), path)
    started = time.perf_counter()
    checkpoint._write(state(-1), path)
    seconds, stopped, last = time.perf_counter() - started, 0, {-1.0}
    for number in range(ROUNDS):
        timer = threading.Timer(seconds * number / ROUNDS, os.kill, (os.getpid(), signal.SIGTERM))
        try:
            timer.start()
            checkpoint._write(state(number), path)
            timer.join()
            time.sleep(1e-3)  # a signal is heard between two steps of the program
        except Terminated:
            stopped += 1
        found = written(path)
        assert found in ({float(number)}, last)
        last = found
        assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert stopped == ROUNDS
    assert signal.getsignal(signal.SIGTERM) is stop


def test_in_a_thread_of_its_own_it_is_written_as_well(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    thread = threading.Thread(target=checkpoint._write, args=(state(1), path))
    thread.start()
    thread.join()
    assert written(path) == {1.0}


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(RssegError, match=r"checkpoint\.pt: could not be written"):
        checkpoint._write(state(1), tmp_path / "none" / "checkpoint.pt")
