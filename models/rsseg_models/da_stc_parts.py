"""Parts of `da-stc`: patches that are the same on every date and in both domains, and classes across domains."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from rsseg_models.batch import Clips
from rsseg_models.losses import NO_LABEL

# Pixels from which a class has a centroid.
LEAST_PIXELS = 5
# Of the prototypes of the source, as memory.
BANK_MOMENTUM = 0.99


def mix(mask: Tensor, patch: Clips, onto: Clips) -> Clips:
    """The patch where the mask (B, H, W) is, on every date; what a date of the patch does not show is nothing there."""
    dates = torch.arange(onto.bands.shape[1]) % patch.bands.shape[1]
    inside = mask[:, None]
    return Clips(
        torch.where(inside[:, :, None], patch.bands[:, dates], onto.bands),
        torch.where(inside, patch.valid[:, dates], onto.valid),
        onto.days,
        torch.where(mask, patch.labels, onto.labels),
    )


def some_classes(labels: Tensor, count: int, without: Sequence[Tensor] | None = None) -> list[Tensor]:
    """Of each crop, places of up to so many classes drawn by chance; none of those left out."""
    drawn = []
    for number, part in enumerate(labels):
        present = torch.bincount(part[part != NO_LABEL]).nonzero()[:, 0]
        if without is not None:
            present = present[~torch.isin(present, without[number])]
        # Drawn on the CPU, as all chance here: a seed then means the same on every device.
        drawn.append(present[torch.randperm(len(present))[:count].to(present.device)])
    return drawn


def where(labels: Tensor, classes: Sequence[Tensor]) -> Tensor:
    """The pixels of each crop that have one of its classes."""
    return torch.stack([torch.isin(part, chosen) for part, chosen in zip(labels, classes, strict=True)])


@dataclass(frozen=True)
class PatchForm:
    """How crops are patched."""

    classes: int = 2  # of either domain
    rare: int = 2  # classes, on top
    quad: bool = True  # whether the target gives patches, too


@dataclass(frozen=True)
class Patched:
    """Crops of both domains with the same patches."""

    source: Clips
    target: Clips
    mask: Tensor  # (B, H, W): where patches lie
    weights: tuple[Tensor, Tensor]  # what each pixel's label counts


def patched(source: Clips, target: Clips, trust: Tensor, sure: Tensor, rare: Tensor, form: PatchForm) -> Patched:
    """Both domains with patches of the source, of the target, and of rare classes on top.

    `trust` is what labels of the target count, `sure` where they may be cut out (both B, H, W), `rare` are places of
    classes.
    """
    source = replace(source, labels=source.labels.masked_fill(~source.valid[:, 0], NO_LABEL))
    layers = []
    own = source.rolled(1)
    drawn = some_classes(own.labels, form.classes)
    layers.append((where(own.labels, drawn), own, torch.ones_like(trust)))
    if form.quad:
        other = target.rolled(1)
        teaching = other.labels.masked_fill(~(sure.roll(1, 0) & other.valid[:, 0]), NO_LABEL)
        chosen = some_classes(teaching, form.classes, drawn)
        layers.append((where(teaching, chosen), replace(other, labels=teaching), trust.roll(1, 0)))
    if form.rare:
        seldom = source.rolled(2)
        few = seldom.labels.masked_fill(~torch.isin(seldom.labels, rare), NO_LABEL)
        layers.append((where(few, some_classes(few, form.rare)), seldom, torch.ones_like(trust)))
    mask, weights = torch.zeros_like(sure), (torch.ones_like(trust), trust)
    one, two = source, target
    for inside, patch, counts in layers:
        one, two, mask = mix(inside, patch, one), mix(inside, patch, two), mask | inside
        weights = (torch.where(inside, counts, weights[0]), torch.where(inside, counts, weights[1]))
    return Patched(one, two, mask, weights)


def mix_features(one: Tensor, two: Tensor, mask: Tensor, part: float) -> Tensor:
    """The second map (B, C, h, w), with a part of the first where the mask (B, H, W) is; the first gets no gradient."""
    cover = functional.interpolate(mask[:, None].float(), size=two.shape[-2:], mode="area") > 0.5
    return torch.where(cover, part * one.detach() + (1 - part) * two, two)


def centroids(logits: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Mean vector of each class over pixels (K, C), and which classes have enough pixels for one.

    Vectors (B, C, H, W), places among K classes (B, H, W) with 255 for none; K is that of the logits.
    """
    pixels, places = logits.flatten(2), classes.flatten(1)
    belongs = places[:, None] == torch.arange(logits.shape[1], device=places.device)[:, None]
    sums = (belongs.to(pixels) @ pixels.transpose(1, 2)).sum(0)
    counts = belongs.sum((0, 2))
    return sums / counts.clamp(min=1)[:, None], counts >= LEAST_PIXELS


def gathered(pairs: Sequence[tuple[Tensor, Tensor]], weights: Tensor) -> tuple[Tensor, Tensor]:
    """Centroids of several pairs of dates as one; a class that one pair alone shows is that pair's."""
    present = torch.stack([there for _, there in pairs]).float() * weights[:, None]
    total = present.sum(0)
    parts = torch.stack([centroid for centroid, _ in pairs])
    return (present[..., None] * parts).sum(0) / total.clamp(min=1e-12)[:, None], total > 0


def proto_loss(source: Tensor, target: Tensor, present: tuple[Tensor, Tensor], tau: float) -> Tensor:
    """How far a class of the target is from its own of the source, among all of the source; 0 below two classes."""
    both = present[0] & present[1]
    if both.sum() < 2:
        return target.sum() * 0
    likeness = functional.normalize(target[both], dim=1) @ functional.normalize(source[present[0]], dim=1).T / tau
    own = (present[0].cumsum(0) - 1)[both]
    return functional.cross_entropy(likeness, own)


def mmd(source: Tensor, target: Tensor) -> Tensor:
    """Maximum mean discrepancy of two sets of as many vectors, with five Gaussian kernels; it knows no classes."""
    both = torch.cat([source, target])
    apart = (both[:, None] - both).square().sum(-1)
    count, half = len(both), len(source)
    width = apart.detach().sum() / (count**2 - count)
    kernels = sum(torch.exp(-apart / (width * 2.0 ** (number - 2)).clamp(min=1e-12)) for number in range(5))
    assert isinstance(kernels, Tensor)
    return (kernels[:half, :half] + kernels[half:, half:] - kernels[:half, half:] - kernels[half:, :half]).mean()


class Prototypes(nn.Module):
    """Centroids of the source's classes, as they were of late."""

    means: Tensor
    known: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(classes, classes))
        self.register_buffer("known", torch.zeros(classes, dtype=torch.bool))

    def remember(self, found: Tensor, present: Tensor) -> None:
        keep = torch.where(self.known, BANK_MOMENTUM, 0.0)[:, None]
        self.means.copy_(torch.where(present[:, None], keep * self.means + (1 - keep) * found.detach(), self.means))
        self.known.logical_or_(present)
