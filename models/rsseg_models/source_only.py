"""`source-only`: learn from labelled source scenes alone. The warm start and the baseline of every other method."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rsseg_models.batch import Batch
from rsseg_models.heads import FcnHead
from rsseg_models.losses import cross_entropy
from rsseg_models.network import SegmentationNetwork, enlarge
from rsseg_models.optimise import Average, Descent, OfParts, Schedule
from rsseg_models.recipe import Recipe, autocast, between

# The level, at stride 16, that the auxiliary head looks at.
AUXILIARY_LEVEL = 2


@dataclass(frozen=True)
class Settings(Recipe):
    """What can be set with --set NAME=VALUE."""

    auxiliary: float = between(0, 10, 0.4)
    """Weight of the loss on a second, simple head half-way down the encoder; with the head uper only."""
    fall: float = between(0, 10, 0.9)
    """Power of the learning rate's fall to 0: 1 evenly, below 1 later, above 1 sooner; 0 never, for long averages."""


def preference(shares: Tensor) -> Tensor:
    """Logits (K, 1, 1) of a model that knows nothing but how frequent each class is; 0 for the most frequent."""
    known = torch.where(shares > 0, shares, shares.max())
    return (known / shares.max()).log()[:, None, None]


class SourceOnly(OfParts):
    """Cross-entropy on labelled crops; keeps the moving average of the weights."""

    def __init__(
        self,
        network: SegmentationNetwork,
        settings: Settings,
        steps: int,
        class_weights: Tensor | None = None,
        class_shares: Tensor | None = None,
        pretrained: bool = False,
    ) -> None:
        self.student = network.train()
        self.network = copy.deepcopy(network)
        self.class_weights = class_weights
        # Added while learning and not kept, so that the network need not learn it (Menon et al. 2021, arXiv
        # 2007.07314): the target's shares are others.
        self.preference = 0.0 if class_shares is None else settings.balance * preference(class_shares)
        self.precision = settings.precision
        self.average = Average(self.student, self.network, settings.average)
        self.auxiliary = _auxiliary_head(network) if settings.auxiliary else None
        self.auxiliary_weight = settings.auxiliary
        encoder_rate = settings.learning_rate * (settings.pretrained_rate if pretrained else 1.0)
        heads = nn.ModuleList([network.head] if self.auxiliary is None else [network.head, self.auxiliary])
        self.descent = Descent(
            [(network.encoder, encoder_rate), (heads, settings.learning_rate)],
            Schedule(steps, round(settings.warm_up * steps), settings.fall),
            settings.weight_decay,
            settings.clip,
        )

    def step(self, batch: Batch, number: int) -> dict[str, Tensor]:
        with autocast(self.precision, batch.bands.device.type):
            levels = self.student.levels(batch.bands)
            logits = self.student.decode(levels, batch.labels.shape[-2:])
            aside = None if self.auxiliary is None else self.auxiliary(levels[AUXILIARY_LEVEL])
        losses = {"source": cross_entropy(logits + self.preference, batch.labels, self.class_weights)}
        total = losses["source"]
        if aside is not None:
            aside = enlarge(aside, self.student.encoder.strides[AUXILIARY_LEVEL], batch.labels.shape[-2:])
            losses["auxiliary"] = cross_entropy(aside, batch.labels, self.class_weights)
            total = total + self.auxiliary_weight * losses["auxiliary"]
        self.descent.minimise(total, number)
        self.average.update(number)
        return {name: loss.detach() for name, loss in losses.items()}

    def parts(self) -> dict[str, Any]:
        parts = {"student": self.student, "network": self.network, "descent": self.descent}
        return parts if self.auxiliary is None else parts | {"auxiliary": self.auxiliary}


def _auxiliary_head(network: SegmentationNetwork) -> FcnHead | None:
    """What the recipes of UPerNet train beside it; no part of the network that is kept."""
    architecture = network.architecture
    if architecture.head != "uper":
        return None
    head = FcnHead(network.encoder.channels[AUXILIARY_LEVEL], architecture.classes, architecture.width)
    return head.to(next(network.parameters()).device)
