"""The parts of `st-dasegnet`: two views of an image taken apart, both students as one network, discriminators.

Zhao et al., JAG 2024, arXiv 2301.05526.
"""

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from rsseg_models.encoder import Levels
from rsseg_models.errors import ModelError
from rsseg_models.network import HEADS, SegmentationNetwork
from rsseg_models.norms import untracked

# A map or logits of one image, as the source's student and as the target's student have it.
Pair = tuple[Tensor, Tensor]
# The same of all levels.
PairOfLevels = tuple[list[Tensor], list[Tensor]]


# 1. Two views of an image are taken apart.


def narrow(channels: int) -> int:
    """The width of a gate, and of what is universal."""
    return max(channels // 8, 8)


def spread(shares: Tensor) -> Tensor:
    return shares[:, :, None, None]


class Gate(nn.Module):
    """Which share of each channel is the source's style, and which the target's; they sum to 1, and start as halves."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, narrow(channels))
        self.source, self.target = (nn.Linear(narrow(channels), channels) for _ in range(2))
        for layer in (self.source, self.target):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def shares(self, views: Pair, valid: Tensor) -> Pair:
        """(B, C) each, from means over the valid pixels of (B, C, H, W)."""
        inside = valid[:, None].float()
        mean = ((views[0] + views[1]).float() * inside).sum(dim=(2, 3)) / inside.sum(dim=(2, 3)).clamp(min=1)
        squeezed = self.squeeze(mean)
        source, target = torch.stack([self.source(squeezed), self.target(squeezed)]).float().softmax(dim=0)
        return source, target

    def forward(self, views: Pair, valid: Tensor) -> Pair:
        source, target = self.shares(views, valid)
        return spread(source).to(views[0].dtype) * views[0], spread(target).to(views[1].dtype) * views[1]


def affinity(view: Tensor, common: Tensor, valid: Tensor, attention: str, scale: str) -> Tensor:
    """How much each channel of a view takes of each other (B, C, C); rows sum to 1. In float32: E is a long sum."""
    with torch.autocast(view.device.type, enabled=False):
        inside = valid[:, None].float()
        e = (view.float() * inside).flatten(2) @ common.float().flatten(2).transpose(1, 2)
        if scale == "mean":
            e = e / inside.flatten(1).sum(dim=1).clamp(min=1)[:, None, None]
        return (-e if attention == "inverse" else e).softmax(dim=2)


class Universal(nn.Module):
    """What both views of an image have in common, as each of them shows it."""

    def __init__(self, channels: int, attention: str, scale: str) -> None:
        super().__init__()
        self.attention, self.scale = attention, scale
        self.common = nn.Conv2d(channels, channels, 3, padding=1)
        self.source, self.target = (nn.Conv2d(channels, narrow(channels), 3, padding=1) for _ in range(2))

    def affinities(self, views: Pair, valid: Tensor) -> Pair:
        common = functional.relu(self.common((views[0] + views[1]) / 2))
        source, target = (affinity(view, common, valid, self.attention, self.scale) for view in views)
        return source, target

    def forward(self, views: Pair, valid: Tensor) -> Pair:
        source, target = self.affinities(views, valid)
        mixing = ((source + target) / 2).to(views[0].dtype)
        mixed = ((mixing @ view.flatten(2)).view_as(view) for view in views)
        of_source, of_target = (
            functional.relu(layer(view)) for layer, view in zip((self.source, self.target), mixed, strict=True)
        )
        return of_source, of_target


@dataclass(frozen=True)
class Views:
    """Images of one domain as both encoders see them, and which cells of each level hold anything."""

    source: Levels
    target: Levels
    valid: tuple[Tensor, ...]

    def level(self, number: int) -> Pair:
        return self.source[number], self.target[number]


class Disentangle(nn.Module):
    """Gates at every level; what is universal beside the coarsest, C + d channels."""

    def __init__(self, channels: Sequence[int], gates: bool, universal: Universal | None) -> None:
        super().__init__()
        self.gates = nn.ModuleList(Gate(count) for count in channels) if gates else None
        self.universal = universal

    @property
    def extra(self) -> int:
        """Channels that the coarsest level gains."""
        return 0 if self.universal is None else self.universal.source.out_channels

    def forward(self, views: Views) -> PairOfLevels:
        pairs = [self.gated(views, number) for number in range(len(views.valid))]
        if self.universal is not None:
            common = self.universal(views.level(-1), views.valid[-1])
            of_source, of_target = (torch.cat(parts, dim=1) for parts in zip(pairs[-1], common, strict=True))
            pairs[-1] = of_source, of_target
        source, target = (list(levels) for levels in zip(*pairs, strict=True))
        return source, target

    def gated(self, views: Views, number: int) -> Pair:
        source, target = views.level(number)
        if self.gates is None:
            return source / 2, target / 2
        pair: Pair = self.gates[number]((source, target), views.valid[number])
        return pair


# 2. Both students as one network, which is what is kept.


# What of the settings must be known to build both students again.
FORM = ("gates", "universal", "attention", "attention_scale", "one_encoder")


class Adapted(nn.Module):
    """Standardised bands (B, N, H, W) of any size to logits (B, K, H, W): the mean of both students'."""

    def __init__(
        self,
        network: SegmentationNetwork,
        disentangle: Disentangle,
        *,
        one_encoder: bool,
        checkpointing: bool,
        students: str,
    ) -> None:
        super().__init__()
        self.architecture = replace(network.architecture, students=students)
        self.checkpointing = checkpointing
        self.disentangle = disentangle.to(next(network.parameters()).device)
        encoders = [network.encoder, network.encoder if one_encoder else copy.deepcopy(network.encoder)]
        self.source, self.target = (
            SegmentationNetwork(encoder, widened(network, disentangle.extra), network.architecture)
            for encoder in encoders
        )

    def forward(self, bands: Tensor) -> Tensor:
        _, _, (source, target) = self.see(bands, torch.ones_like(bands[:, 0], dtype=torch.bool))
        return (source + target) / 2

    def see(self, bands: Tensor, valid: Tensor) -> tuple[Views, PairOfLevels, Pair]:
        """Both students' views, what is left of them when they are taken apart, and logits."""
        views = self.look(bands, valid)
        levels = self.disentangle(views)
        return views, levels, self.decode(levels, bands.shape[-2:])

    def look(self, bands: Tensor, valid: Tensor) -> Views:
        source, target = (self._levels(student, bands) for student in (self.source, self.target))
        return Views(source, target, pooled(valid, self.source.encoder.strides))

    def decode(self, levels: PairOfLevels, size: Sequence[int]) -> Pair:
        return decode(self.source, levels[0], size), decode(self.target, levels[1], size)

    def _levels(self, student: SegmentationNetwork, bands: Tensor) -> Levels:
        if not (self.checkpointing and torch.is_grad_enabled()):
            return student.levels(bands)

        def contexts() -> tuple[Any, Any]:
            # Maps that are made again must not count again in the norms.
            return nullcontext(), untracked(student)

        levels: Levels = checkpoint(student.levels, bands, use_reentrant=False, context_fn=contexts)
        return levels


def decode(student: SegmentationNetwork, levels: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """Doubled, because gates that are open by halves then give a decoder what it learned from."""
    return student.decode([2 * level for level in levels], size)


def widened(network: SegmentationNetwork, extra: int) -> nn.Module:
    """A copy of the head with more channels at the coarsest level, which it does not look at before it learns."""
    *finer, coarsest = network.encoder.channels
    architecture = network.architecture
    head = HEADS[architecture.head]((*finer, coarsest + extra), architecture.classes, architecture.width)
    known = network.head.state_dict()
    head.load_state_dict({name: _wider(known[name], new, coarsest) for name, new in head.state_dict().items()})
    return head.to(next(network.parameters()).device)


def _wider(weight: Tensor, like: Tensor, place: int) -> Tensor:
    """Zeros for the channels that are new, which come at `place`."""
    if weight.shape == like.shape:
        return weight
    before, after = weight[:, :place], weight[:, place:]
    missing = like.shape[1] - weight.shape[1]
    return torch.cat([before, weight.new_zeros(len(weight), missing, *weight.shape[2:]), after], dim=1)


def pooled(valid: Tensor, strides: Sequence[int]) -> tuple[Tensor, ...]:
    """Which cells of each level hold a valid pixel; what is padded holds none."""
    cell = strides[-1]
    height, width = valid.shape[-2:]
    padded = functional.pad(valid.float()[:, None], (0, -width % cell, 0, -height % cell))
    return tuple(functional.max_pool2d(padded, stride)[:, 0] > 0 for stride in strides)


# 3. The adversary's parts.


def spatial_softmax(features: Tensor, valid: Tensor) -> Tensor:
    """Each channel of each image sums to 1 over its valid cells, and is 0 elsewhere."""
    inside = valid[:, None]
    # Not minus infinity: an image without a valid cell would be no number.
    masked = features.float().masked_fill(~inside, torch.finfo(torch.float32).min)
    return masked.flatten(2).softmax(dim=2).view_as(features) * inside


def left_of(side: int, depth: int) -> int:
    """Side of a discriminator's map from that of its input; 0 where a norm would see a single pixel or nothing."""
    for number in range(depth + 1):
        side = side // 2 if number < depth else side - 1
        if side < (1 if number == 0 else 2):
            return 0
    return side - 1


def fitting_depth(side: int, most: int) -> int:
    """The deepest discriminator for maps of this size; 1 where none is."""
    return max((depth for depth in range(1, most + 1) if left_of(side, depth)), default=1)


class Discriminator(nn.Sequential):
    """Of which domain the spatially soft-maxed coarsest level is, patch by patch; logits."""

    def __init__(self, channels: int, depth: int, side: int) -> None:
        if not left_of(side, depth):
            raise ModelError(
                f"a map of {side} x {side} is too small for a discriminator of depth {depth}", "use larger crops"
            )
        widths = [min(64 << number, 512) for number in range(depth + 1)]
        layers: list[nn.Module] = [nn.Conv2d(channels, 64, 4, 2, 1), nn.LeakyReLU(0.2)]
        for number in range(1, depth + 1):
            stride = 2 if number < depth else 1
            convolution = nn.Conv2d(widths[number - 1], widths[number], 4, stride, 1)
            layers += [convolution, nn.InstanceNorm2d(widths[number]), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Conv2d(widths[-1], 1, 4, 1, 1))
