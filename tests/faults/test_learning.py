"""Runs that learn and map, where numbers are none any more or memory runs out: nothing bad is kept or delivered."""

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from commands_that_write import Bench, strays
from learning_runs import COMPARE, EVERY_STEP, LEARN, MAP, STEPS, checkpoint, digest, laid_out, tensors, told
from rasterio import open as open_raster

SPOILT_STEP = """
import torch
from rsseg_models.optimise import Descent
from rsseg_models.source_only import SourceOnly
from rsseg_models.metric_cd import MetricCd
NAN = float("nan")
def spoil(kind, name, spoilt):
    really = getattr(kind, name)
    setattr(kind, name, lambda self, given, number: spoilt(self, really, given, number))
def gradient(self, really, loss, number):
    return really(self, loss * (NAN if number == 3 else 1), number)
def loss(self, really, batch, number):
    return {name: value * (NAN if number == 3 else 1) for name, value in really(self, batch, number).items()}
def weight(self, really, batch, number):
    losses = really(self, batch, number)
    if number == 3:
        next(self.network.parameters()).data.view(-1)[0] = NAN
    return losses
"""
# Where numbers are spoilt in the fourth step: what is said, and how it is done.
SPOILT = {
    "a gradient is no number any more at step 4": "spoil(Descent, 'minimise', gradient)",
    "a loss is no number any more at step 4": "spoil(SourceOnly, 'step', loss)",
    "a weight is no number any more at step 4": "spoil(SourceOnly, 'step', weight)",
}
# A step that needs more than there is, as each library says it.
NO_MEMORY = (
    "torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB')",
    'RuntimeError("DefaultCPUAllocator: can\'t allocate memory: you tried to allocate 536870912 bytes.")',
    "MemoryError()",
)
TOO_MANY_CROPS = """
import torch
from rsseg_models.source_only import SourceOnly
really = SourceOnly.step
def step(self, batch, number):
    if len(batch.labels) > {most} and number >= {since}:
        raise {error}
    return really(self, batch, number)
SourceOnly.step = step
"""
TOO_MANY_TILES = """
import torch
from rsseg_cli import predict
really = predict.forward_of
def forward_of(*given):
    forward = really(*given)
    def seen(tiles):
        if len(tiles) > {most}:
            raise {error}
        return forward(tiles)
    return seen
predict.forward_of = forward_of
"""
LITTLE_MEMORY = """
import resource
from rsseg_models import {0}
really = {0}.{1}.{2}
def in_little(*given):
    taken = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + (4 << 20), resource.RLIM_INFINITY))
    return really(*given)
{0}.{1}.{2} = in_little
"""


@pytest.fixture
def place(bench: Bench, tmp_path: Path) -> Path:
    return laid_out(bench, tmp_path)


def _skip_unless(tried: bool) -> None:
    if not tried:
        pytest.skip("RSSEG_ALL_FAULTS=1 tries it too")


def pixels(file: Path) -> np.ndarray:
    with open_raster(file) as raster:
        return raster.read()


@pytest.mark.parametrize("words", SPOILT)
def test_numbers_that_are_none_stop_learning_and_reach_no_file(
    bench: Bench, place: Path, thorough: bool, words: str
) -> None:
    _skip_unless(thorough or words.startswith("a weight"))
    ended = bench.rsseg.run(place, *LEARN, *STEPS, first=EVERY_STEP + SPOILT_STEP + SPOILT[words])
    said = told(ended)
    assert f"source-only failed: {words}" in said
    assert "--set learning_rate=0.0005, from the first step; work holds what was sound before" in said
    assert not (place / "model.safetensors").exists()
    kept = checkpoint(place)
    assert kept["line"]["step"] == 3
    assert all(value.isfinite().all() for value in tensors(kept))
    slower = bench.rsseg.run(place, *LEARN, *STEPS, "--set", "learning_rate=0.0005", "--resume")
    assert "checkpoint.pt: the run to go on with differs: learning_rate was 0.002, is 0.0005" in told(slower)
    assert bench.rsseg.run(place, *LEARN, *STEPS, "--resume").code == 0
    print(f"adapt: {words}: stopped, a sound checkpoint kept, nothing delivered")


def test_numbers_that_are_none_reach_no_change_map(bench: Bench, place: Path) -> None:
    call = [*COMPARE[:-1], "metric-cd"]
    ended = bench.rsseg.run(place, *call, first=SPOILT_STEP + "spoil(MetricCd, 'step', loss)")
    said = told(ended)
    assert "a loss is no number any more at step 4" in said
    assert "--set learning_rate=0.025" in said
    assert not (place / "change.tif").exists()
    assert strays(place) == []


