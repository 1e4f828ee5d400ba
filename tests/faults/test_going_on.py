"""Runs that were killed go on: with the same inputs and settings alone, and to the same end."""

import os
import random
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from commands_that_write import Bench, Command, found, strays
from forked import Ended, Running
from learning_runs import COMPARE, EVERY_STEP, LEARN, MAP, SMALL_BLOCKS, STEPS, laid_out, told
from running import is_running

from rsseg_cli.bundle import load_bundle, save_bundle

# Killed by itself, after so many of some calls.
DIES = """
import os, signal
from rsseg_cli.{module} import {kind}
really, left = {kind}.{call}, [{after}]
def dying(self, *given):
    really(self, *given)
    left[0] -= 1
    left[0] or os.kill(os.getpid(), signal.SIGKILL)
{kind}.{call} = dying
"""


@pytest.fixture
def place(bench: Bench, tmp_path: Path) -> Path:
    return laid_out(bench, tmp_path)


@pytest.fixture
def broken_off(bench: Bench, place: Path) -> Path:
    """Runs of three commands that were killed on their way."""
    ways = (
        ((*LEARN, *STEPS), EVERY_STEP + DIES.format(module="diary", kind="Diary", call="write", after=3)),
        (MAP, DIES.format(module="journal", kind="Journal", call="finish", after=1)),
        (COMPARE, SMALL_BLOCKS + DIES.format(module="change.scratch", kind="Scratch", call="write", after=3)),
    )
    for call, first in ways:
        assert bench.rsseg.run(place, *call, first=first).code == -signal.SIGKILL
    return place


def test_a_run_goes_on_with_the_same_inputs_and_settings_alone(bench: Bench, broken_off: Path, thorough: bool) -> None:
    """Each change is told by its name, with what it was and is."""
    place = broken_off
    refused = (
        (("learning_rate was 0.002, is 0.001",), (*LEARN, *STEPS, "--set", "learning_rate=0.001")),
        (("batch was 8, is 4", "seed was 0, is 1"), (*LEARN, *STEPS, "--batch", "4", "--seed", "1")),
        (("gsd was 0.5, is 0.7",), (*LEARN, *STEPS, "--gsd", "0.7")),
        (("method was source-only, is ktda",), (*LEARN, *STEPS, "--method", "ktda", "--teacher", "none")),
        (("tile_px was 192, is 256",), (*MAP, "--tile-px", "256")),
        (("model is another",), (*MAP, "--model", "other.safetensors")),
        (("threshold was auto, is otsu",), (*COMPARE, "--threshold", "otsu")),
    )
    shutil.copy(place / "untrained.safetensors", place / "other.safetensors")
    _another_model(place / "other.safetensors")
    refused = refused if thorough else refused[3:]
    for words, call in refused:
        said = told(bench.rsseg.run(place, *call, "--resume"))
        assert all(each in said for each in words), said
    for name in ("source/meadow_1.tif", "source/meadow_2_labels.tif", "scene.tif", "after.tif"):
        os.utime(place / name, (1, 1))
    for call, names in (
        ((*LEARN, *STEPS), ("source/meadow_1.tif", "source/meadow_2_labels.tif")),
        (MAP, ("scene.tif",)),
        (COMPARE, ("after.tif",)),
    ):
        said = told(bench.rsseg.run(place, *call, "--resume"))
        assert all(f"{name} has changed since" in said for name in names), said
        assert "without --resume" in said
    print(f"resume: {len(refused) + 3} runs with other inputs or settings refused, each difference named")


def _another_model(path: Path) -> None:
    bundle = load_bundle(path)
    for weights in bundle.network.parameters():
        weights.data += 1
    save_bundle(path, bundle.card, bundle.network, overwrite=True)


@dataclass(frozen=True)
class Killed:
    """A command that is killed again and again."""

    command: Command
    first: str
    says: str  # when it goes on
    rounds: tuple[int, int]  # in the quick subset, and in the whole
    within: tuple[float, float] = (0.1, 0.95)  # of the work of a whole run; before, there is nothing to go on with


ADAPTING = (*LEARN[:3], "--target", "target", "--crop-px", "64", "--batch", "2", "--workdir", "work", "-o", LEARN[-1])
KILLED = (
    Killed(
        Command("adapt", (*ADAPTING, "--steps", "3", "--set", "source.steps=4"), (LEARN[-1],)),
        EVERY_STEP,
        "going on from step",
        (3, 50),
    ),
    Killed(Command("segment", MAP, ("map.tif", "map.qml")), "", "going on from row", (2, 12), (0.4, 0.95)),
    Killed(
        Command("detect-change", (*COMPARE[:-1], "metric-cd", "--steps", "10"), ("change.tif", "change.qml")),
        SMALL_BLOCKS,
        "blocks are finished",
        (3, 12),
        (0.6, 0.95),
    ),
)


@pytest.mark.parametrize("each", KILLED, ids=lambda each: each.command.name)
def test_a_run_killed_again_and_again_ends_with_the_same(
    bench: Bench, place: Path, tmp_path: Path, thorough: bool, each: Killed
) -> None:
    command, rounds = each.command, each.rounds[thorough]
    usual = bench.rsseg.run(place, *command.argv, first=each.first)
    assert usual.code == 0, usual.stderr
    wanted = found(place, command)
    again = (*command.argv, "--resume", "--overwrite")
    moments, went_on = random.Random(rounds), 0
    for _ in range(rounds):
        ended = killed(bench.rsseg.start(place, *again, first=each.first), moments.uniform(*each.within) * usual.cpu_s)
        went_on += each.says in ended.stderr
    ended = bench.rsseg.run(place, *again, first=each.first)
    went_on += each.says in ended.stderr
    assert ended.code == 0, ended.stderr
    assert went_on or not thorough  # of few kills all may come too soon
    assert found(place, command) == wanted
    assert strays(place) == []
    seconds = f"{usual.cpu_s:.1f} s of a processor"
    print(f"{command}, {seconds}: killed {rounds} times, {went_on} runs went on from another; the same to the bit")


def killed(running: Running, after_s: float) -> Ended:
    """After so much work, however busy the machine is."""
    while is_running(running.pid) and _cpu_s(running.pid) < after_s:
        time.sleep(0.02)
    running.kill(signal.SIGKILL)
    return running.end()


def _cpu_s(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
