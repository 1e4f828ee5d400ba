"""`self-training`: a teacher labels the target, and the student learns from those labels and from the source.

The parts are known: mixing classes of the source into the target (DACS, Tranheden et al. 2021, arXiv 2007.08702), and
a teacher that is the student's moving average. Thresholds are each class's own: one for all starves what the teacher is
less sure of.

Labels of target batches are those that a person gave of a few places; mostly there are none.
"""

import copy
import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rsseg_models.batch import Batch, Domains
from rsseg_models.losses import NO_LABEL, cross_entropy
from rsseg_models.network import SegmentationNetwork
from rsseg_models.norms import untracked
from rsseg_models.optimise import Average, Descent, OfParts, Schedule
from rsseg_models.recipe import Recipe, autocast, between
from rsseg_models.source_only import preference

# Bins of confidence, as log-odds: sure pixels differ in the number of nines, which even steps of probability would
# not tell apart.
BINS, BIN_WIDTH = 280, 0.1
# No class counts more, or less, than this many times what it would without balance.
MOST_BALANCE = 3.0


@dataclass(frozen=True)
class Settings(Recipe):
    """What can be set with --set NAME=VALUE."""

    mixed: float = between(0, 100, 1.0)
    """Weight of the loss on mixed crops, beside that on the source."""
    kept: float = between(0.01, 1, 0.8)
    """Part of the pixels of each class, the surest, that are learned from."""
    floor: float = between(0, 1, 0.4)
    """Confidence below which no pixel is learned from, whatever its class."""
    memory: float = between(0, 0.9999, 0.9)
    """How much of what is known about confidences lasts from step to step."""
    rarity: float = between(0, 1, 0.5)
    """How much more rare classes count on mixed crops: 0 not, 1 as much as they are rarer."""
    jitter: float = between(0, 2, 0.2)
    """Spread of brightness and contrast, band by band, on mixed crops."""
    blur: float = between(0, 20, 1.0)
    """Widest blur of mixed crops, in pixels; every other crop has some."""


class Confidences(nn.Module):
    """How sure the teacher was of late, class by class: a histogram that fades."""

    counts: Tensor

    def __init__(self, classes: int, fading: float) -> None:
        super().__init__()
        self.fading = fading
        self.register_buffer("counts", torch.zeros(classes, BINS))

    def remember(self, labels: Tensor, confidence: Tensor) -> None:
        """More pixels: places among the classes and how sure they are, both (pixel,)."""
        found = torch.bincount(labels * BINS + _bin(confidence), minlength=self.counts.numel())
        self.counts.mul_(self.fading).add_(found.view_as(self.counts))

    def is_sure(self, labels: Tensor, confidence: Tensor, kept: float) -> Tensor:
        """Whether pixels of any shape are among this part of their class, the surest."""
        as_sure = self.counts.flip(1).cumsum(1).flip(1)  # how many fall into this bin or a surer one
        threshold = (as_sure >= kept * as_sure[:, :1]).sum(1) - 1
        return _bin(confidence) >= threshold[labels]

    def class_weights(self, rare: float) -> Tensor:
        """More for rare classes; 1 on average over the pixels."""
        shares = self.counts.sum(1) / self.counts.sum().clamp(min=1)
        weights = (1 / (len(shares) * shares)).pow(rare).clamp(1 / MOST_BALANCE, MOST_BALANCE)
        mean = (weights * shares).sum()
        return weights / torch.where(mean > 0, mean, 1)


def _bin(confidence: Tensor) -> Tensor:
    places = torch.logit(confidence, eps=1e-6) / BIN_WIDTH + BINS / 2
    return places.long().clamp(0, BINS - 1)


def only_valid(batch: Batch) -> Batch:
    """Without labels of ground that the image does not show."""
    return replace(batch, labels=torch.where(batch.valid, batch.labels, NO_LABEL))


def class_mix(source: Batch, target: Batch, weights: Tensor) -> tuple[Batch, Tensor]:
    """Half of the classes of each source crop, rounded up, pasted on a target crop; and what each pixel weighs.

    Labels lie on valid pixels alone. Weights are 1 where the source's are, and those given (B, H, W) on the target.
    """
    # Batches need not be of one size.
    order = torch.arange(len(target.labels), device=target.labels.device) % len(source.labels)
    labels = source.labels[order]
    pasted = torch.stack([_half_of_classes(each) for each in labels])
    mixed = Batch(
        torch.where(pasted[:, None], source.bands[order], target.bands),
        pasted | target.valid,
        torch.where(pasted, labels, target.labels),
    )
    return mixed, torch.where(pasted, 1, weights)


