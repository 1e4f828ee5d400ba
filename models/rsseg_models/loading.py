"""Published weights into an encoder: everything fits, or nothing is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rsseg_models.encoder import Encoder, StateDict
from rsseg_models.errors import ModelError
from rsseg_models.mobilenet_v2 import MobileNetV2
from rsseg_models.network import SegmentationNetwork
from rsseg_models.stem import RGB, adapt_stem, bands_by_mean

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
