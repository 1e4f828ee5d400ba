"""`source-only`: learn from labelled source scenes alone. The warm start and the baseline of every other method."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rsseg_models.batch import Batch
from rsseg_models.losses import cross_entropy
from rsseg_models.network import SegmentationNetwork
from rsseg_models.optimise import Average, Descent, Schedule


@dataclass(frozen=True)
class Settings:
    """What can be set with --set NAME=VALUE."""

    learning_rate: float = 2e-3
    """Of the head, and of an encoder trained from nothing."""
    pretrained_rate: float = 0.2
    """Times the learning rate, for an encoder that starts from published weights."""
    weight_decay: float = 0.01
    """Pull of weights towards zero."""
    warm_up: float = 0.05
    """Part of the steps in which the rate rises."""
    clip: float = 1.0
    """Longest gradient, as a whole."""
    average: float = 0.99
    """Momentum of the moving average that is kept; 0 keeps the last weights."""
    precision: str = "auto"
    """float32, bfloat16, or auto: bfloat16 where the processor is quicker with it."""


class SourceOnly:
    """Cross-entropy on labelled crops; keeps the moving average of the weights."""

    def __init__(
        self,
        network: SegmentationNetwork,
        settings: Settings,
        steps: int,
        class_weights: Tensor | None = None,
        pretrained: bool = False,
    ) -> None:
        self.student = network.train()
        self.network = copy.deepcopy(network)
        self.class_weights = class_weights
        self.precision = torch.bfloat16 if settings.precision == "bfloat16" else None
        self.average = Average(self.student, self.network, settings.average)
        encoder_rate = settings.learning_rate * (settings.pretrained_rate if pretrained else 1.0)
        self.descent = Descent(
            [(network.encoder, encoder_rate), (network.head, settings.learning_rate)],
            Schedule(steps, round(settings.warm_up * steps)),
            settings.weight_decay,
            settings.clip,
        )

    def step(self, batch: Batch, number: int) -> dict[str, Tensor]:
        device = batch.bands.device.type
        with torch.autocast(device, self.precision or torch.bfloat16, enabled=self.precision is not None):
            logits = self.student(batch.bands)
        loss = cross_entropy(logits, batch.labels, self.class_weights)
        self.descent.minimise(loss, number)
        self.average.update(number)
        return {"source": loss.detach()}

    def state_dict(self) -> dict[str, Any]:
        return {
            "student": self.student.state_dict(),
            "network": self.network.state_dict(),
            "descent": self.descent.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.student.load_state_dict(state["student"])
        self.network.load_state_dict(state["network"])
        self.descent.load_state_dict(state["descent"])
