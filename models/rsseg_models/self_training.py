"""`self-training`: a teacher labels the target, and the student learns from those labels and from the source.

The parts are known: mixed crops (`mixing.py`), and a teacher that is the student's moving average.

Labels of target batches are those that a person gave of a few places; mostly there are none.
"""

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from rsseg_models.batch import Batch, Domains
from rsseg_models.losses import NO_LABEL, cross_entropy
from rsseg_models.mixing import Mixer, Mixing
from rsseg_models.network import SegmentationNetwork
from rsseg_models.norms import Memory, remembering
from rsseg_models.optimise import Average, Descent, OfParts, Schedule
from rsseg_models.recipe import autocast, between
from rsseg_models.source_only import preference


@dataclass(frozen=True)
class Settings(Mixing):
    """What can be set with --set NAME=VALUE."""

    mixed: float = between(0, 100, 1.0)
    """Weight of the loss on mixed crops, beside that on the source."""


def only_valid(batch: Batch) -> Batch:
    """Without labels of ground that the image does not show."""
    return replace(batch, labels=torch.where(batch.valid, batch.labels, NO_LABEL))


class SelfTraining(OfParts):
    """Learns from the source and from the teacher's labels; the teacher, a moving average, is what is kept."""

    def __init__(
        self,
        network: SegmentationNetwork,
        settings: Settings,
        steps: int,
        class_weights: Tensor | None = None,
        class_shares: Tensor | None = None,
        *,
        pretrained: bool = False,
        target_norms: float = 0.0,  # how far norms are to know the target, and not the source; 0: what is learned from
    ) -> None:
        self.settings, self.target_norms, self.memory = settings, target_norms, Memory.of(target_norms)
        self.student = network.train()
        self.network = copy.deepcopy(network)
        self.average = Average(self.student, self.network, settings.average)
        self.mixer = Mixer(network.architecture.classes, settings).to(next(network.parameters()).device)
        self.class_weights = class_weights
        # Added while learning and not kept, as in source-only.
        self.preference = 0.0 if class_shares is None else settings.balance * preference(class_shares)
        encoder_rate = settings.learning_rate * (settings.pretrained_rate if pretrained else 1.0)
        self.descent = Descent(
            [(network.encoder, encoder_rate), (network.head, settings.learning_rate)],
            Schedule(steps, round(settings.warm_up * steps)),
            settings.weight_decay,
            settings.clip,
        )

    def step(self, batch: Domains[Batch], number: int) -> dict[str, Tensor]:
        source, target = only_valid(batch.source), batch.target
        with torch.no_grad():
            said = self._logits(self.network, target)
        mixed, weights, trust = self.mixer.mix(source, target, said)
        if self.target_norms:
            with torch.no_grad(), remembering(self.student, self.memory.target):
                self._logits(self.student, target)
        with remembering(self.student, self.memory.source):
            logits = self._logits(self.student, source) + self.preference
            on_source = cross_entropy(logits, source.labels, self.class_weights)
        with remembering(self.student, self.memory.mixed):
            on_mixed = self.mixer.loss(self._logits(self.student, mixed), mixed, weights)
        self.descent.minimise(on_source + self.settings.mixed * on_mixed, number)
        self.average.update(number)
        return {"source": on_source.detach(), "mixed": on_mixed.detach(), "kept": trust.mean()}

    def _logits(self, network: nn.Module, batch: Batch) -> Tensor:
        with autocast(self.settings.precision, batch.bands.device.type):
            logits: Tensor = network(batch.bands)
        return logits

    def parts(self) -> dict[str, Any]:
        return {
            "student": self.student,
            "network": self.network,
            "descent": self.descent,
            "mixer": self.mixer,
        }