def _half_of_classes(labels: Tensor) -> Tensor:
    """Where the classes are that were drawn."""
    present = torch.bincount(labels[labels != NO_LABEL]).nonzero()[:, 0]
    # Drawn on the CPU, as all chance here: a seed then means the same on every device.
    drawn = torch.randperm(len(present))[: (len(present) + 1) // 2]
    return torch.isin(labels, present[drawn.to(present.device)])


def vary_colours(batch: Batch, spread: float, alike: int = 1) -> Batch:
    """Contrast and brightness of each band of each crop, by chance; so many crops in a row vary alike."""
    count, bands = batch.bands.shape[:2]
    varied = (spread * torch.randn(2, count // alike, bands, 1, 1)).repeat_interleave(alike, 1)
    gain, offset = varied.to(batch.bands.device)
    return replace(batch, bands=torch.where(batch.valid[:, None], batch.bands * gain.exp() + offset, 0))


def blur(batch: Batch, widest_px: float, alike: int = 1) -> Batch:
    """Every other crop by chance, with a Gaussian of any width up to this; over valid pixels alone.

    So many crops in a row are blurred alike.
    """
    count = len(batch.bands) // alike
    width = (widest_px * torch.rand(count) * (torch.rand(count) < 0.5)).repeat_interleave(alike)
    at = torch.arange(-math.ceil(3 * widest_px), math.ceil(3 * widest_px) + 1)
    kernels = torch.exp(-0.5 * (at / width.clamp(min=1e-3)[:, None]).square())
    kernels = (kernels / kernels.sum(1, keepdim=True)).to(batch.bands.device)
    valid = batch.valid[:, None].float()
    smooth = _convolve(batch.bands * valid, kernels) / _convolve(valid, kernels).clamp(min=1e-6)
    return replace(batch, bands=smooth * valid)


def _convolve(planes: Tensor, kernels: Tensor) -> Tensor:
    """Planes (B, N, H, W), each crop with its kernel (B, K), down and across."""
    weight = kernels.repeat_interleave(planes.shape[1], 0)[:, None]
    flat, reach = planes.flatten(0, 1)[None], kernels.shape[1] // 2
    down = functional.conv2d(flat, weight[..., None], padding=(reach, 0), groups=len(weight))
    return functional.conv2d(down, weight[..., None, :], padding=(0, reach), groups=len(weight)).view_as(planes)


def with_given(given: Batch, taught: Batch, trust: Tensor) -> tuple[Batch, Tensor]:
    """The taught target, with labels that a person gave in place of the teacher's; and what each pixel weighs."""
    known = (given.labels != NO_LABEL) & given.valid
    labels = torch.where(known, given.labels, taught.labels)
    return replace(taught, labels=labels), torch.where(known, 1, trust[:, None, None])


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
        target_norms: bool = False,  # whether norms keep the statistics of the target alone
    ) -> None:
        self.settings, self.target_norms = settings, target_norms
        self.student = network.train()
        self.network = copy.deepcopy(network)
        self.average = Average(self.student, self.network, settings.average)
        device = next(network.parameters()).device
        self.confidences = Confidences(network.architecture.classes, settings.memory).to(device)
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
        source = only_valid(batch.source)
        target, trust = self.taught(batch.target)
        mixed, weights = class_mix(source, *with_given(batch.target, target, trust))
        mixed = blur(vary_colours(mixed, self.settings.jitter), self.settings.blur)
        with self._norms_aside(batch.target):
            logits = self._logits(self.student, source) + self.preference
            on_source = cross_entropy(logits, source.labels, self.class_weights)
            balance = self.confidences.class_weights(self.settings.rarity)
            on_mixed = cross_entropy(self._logits(self.student, mixed), mixed.labels, balance, weights)
        self.descent.minimise(on_source + self.settings.mixed * on_mixed, number)
        self.average.update(number)
        return {"source": on_source.detach(), "mixed": on_mixed.detach(), "kept": trust.mean()}

    @torch.no_grad()
    def taught(self, target: Batch) -> tuple[Batch, Tensor]:
        """The target with the teacher's labels where it is sure, and in what part of each crop it is."""
        confidence, labels = self._logits(self.network, target).float().softmax(1).max(1)
        self.confidences.remember(labels[target.valid], confidence[target.valid])
        sure = self.confidences.is_sure(labels, confidence, self.settings.kept)
        sure &= target.valid & (confidence >= self.settings.floor)
        trust = sure.sum((1, 2)) / target.valid.sum((1, 2)).clamp(min=1)
        return replace(target, labels=torch.where(sure, labels, NO_LABEL)), trust

    def _norms_aside(self, target: Batch) -> AbstractContextManager[None]:
        """What is learned from leaves no trace in the norms where they are to know the target alone."""
        if not self.target_norms:
            return nullcontext()
        with torch.no_grad():
            self._logits(self.student, target)
        return untracked(self.student)

    def _logits(self, network: nn.Module, batch: Batch) -> Tensor:
        with autocast(self.settings.precision, batch.bands.device.type):
            logits: Tensor = network(batch.bands)
        return logits

    def parts(self) -> dict[str, Any]:
        return {
            "student": self.student,
            "network": self.network,
            "descent": self.descent,
            "confidences": self.confidences,
        }
