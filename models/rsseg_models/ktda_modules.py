"""The parts of `ktda`: a student's levels on the grid of a teacher's tokens, and what makes a map of them.

Zhang et al., ICME 2025, arXiv 2412.06664. Levels are aligned with tokens (FAM), become a pyramid (neck), are adapted to
the task again (FMM), and go to a UPerNet head. All of it but the teacher is kept.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rsseg_models.errors import ModelError
from rsseg_models.heads import UPerHead
from rsseg_models.network import MOST_WIDTH, SegmentationNetwork, is_kind

STRIDES = (4, 8, 16, 32)
SCALES = (4.0, 2.0, 1.0, 0.5)  # of the neck's levels, beside the tokens
KINDS = ("none", "mlp", "vit")
# Of a token's pixels; with fewer that show anything it counts nowhere.
LEAST_VALID = 0.5
STD = 0.02


@dataclass(frozen=True)
class Form:
    """What must be known to build it again; its fields are what JSON can hold."""

    aligned: int  # channels of the levels on the tokens' grid: the teacher's width
    pitch_px: int  # from token to token
    width: int  # channels of the neck and of what comes after it
    fmm: str  # in KINDS
    blocks: int  # of the FMM, at each level
    heads: int  # of its attention
    window: int  # tokens on a side that look at each other; 0: all
    residual: bool  # whether what a block of `mlp` finds is added to what it gets
    skip: bool  # whether the student's levels also reach the pyramid without passing through tokens

    def __post_init__(self) -> None:
        for name, most in (("aligned", MOST_WIDTH), ("width", MOST_WIDTH), ("pitch_px", 256), ("heads", 64)):
            if not 1 <= getattr(self, name) <= most:
                raise ModelError(f"{name} = {getattr(self, name)}: out of range", f"give between 1 and {most}")
        for name, most in (("blocks", 32), ("window", 1024)):
            if not 0 <= getattr(self, name) <= most:
                raise ModelError(f"{name} = {getattr(self, name)}: out of range", f"give between 0 and {most}")
        if self.fmm not in KINDS:
            raise ModelError(f"fmm = {self.fmm}: not known", f"use {' or '.join(KINDS)}")
        if self.fmm == "vit" and self.width % self.heads:
            raise ModelError(f"{self.width} channels do not fall into {self.heads} heads", "choose other heads")

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Form":
        """As a file holds it; ModelError where it is not one."""
        try:
            stored = json.loads(text)
            form = cls(**stored)
            if not all(is_kind(stored[name], cls.__dataclass_fields__[name].type) for name in stored):
                raise ValueError(text)
        except (TypeError, ValueError) as problem:
            raise ModelError("the network of ktda is described in a way that is not known", "update rsseg") from problem
        return form

    def grid(self, size: Sequence[int]) -> tuple[int, int]:
        """Tokens down and across that cover an image of this size."""
        down, across = (-(-side // self.pitch_px) for side in size)
        return down, across

    def covered(self, size: Sequence[int]) -> tuple[int, int]:
        """Pixels down and across that those tokens cover."""
        down, across = (count * self.pitch_px for count in self.grid(size))
        return down, across


def start_small(module: nn.Module) -> None:
    """Truncated normal weights and no bias, as transformers start."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.trunc_normal_(part.weight, std=STD)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


# 1. Levels on the tokens' grid.


class Align(nn.ModuleList):
    """FAM: each level by a 1x1 convolution to the teacher's width, then onto the tokens."""

    def __init__(self, channels: Sequence[int], form: Form) -> None:
        super().__init__(nn.Conv2d(count, form.aligned, 1) for count in channels)
        self.form = form
        start_small(self)

    def forward(self, levels: Sequence[Tensor], size: Sequence[int]) -> list[Tensor]:
        grid, covered = self.form.grid(size), self.form.covered(size)
        return [
            sampled(layer(level), stride, grid, covered)
            for layer, level, stride in zip(self, levels, STRIDES, strict=True)
        ]


