"""Learning what a teacher says of the target: on target crops with classes of the source pasted in.

Mixing classes is of DACS (Tranheden et al. 2021, arXiv 2007.08702). Thresholds are each class's own: one for all
starves what the teacher is less sure of.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from rsseg_models.batch import Batch
from rsseg_models.losses import NO_LABEL, cross_entropy
from rsseg_models.recipe import Recipe, between

# Bins of confidence, as log-odds: sure pixels differ in the number of nines, which even steps of probability would
# not tell apart.
BINS, BIN_WIDTH = 280, 0.1
# No class counts more, or less, than this many times what it would without balance.
MOST_BALANCE = 3.0


@dataclass(frozen=True)
class Mixing(Recipe):
    """How labels of a teacher are learned."""

    kept: float = between(0.01, 1, 0.8)
    """Part of the pixels of each class, the surest, that are learned from."""
    floor: float = between(0, 1, 0.4)
    """Confidence below which no pixel is learned from, whatever its class."""
    memory: float = between(0, 0.9999, 0.9)
    """How much of what is known about confidences lasts from step to step."""
    rarity: float = between(0, 1, 0.5)
    """How much more rare classes count where a teacher's labels do: 0 not, 1 as much as they are rarer."""
    jitter: float = between(0, 2, 0.2)
    """Spread of brightness and contrast, band by band, on what a student sees with labels of a teacher."""
    blur: float = between(0, 20, 1.0)
    """Widest blur there, in pixels; every other crop has some."""


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


class Mixer(nn.Module):
    """Mixed crops with a teacher's labels as far as it is sure, class by class; and the loss on them."""

    def __init__(self, classes: int, settings: Mixing) -> None:
        super().__init__()
        self.settings = settings
        self.confidences = Confidences(classes, settings.memory)

    @torch.no_grad()
    def taught(self, target: Batch, logits: Tensor) -> tuple[Batch, Tensor]:
        """The target with the teacher's labels where it is sure, and in what part of each crop it is."""
        confidence, labels = logits.float().softmax(1).max(1)
        self.confidences.remember(labels[target.valid], confidence[target.valid])
        sure = self.confidences.is_sure(labels, confidence, self.settings.kept)
        sure &= target.valid & (confidence >= self.settings.floor)
        trust = sure.sum((1, 2)) / target.valid.sum((1, 2)).clamp(min=1)
        return replace(target, labels=torch.where(sure, labels, NO_LABEL)), trust

    def mix(self, source: Batch, target: Batch, logits: Tensor) -> tuple[Batch, Tensor, Tensor]:
        """Crops of the target with classes of the source; what each pixel weighs; and how far each crop is trusted."""
        taught, trust = self.taught(target, logits)
        mixed, weights = class_mix(source, *with_given(target, taught, trust))
        return blur(vary_colours(mixed, self.settings.jitter), self.settings.blur), weights, trust

    def loss(self, logits: Tensor, mixed: Batch, weights: Tensor) -> Tensor:
        """Of a student on mixed crops."""
        return cross_entropy(logits, mixed.labels, self.confidences.class_weights(self.settings.rarity), weights)
