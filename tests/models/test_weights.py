"""Weight files: three formats, and none that runs code."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from rsseg_models.errors import ModelError
from rsseg_models.weights import read_weights
from safetensors.torch import save_file

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


def write(path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(STATE, path)
    elif path.suffix == ".npz":
        np.savez(path, **{key: value.numpy() for key, value in STATE.items()})
    else:
        torch.save(STATE, path)
    return path


@pytest.mark.parametrize("name", ["w.safetensors", "w.npz", "w.pth", "w.pt", "w.BIN"])
def test_every_format_gives_the_same_tensors(tmp_path: Path, name: str) -> None:
    read = read_weights(write(tmp_path / name))
    assert list(read) == list(STATE) or set(read) == set(STATE)
    assert all(torch.equal(read[key], value) for key, value in STATE.items())


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_stands_for_the_model_in_it(tmp_path: Path, name: str) -> None:
    write(tmp_path / name)
    assert set(read_weights(tmp_path)) == set(STATE)


def test_weights_may_lie_one_level_down(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE, "epoch": 3}, tmp_path / "w.pth")
    assert set(read_weights(tmp_path / "w.pth")) == set(STATE)


class Trap:
    """What a malicious file does when it is opened carelessly."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.victim,)


@pytest.mark.parametrize("name", ["w.pth", "w.npz", "w.safetensors"])
def test_code_is_refused_and_does_not_run(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "ran"
    if name == "w.npz":
        np.savez(tmp_path / name, a=np.array([Trap(victim)], dtype=object))
    elif name == "w.pth":
        torch.save({"a": Trap(victim)}, tmp_path / name)
    else:
        (tmp_path / name).write_bytes(pickle.dumps({"a": Trap(victim)}))
    with pytest.raises(ModelError, match=name):
        read_weights(tmp_path / name)
    assert not victim.exists()


@pytest.mark.parametrize("name", ["w.pth", "w.npz", "w.safetensors"])
def test_a_file_cut_short_is_refused(tmp_path: Path, name: str) -> None:
    content = write(tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=name):
        read_weights(tmp_path / name)


def test_what_is_not_there_or_no_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("weights")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    for name, problem in (
        ("none.pth", "no weights at"),
        ("notes.txt", "no such format"),
        ("list.pth", "no state dict"),
        ("empty.pth", "no tensors"),
        (".", "holds no weights"),
    ):
        with pytest.raises(ModelError, match=problem):
            read_weights(tmp_path / name)