def sampled(level: Tensor, stride: int, size: Sequence[int], covered: Sequence[int]) -> Tensor:
    """A level as a map of this size that covers so many pixels; beyond its border the level goes on as it ends."""
    # One cell more than the map reaches, so that no rounding loses its last one.
    down, right = (
        max(0, -(-whole // stride) + 1 - cells) for whole, cells in zip(covered, level.shape[-2:], strict=True)
    )
    padded = functional.pad(level.float(), (0, right, 0, down), mode="replicate")
    scales = [stride * count / whole for count, whole in zip(size, covered, strict=True)]
    found = functional.interpolate(
        padded, scale_factor=scales, mode="bilinear", align_corners=False, antialias=min(scales) < 0.5
    )
    return found[..., : size[0], : size[1]].to(level.dtype)


def shown(valid: Tensor, covered: Sequence[int], size: Sequence[int]) -> Tensor:
    """Which cells of a map of this size show enough, from pixels (B, H, W) and from how many pixels it covers."""
    down, right = (whole - side for whole, side in zip(covered, valid.shape[-2:], strict=True))
    padded = functional.pad(valid.float()[:, None], (0, right, 0, down))
    return functional.adaptive_avg_pool2d(padded, (size[0], size[1]))[:, 0] >= LEAST_VALID


# 2. From aligned levels to a pyramid.


class Neck(nn.Module):
    """Of each aligned level a level of the pyramid: 1x1 convolution, resized, 3x3 convolution."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        width = form.width
        self.narrow = nn.ModuleList(nn.Conv2d(form.aligned, width, 1) for _ in SCALES)
        self.look = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in SCALES)

    def forward(self, aligned: Sequence[Tensor]) -> list[Tensor]:
        return self.pyramid([layer(level) for layer, level in zip(self.narrow, aligned, strict=True)])

    def pyramid(self, narrowed: Sequence[Tensor]) -> list[Tensor]:
        return [layer(scaled(level, scale)) for layer, level, scale in zip(self.look, narrowed, SCALES, strict=True)]


def scaled(level: Tensor, scale: float) -> Tensor:
    size = [max(1, int(side * scale)) for side in level.shape[-2:]]
    return functional.interpolate(level, size=size, mode="bilinear", align_corners=False)


# 3. The pyramid adapted to the task.


class MlpBlock(nn.Module):
    """Narrow and widen, at each place alone."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        narrow = max(1, form.width // 4)
        self.narrow, self.widen = nn.Linear(form.width, narrow), nn.Linear(narrow, form.width)
        self.residual = form.residual
        start_small(self)

    def forward(self, level: Tensor, valid: Tensor) -> Tensor:
        tokens = as_tokens(level)
        found = self.widen(functional.gelu(self.narrow(tokens)))
        return as_map(tokens + found if self.residual else found, level.shape[-2:])


class VitBlock(nn.Module):
    """A block of a vision transformer; tokens look at those of their window that show anything."""

    def __init__(self, form: Form, is_shifted: bool) -> None:
        super().__init__()
        width = form.width
        self.heads, self.window, self.is_shifted = form.heads, form.window, is_shifted
        self.norm_1, self.norm_2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        start_small(self)

    def forward(self, level: Tensor, valid: Tensor) -> Tensor:
        windows = Windows.of(level.shape[-2:], self.window, self.is_shifted)
        tokens = windows.split(level.permute(0, 2, 3, 1))
        seen = windows.split(valid[..., None])[..., 0]
        tokens = tokens + self.attend(self.norm_1(tokens), seen)
        tokens = tokens + self.mlp(self.norm_2(tokens))
        return windows.join(tokens, len(level)).permute(0, 3, 1, 2)

    def attend(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """Tokens (W, T, C), and which of them are looked at (W, T)."""
        count, length, width = tokens.shape
        query, key, value = self.qkv(tokens).view(count, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        # Where nothing is to be seen, anything may be looked at: a softmax over nothing is no number.
        mask = (seen | ~seen.any(1, keepdim=True))[:, None, None]
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        projected: Tensor = self.project(found.transpose(1, 2).reshape(count, length, width))
        return projected


@dataclass(frozen=True)
class Windows:
    """A map (B, H, W, C) cut into windows (W, T, C), and put together again."""

    size: tuple[int, int]  # of the map
    window: tuple[int, int]
    before: tuple[int, int]  # rows and columns of nothing that come first, so that windows lie elsewhere

    @classmethod
    def of(cls, size: Sequence[int], window: int, is_shifted: bool) -> "Windows":
        """A window that covers a side has that side; 0 covers all."""
        down, across = (side if not window or side <= window else window for side in size)
        before = tuple(
            cut // 2 if is_shifted and cut < side else 0 for cut, side in zip((down, across), size, strict=True)
        )
        return cls((size[0], size[1]), (down, across), (before[0], before[1]))

    @property
    def whole(self) -> tuple[int, int]:
        """Rows and columns of all windows together."""
        down, across = (
            -(-(first + side) // cut) * cut
            for first, side, cut in zip(self.before, self.size, self.window, strict=True)
        )
        return down, across

    def split(self, level: Tensor) -> Tensor:
        (top, left), (height, width) = self.before, self.whole
        after = (0, 0, left, width - left - self.size[1], top, height - top - self.size[0])
        padded = functional.pad(level, after) if any(after) else level
        down, across = self.window
        cut = padded.reshape(len(level), height // down, down, width // across, across, -1)
        return cut.transpose(2, 3).reshape(-1, down * across, level.shape[-1])

    def join(self, tokens: Tensor, count: int) -> Tensor:
        (top, left), (height, width), (down, across) = self.before, self.whole, self.window
        cut = tokens.reshape(count, height // down, width // across, down, across, -1)
        level = cut.transpose(2, 3).reshape(count, height, width, -1)
        return level[:, top : top + self.size[0], left : left + self.size[1]]


def as_tokens(level: Tensor) -> Tensor:
    """(B, C, h, w) to (B, h w, C)."""
    return level.flatten(2).transpose(1, 2)


def as_map(tokens: Tensor, size: Sequence[int]) -> Tensor:
    return tokens.transpose(1, 2).reshape(len(tokens), -1, size[0], size[1])


class Modulate(nn.Module):
    """FMM of one level: a few blocks; windows of every other one are shifted."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        numbers = range(0 if form.fmm == "none" else form.blocks)
        self.blocks = nn.ModuleList(
            VitBlock(form, bool(number % 2)) if form.fmm == "vit" else MlpBlock(form) for number in numbers
        )

    def forward(self, level: Tensor, valid: Tensor) -> Tensor:
        for block in self.blocks:
            level = block(level, valid)
        return level


# 4. All of it as one network, which is what is kept.


class TransferHead(UPerHead):
    """From levels of the student to logits on a grid four times as fine as the tokens."""

    def __init__(self, channels: Sequence[int], classes: int, width: int, form: Form) -> None:
        super().__init__([form.width] * len(SCALES), classes, width)
        self.form = form
        self.align, self.neck = Align(channels, form), Neck(form)
        # What is finer than a token is lost on the way through the tokens.
        self.skip = nn.ModuleList(nn.Conv2d(count, form.width, 1) for count in channels) if form.skip else None
        self.modulate = nn.ModuleList(Modulate(form) for _ in SCALES)

    def pyramid(self, levels: Sequence[Tensor], size: Sequence[int]) -> list[Tensor]:
        """The neck's pyramid without the aligned levels, which are wide, and of use to a teacher alone.

        Two convolutions of 1x1, and sampling between them, commute: one convolution does for both.
        """
        grid, covered, narrowed = self.form.grid(size), self.form.covered(size), []
        for level, first, second, stride in zip(levels, self.align, self.neck.narrow, STRIDES, strict=True):
            weight, bias = as_one(first, second)
            one = functional.conv2d(level, weight.to(level.dtype), bias.to(level.dtype))
            narrowed.append(sampled(one, stride, grid, covered))
        return self.neck.pyramid(narrowed)

    def modulated(self, pyramid: Sequence[Tensor], levels: Sequence[Tensor], valid: Tensor) -> list[Tensor]:
        """The pyramid, adapted to the task; pixels (B, H, W) that show nothing are not looked at."""
        covered, found = self.form.covered(valid.shape[-2:]), []
        for number, (level, modulate) in enumerate(zip(pyramid, self.modulate, strict=True)):
            size = level.shape[-2:]
            if self.skip is not None:
                level = level + sampled(self.skip[number](levels[number]), STRIDES[number], size, covered)
            found.append(modulate(level, shown(valid, covered, size)))
        return found

    def enlarged(self, logits: Tensor, size: Sequence[int]) -> Tensor:
        """As those of the image, without what tokens cover beyond it."""
        logits = functional.interpolate(logits, size=self.form.covered(size), mode="bilinear", align_corners=False)
        return logits[..., : size[0], : size[1]]


def as_one(first: Any, second: Any) -> tuple[Tensor, Tensor]:
    """Weight and bias of a 1x1 convolution that does what two do."""
    turn = second.weight.flatten(1)
    return (turn @ first.weight.flatten(1))[..., None, None], turn @ first.bias + second.bias


@dataclass(frozen=True)
class Seen:
    """What a student makes of images, while it learns."""

    aligned: list[Tensor]
    pyramid: list[Tensor]  # adapted to the task
    logits: Tensor


class Transferred(SegmentationNetwork):
    """Standardised bands (B, N, H, W) of any size to logits (B, K, H, W), by way of a teacher's grid of tokens."""

    head: TransferHead

    def forward(self, bands: Tensor) -> Tensor:
        return self._read(self.levels(bands), holding(bands))

    def decode(self, levels: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        return self._read(levels, levels[0].new_ones((len(levels[0]), *size), dtype=torch.bool))

    def _read(self, levels: Sequence[Tensor], valid: Tensor) -> Tensor:
        size = valid.shape[-2:]
        pyramid = self.head.modulated(self.head.pyramid(levels, size), levels, valid)
        return self.head.enlarged(self.head(pyramid), size)

    def see(self, bands: Tensor, valid: Tensor) -> Seen:
        size = bands.shape[-2:]
        levels = self.levels(bands)
        aligned = self.head.align(levels, size)
        pyramid = self.head.modulated(self.head.neck(aligned), levels, valid)
        return Seen(aligned, pyramid, self.head.enlarged(self.head(pyramid), size))


def holding(bands: Tensor) -> Tensor:
    """Pixels that hold anything: of standardised bands all are 0 where there is nothing."""
    return (bands != 0).any(dim=1)


def transferred(network: SegmentationNetwork, form: Form, width: int) -> Transferred:
    """The student as it starts, with the encoder of a network; also to be filled with stored weights."""
    architecture = replace(network.architecture, head="uper", width=width, transfer=form.as_json())
    head = TransferHead(network.encoder.channels, architecture.classes, width, form)
    return Transferred(network.encoder, head.to(next(network.parameters()).device), architecture)
