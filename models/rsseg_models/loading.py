"""Published weights into an encoder: everything fits, or nothing is loaded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from rsseg_models.encoder import Encoder, StateDict
from rsseg_models.errors import ModelError
from rsseg_models.mobilenet_v2 import MobileNetV2
from rsseg_models.network import ENCODERS, SegmentationNetwork
from rsseg_models.stem import RGB, adapt_stem, bands_by_mean
from rsseg_models.transformers_encoder import fetch_backbone, find_weights
from rsseg_models.weights import read_weights

Found = TypeVar("Found")
# So many keys are named in a message; the rest is counted.
NAMED = 5


@dataclass(frozen=True)
class LoadedWeights:
    """What went into an encoder."""

    # Whose key names the file used.
    naming: str
    tensors: int
    values: int
    # Keys that are no part of an encoder.
    left_out: tuple[str, ...]
    # Bands that start from the mean of red, green and blue, because no weights know them.
    bands_by_mean: tuple[str, ...]


def open_encoder(name: str) -> tuple[str, str, StateDict | None]:
    """Name and variant for the Architecture, and weights that came along: a folder's, or those of a model id."""
    if name in ENCODERS and name != "transformers":
        return name, "", None
    if not name or (name.count("/") != 1 and not Path(name).is_dir()):
        own = ", ".join(known for known in ENCODERS if known != "transformers")
        raise ModelError(
            f"there is no encoder {name!r}",
            f"use one of {own}; or a model id such as microsoft/resnet-50, or a model's folder",
        )
    variant, weights = at_hand_or_fetched(fetch_backbone, name)
    return "transformers", variant, weights


def open_weights(name: str) -> StateDict:
    """Weights in a file or folder; what is neither is a model id."""
    path = Path(name)
    return read_weights(path if path.exists() else at_hand_or_fetched(find_weights, name))


def at_hand_or_fetched(get: Callable[..., Found], name: str) -> Found:
    """What lies here needs no network; what does not is fetched, because somebody named it."""
    if Path(name).is_dir():
        return get(name, download=False)
    try:
        return get(name, download=False)
    except ModelError:
        return get(name, download=True)


def inherit(network: SegmentationNetwork, earlier: SegmentationNetwork, classes: Sequence[int | None]) -> bool:
    """Start from an earlier network of the same encoder and bands; tells whether its head fits too.

    `classes` has for each class its place among the earlier ones, or None: that one starts anew.
    """
    network.encoder.load_state_dict(earlier.encoder.state_dict())
    ours, theirs = network.architecture, earlier.architecture
    if (ours.head, ours.width, ours.transfer) != (theirs.head, theirs.width, theirs.transfer):
        return False
    known = [at for at, place in enumerate(classes) if place is not None]
    places = [place for place in classes if place is not None]
    state = network.head.state_dict()
    for key, value in earlier.head.state_dict().items():
        if key.startswith("classifier."):
            state[key][known] = value[places]
        else:
            state[key].copy_(value)
    return True


def load_encoder_weights(network: SegmentationNetwork, state: StateDict, band_names: Sequence[str]) -> LoadedWeights:
    """Fill the network's encoder from published weights, its first layer by band name; ModelError unless all fits."""
    encoder = network.encoder
    if len(band_names) != len(network.architecture.bands):
        raise ValueError(f"{len(network.architecture.bands)} bands need as many names, not {len(band_names)}")
    translation = encoder.translate(state)
    weights = dict(translation.state)
    by_mean: tuple[str, ...] = ()
    stem = weights.get(encoder.stem_key)
    if stem is not None and is_rgb(stem) and not (translation.naming == "rsseg" and stem.shape[1] == len(band_names)):
        weights[encoder.stem_key] = adapt_stem(stem, band_names)
        by_mean = bands_by_mean(band_names)
    check_fit(encoder, weights)
    if isinstance(encoder, MobileNetV2):
        encoder.adopt(translation.variant)
        network.architecture = replace(network.architecture, variant=encoder.variant)
    encoder.load_state_dict(weights)
    values = sum(tensor.numel() for tensor in weights.values())
    return LoadedWeights(translation.naming, len(weights), values, translation.left_out, by_mean)


def is_rgb(stem: Tensor) -> bool:
    return stem.ndim == 4 and stem.shape[1] == len(RGB)


def check_fit(encoder: Encoder, weights: StateDict) -> None:
    """Every tensor is there, is known, has its shape, and is finite."""
    own = encoder.state_dict()
    # Counters of batch norm are no weights; some writers leave them out.
    missing = [key for key in own if key not in weights and not key.endswith("num_batches_tracked")]
    unknown = [key for key in weights if key not in own]
    shapes = [
        f"{key} {tuple(weights[key].shape)} in place of {tuple(own[key].shape)}"
        for key in own
        if key in weights and weights[key].shape != own[key].shape
    ]
    broken = [key for key, tensor in weights.items() if not bool(torch.isfinite(tensor).all())]
    wrong = {"missing": missing, "unknown": unknown, "of another shape": shapes, "not finite": broken}
    if any(wrong.values()):
        listed = "; ".join(f"{what}: {shorten(keys)}" for what, keys in wrong.items() if keys)
        raise ModelError(f"the weights do not fit the encoder ({listed})", "give weights of this very encoder")


def shorten(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return ", ".join(keys[:NAMED]) + more
