"""How sure a model may be: the temperature that its logits are divided by before they become probabilities.

Where labels are held back, it is the one that makes them likeliest. On ground of the target there are none, and a
network is wrong there more often than it knows: what it is sure of is no sign. A better one is how far its map holds
together when the ground is shown larger and smaller. The share of pixels that keep their class at every size comes
near the share that is right, and the temperature is the one at which the mean confidence is that share; or the share
that is right on the source, where that is lower.
"""

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rsseg_models.devices import choose_precision, forward_of
from rsseg_models.kept import Kept
from torch import Tensor

from rsseg_cli.fusing import Forward
from rsseg_cli.patches import held_back_ground
from rsseg_cli.scores import Reliability
from rsseg_cli.selection import AT_ONCE, ZOOMS
from rsseg_cli.target import Target
from rsseg_cli.validation import MOST_SAMPLED, Sample

# Little ground, or ground where all is right, asks for temperatures that say nothing of other ground.
LEAST, MOST = 0.1, 10.0

Logits = NDArray[np.float32]  # (pixel, class)
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Calibration:
    """Temperatures, and what they come from."""

    source: float | None = None  # temperature on ground with labels; None: none is held back
    source_ece: float | None = None  # what is left with it of the calibration error there
    target: float | None = None  # temperature on ground of the target; None: none is held back
    target_accuracy: float | None = None  # as far as can be told without labels

    @property
    def temperature(self) -> float:
        """New ground is no reason to be surer, neither than the network is nor than the source allows."""
        if self.target is None:
            return self.source or 1.0
        return max(1.0, self.source or 1.0, self.target)

    def to_json(self) -> dict[str, Any]:
        return {
            "temperature": self.temperature,
            "source_temperature": self.source,
            "source_ece": self.source_ece,
            "target_temperature": self.target,
            "target_accuracy_expected": self.target_accuracy,
        }


def calibrate(network: Kept, sample: Sample, target: Target | None, device: str) -> Calibration:
    """Of `network`; the sample is of the source as the model saw it before it was adapted."""
    found, source_accuracy = _of_source(sample)
    if seen := _steadiness(network, target, device) if target else None:
        logits, steady = seen
        accuracy = min(steady, source_accuracy)
        found = replace(found, target=as_sure_as(logits, accuracy), target_accuracy=accuracy)
    elif target:
        logger.info("no ground of the target is held back: confidence is that of the source")
    logger.info("confidence is corrected by a temperature of %.2f", found.temperature)
    return found


def _of_source(sample: Sample) -> tuple[Calibration, float]:
    """What labels say, and the share of them that is found."""
    if not len(sample.places):
        return Calibration(), 1.0
    logits, temperature = sample.logits, likeliest(sample.logits, sample.places)
    is_right = logits.argmax(axis=1) == sample.places
    reliability = Reliability()
    reliability.add(confidence(logits, temperature), is_right)
    return Calibration(temperature, reliability.figures()["ece"]), float(is_right.mean())


def likeliest(logits: Logits, places: NDArray[np.uint8]) -> float:
    """The temperature with the least negative log-likelihood of the labels."""
    from scipy.optimize import minimize_scalar  # slow to import

    chosen = logits[np.arange(len(logits)), places]

    def loss(exponent: float) -> float:
        temperature = np.exp(exponent)
        return float(np.logaddexp.reduce(logits / temperature, axis=1).mean() - chosen.mean() / temperature)

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(LEAST), np.log(MOST)), method="bounded").x))


def as_sure_as(logits: Logits, accuracy: float) -> float:
    """The temperature at which the mean confidence is an accuracy; the nearest there is."""
    from scipy.optimize import brentq  # slow to import

    def excess(exponent: float) -> float:
        return float(confidence(logits, np.exp(exponent)).mean()) - accuracy

    low, high = np.log(LEAST), np.log(MOST)
    if excess(low) <= 0:
        return LEAST
    return MOST if excess(high) >= 0 else float(np.exp(brentq(excess, low, high)))


def confidence(logits: Logits, temperature: float) -> NDArray[np.float32]:
    """The probability of the class that wins."""
    below = (logits - logits.max(axis=1, keepdims=True)) / np.float32(temperature)
    return np.asarray(1 / np.exp(below).sum(axis=1), np.float32)


def _steadiness(network: Kept, target: Target, device: str) -> tuple[Logits, float] | None:
    """Logits of held-back ground, and the share of its pixels that have the same class at every size."""
    bands, inside = held_back_ground(target)
    if not inside.any():
        return None
    precision = choose_precision("auto", device)
    plain = _pixels(forward_of(network, device, precision), bands, inside)
    steady = torch.ones(len(plain), dtype=torch.bool)
    for zoom in ZOOMS:
        steady &= _pixels(forward_of(network, device, precision, zoom), bands, inside).argmax(1) == plain.argmax(1)
    return plain[:: 1 + len(plain) // MOST_SAMPLED].numpy(), float(steady.float().mean())


def _pixels(forward: Forward, bands: Tensor, inside: Tensor) -> Tensor:
    """Logits (pixel, class) of what is inside."""
    parts = zip(torch.split(bands, AT_ONCE), torch.split(inside, AT_ONCE), strict=True)
    return torch.cat([forward(part).movedim(1, -1)[own] for part, own in parts])