@pytest.mark.parametrize("error", NO_MEMORY)
def test_where_memory_is_short_half_the_crops_are_learned_from(
    bench: Bench, place: Path, thorough: bool, error: str
) -> None:
    _skip_unless(thorough or error == NO_MEMORY[0])
    short = TOO_MANY_CROPS.format(most=1, since=0, error=error)
    ended = bench.rsseg.run(place, *LEARN, "--steps", "2", "--batch", "2", "--json", first=short)
    assert ended.code == 0, ended.stderr
    assert "warning: adapt: not enough memory; trying once more with --batch 1, from the first step" in ended.stderr
    assert json.loads(ended.stdout)["settings"]["batch"] == 1
    halved = digest(place)
    assert bench.rsseg.run(place, *LEARN, "--steps", "2", "--batch", "1", "--overwrite").code == 0
    assert digest(place) == halved


def test_it_is_tried_once_more_and_not_for_ever(bench: Bench, place: Path, thorough: bool) -> None:
    _skip_unless(thorough)
    short = TOO_MANY_CROPS.format(most=1, since=0, error=NO_MEMORY[0])
    ended = bench.rsseg.run(place, *LEARN, "--steps", "2", "--batch", "4", first=short)
    said = told(ended)
    assert "trying once more with --batch 2" in ended.stderr
    assert "adapt: not enough memory" in said
    for option in ("--batch", "--crop-px", "--encoder"):
        assert option in said
    assert not (place / "model.safetensors").exists()


def test_a_checkpoint_is_not_given_up_for_want_of_memory(bench: Bench, place: Path) -> None:
    whole = place / "whole"
    shutil.copytree(place / "source", whole / "source")
    assert bench.rsseg.run(whole, *LEARN, *STEPS, "--batch", "2").code == 0
    short = TOO_MANY_CROPS.format(most=1, since=3, error=NO_MEMORY[0])
    ended = bench.rsseg.run(place, *LEARN, *STEPS, "--batch", "2", first=EVERY_STEP + short)
    assert "--resume goes on" in told(ended)
    assert checkpoint(place)["line"]["step"] == 3
    assert bench.rsseg.run(place, *LEARN, *STEPS, "--batch", "2", "--resume").code == 0
    assert digest(place) == digest(whole)


@pytest.mark.parametrize("error", NO_MEMORY)
def test_where_memory_is_short_half_the_tiles_are_mapped_at_once(
    bench: Bench, place: Path, thorough: bool, error: str
) -> None:
    _skip_unless(thorough or error == NO_MEMORY[0])
    short = TOO_MANY_TILES.format(most=2, error=error)
    ended = bench.rsseg.run(place, *MAP, "--batch", "4", first=short)
    assert ended.code == 0, ended.stderr
    assert "warning: scene.tif: not enough memory; trying once more with --batch 2" in ended.stderr
    halved = pixels(place / "map.tif")
    assert bench.rsseg.run(place, *MAP, "--batch", "2", "--overwrite").code == 0
    np.testing.assert_array_equal(pixels(place / "map.tif"), halved)


def test_where_no_tile_fits_it_says_what_to_set(bench: Bench, place: Path) -> None:
    short = TOO_MANY_TILES.format(most=0, error=NO_MEMORY[1])
    said = told(bench.rsseg.run(place, *MAP, first=short))
    assert "scene.tif: not enough memory" in said
    assert "--tile-px" in said
    assert not (place / "map.tif").exists()
    assert strays(place) == []


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not say how much memory it takes")
@pytest.mark.parametrize(
    ("call", "before"),
    [
        ((*LEARN, "--steps", "1", "--batch", "64"), "source_only.SourceOnly.step"),
        ((*MAP, "--tile-px", "2048", "--batch", "8"), "heads.AllMlpHead.forward"),
    ],
    ids=["adapt", "segment"],
)
def test_memory_that_really_runs_out_is_told(
    bench: Bench, place: Path, thorough: bool, call: tuple[str, ...], before: str
) -> None:
    """No error that is played: when the network begins, its process may take 4 MiB more."""
    _skip_unless(thorough)
    ended = bench.rsseg.run(place, *call, first=LITTLE_MEMORY.format(*before.split(".")))
    assert not (place / call[call.index("-o") + 1]).exists()
    if ended.code == -signal.SIGABRT:
        pytest.skip("this time a library in C++ ended the process, which no Python can prevent")
    said = told(ended)
    assert "not enough memory" in said
    assert "--batch" in said
    assert "trying once more with --batch" in ended.stderr
    print(f"{call[0]}: {' '.join(said.split())}")
