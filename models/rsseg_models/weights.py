"""The one place that reads weight files; no format that can run code is read in a way that would."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from rsseg_models.errors import ModelError

# What a folder with a published model holds, the safe format first.
FOLDER_NAMES = ("model.safetensors", "pytorch_model.bin")
# Where training scripts put the weights among other things.
WRAPPERS = ("state_dict", "model", "model_state_dict")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors in a file (.safetensors, .npz, .pth, .pt, .bin), or in a folder that holds such a model."""
    if path.is_dir():
        path = find_in_folder(path)
    if not path.is_file():
        raise ModelError(f"there are no weights at {path}", "give the path of a file of weights")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ModelError(f"{path.name}: weights have no such format", f"give a file ending in {', '.join(READERS)}")
    state = reader(path)
    if not state:
        raise ModelError(f"{path.name} holds no tensors", "give a file of weights")
    return state


def find_in_folder(folder: Path) -> Path:
    for name in FOLDER_NAMES:
        if (folder / name).is_file():
            return folder / name
    raise ModelError(f"the folder {folder} holds no weights", f"it should hold {' or '.join(FOLDER_NAMES)}")


def read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as problem:
        raise ModelError(f"{path.name} is damaged or no safetensors file ({problem})", "download it again") from problem


def read_npz(path: Path) -> dict[str, Tensor]:
    try:
        # Opened here: numpy leaves the file open when it turns out to be damaged.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except Exception as problem:  # zip, zlib, struct and numpy each raise their own for a damaged file
        raise ModelError(f"{path.name} is damaged or holds other things than numbers", "give plain arrays") from problem


def read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as problem:
        raise ModelError(
            f"{path.name} holds more than tensors, and could run a program when opened",
            "convert it to .safetensors where you trust it",
        ) from problem
    except Exception as problem:  # a damaged zip, an early end: torch raises several kinds
        raise ModelError(f"{path.name} is damaged or no file of weights", "download it again") from problem
    return unwrap(loaded, path.name)


def unwrap(loaded: Any, name: str) -> dict[str, Tensor]:
    """The state dict, which may lie one level down; what is no tensor beside it is left."""
    for key in WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict):
        raise ModelError(f"{name} holds no state dict", "save network.state_dict()")
    return {str(key): value for key, value in loaded.items() if isinstance(value, Tensor)}


READERS: dict[str, Callable[[Path], dict[str, Tensor]]] = {
    ".safetensors": read_safetensors,
    ".npz": read_npz,
    ".pth": read_pickle,
    ".pt": read_pickle,
    ".bin": read_pickle,
}
