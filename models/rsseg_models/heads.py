"""Heads: from the levels of an encoder to logits (B, K, h, w) on the finest level.

All-MLP: Xie et al. 2021 (arXiv 2105.15203), as in ST-DASegNet. UPerNet: Xiao et al. 2018 (arXiv 1807.10221). FCN:
Long et al. 2015 (arXiv 1411.4038), as the auxiliary head of KTDA.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

DROPOUT = 0.1
PYRAMID_SCALES = (1, 2, 3, 6)


def convolve(channels_in: int, channels_out: int, size: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(channels_in, channels_out, size, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(layer, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True))


def classify(width: int, classes: int) -> nn.Sequential:
    layer = nn.Conv2d(width, classes, 1)
    nn.init.normal_(layer.weight, std=0.01)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return nn.Sequential(nn.Dropout2d(DROPOUT), layer)


def resize(x: Tensor, like: Tensor) -> Tensor:
    if x.shape[-2:] == like.shape[-2:]:
        return x
    return functional.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


class AllMlpHead(nn.Module):
    """Each level to `width` channels, up to the finest level, concatenated, mixed, classified."""

    def __init__(self, channels: Sequence[int], classes: int, width: int = 256) -> None:
        super().__init__()
        self.projections = nn.ModuleList(convolve(count, width) for count in channels)
        self.fuse = convolve(width * len(channels), width)
        self.classifier = classify(width, classes)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        mix, norm, activation = self.fuse
        assert isinstance(mix, nn.Conv2d)
        # Mixing is linear and acts on each pixel alone, so it commutes with interpolation: mixing each level at its
        # own size and adding up equals mixing the upsampled concatenation, for a third of the work.
        slices = mix.weight.chunk(len(levels), dim=1)
        finest, *coarser = (project(level) for project, level in zip(self.projections, levels, strict=True))
        total = functional.conv2d(finest, slices[0], mix.bias)
        for level, part in zip(coarser, slices[1:], strict=True):
            total += resize(functional.conv2d(level, part), total)
        logits: Tensor = self.classifier(activation(norm(total)))
        return logits


class PyramidPooling(nn.Module):
    """The coarsest level beside its means over 1, 4, 9 and 36 parts of the tile.

    It sees the whole tile, however large: labels then depend on how a scene is cut, and no overlap mends that.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        # No batch norm here: a tile's mean is one value a channel, which a batch of one cannot normalise.
        self.branches = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(scale), nn.Conv2d(channels, width, 1), nn.ReLU(inplace=True))
            for scale in PYRAMID_SCALES
        )
        self.fuse = convolve(channels + width * len(PYRAMID_SCALES), width, 3)

    def forward(self, level: Tensor) -> Tensor:
        parts = [level, *(resize(branch(level), level) for branch in self.branches)]
        fused: Tensor = self.fuse(torch.cat(parts, dim=1))
        return fused


class UPerHead(nn.Module):
    """Pyramid pooling on the coarsest level, added downwards level by level, all levels fused on the finest."""

    def __init__(self, channels: Sequence[int], classes: int, width: int = 256) -> None:
        super().__init__()
        *finer, coarsest = channels
        self.pool = PyramidPooling(coarsest, width)
        self.laterals = nn.ModuleList(convolve(count, width) for count in finer)
        self.smooth = nn.ModuleList(convolve(width, width, 3) for _ in finer)
        self.fuse = convolve(width * len(channels), width, 3)
        self.classifier = classify(width, classes)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        *finer, coarsest = levels
        above = self.pool(coarsest)
        maps = [above]
        for level, lateral, smooth in reversed(list(zip(finer, self.laterals, self.smooth, strict=True))):
            aside = lateral(level)
            above = aside + resize(above, aside)
            maps.insert(0, smooth(above))
        logits: Tensor = self.classifier(self.fuse(torch.cat([resize(part, maps[0]) for part in maps], dim=1)))
        return logits


class FcnHead(nn.Module):
    """One convolution and a classifier on a single level: a second loss that trains the encoder's middle."""

    def __init__(self, channels: int, classes: int, width: int = 256) -> None:
        super().__init__()
        self.convolve = convolve(channels, width, 3)
        self.classifier = classify(width, classes)

    def forward(self, level: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.convolve(level))
        return logits
