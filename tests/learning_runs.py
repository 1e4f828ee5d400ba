"""Runs that learn, map and compare on small inputs, and what makes them go wrong on their way."""

import shutil
from pathlib import Path
from typing import Any

import torch
from commands_that_write import SAMPLES, Bench
from forked import Ended

from rsseg_cli.bundle import load_bundle

SCENES = {"scene.tif": "target/karst_1.tif", "before.tif": "change/before.tif", "after.tif": "change/after.tif"}
LEARN = ("adapt", "--source", "source", "--method", "source-only", "--crop-px", "64", "-o", "model.safetensors")
STEPS = ("--steps", "6", "--workdir", "work")
MAP = ("segment", "scene.tif", "--model", "untrained.safetensors", "--tile-px", "192", "-o", "map.tif")
COMPARE = ("detect-change", "before.tif", "after.tif", "-o", "change.tif", "--method", "cva")

# What a command's process is told before it begins.
EVERY_STEP = "from rsseg_cli import training; training.CHECKPOINT_EVERY = 1\n"
SMALL_BLOCKS = "from rsseg_cli.change import comparison, detection; comparison.BLOCK_PX = detection.BLOCK_PX = 32\n"


def laid_out(bench: Bench, folder: Path) -> Path:
    """Something to learn from, to map and to compare."""
    shutil.copytree(bench.folder / "inputs", folder, dirs_exist_ok=True)
    for name, sample in SCENES.items():
        shutil.copy(SAMPLES / sample, folder / name)
    return folder


def told(ended: Ended) -> str:
    """What a failed run says last; it has to help, and to show nothing of Python."""
    assert ended.code == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "hint: " in ended.stderr
    return ended.stderr.rpartition("error: ")[2]


def checkpoint(place: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(place / "work" / "checkpoint.pt", weights_only=True)
    return state["run"]


def tensors(state: Any) -> list[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        return [state]
    inner = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return [tensor for part in inner for tensor in tensors(part)]


def digest(place: Path) -> str:
    return load_bundle(place / "model.safetensors").digest
