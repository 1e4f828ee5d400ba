"""MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381), width 1.0, batch norm folded into its convolutions.

Folded, it has nothing to estimate from a batch: a CPU fine-tunes it on few images, and it predicts as it was trained.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from rsseg_models.encoder import Encoder, Levels, StateDict, Translation
from rsseg_models.errors import ModelError

TENSORFLOW, TORCHVISION = "tensorflow", "torchvision"
# What each variant's weights were trained on, as factor and offset of standardised bands. TensorFlow: RGB / 127.5 - 1,
# in which ImageNet has mean -0.1 and deviation 0.45. torchvision: standardised already.
INPUT_RANGE = {TENSORFLOW: (0.45, -0.1), TORCHVISION: (1.0, 0.0)}

# Table 2 of the paper: expansion, channels, blocks, stride of the first block.
TABLE = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
# The last block of each stride: 4, 8, 16, 32.
LEVEL_ENDS = (2, 5, 12, 16)
# torchvision leaves this at PyTorch's default.
BATCH_NORM_EPS = 1e-5


class Convolution(nn.Conv2d):
    """A convolution with bias whose padding is TensorFlow's or PyTorch's."""

    def __init__(self, channels_in: int, channels_out: int, size: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__(channels_in, channels_out, size, stride, padding=size // 2, groups=groups)
        self.pads_like_tensorflow = False
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        assert self.bias is not None
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride[0] == 1 or not self.pads_like_tensorflow:
            return super().forward(x)
        # "SAME": as little padding as will do, and the odd pixel of it right and below.
        down, right = (same_padding(n, self.kernel_size[0], self.stride[0]) for n in x.shape[-2:])
        x = functional.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
        return functional.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)


def same_padding(size_px: int, kernel_px: int, stride: int) -> int:
    """Pixels that TensorFlow adds along one side so that ceil(size / stride) come out."""
    return max((-(-size_px // stride) - 1) * stride + kernel_px - size_px, 0)


class Block(nn.Module):
    """Widen (ReLU6), look around (ReLU6), narrow (linear); a shortcut where the shape stays."""

    def __init__(self, channels_in: int, channels_out: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = channels_in * expansion
        self.expand = Convolution(channels_in, wide) if expansion > 1 else None
        self.depthwise = Convolution(wide, wide, 3, stride, groups=wide)
        self.project = Convolution(wide, channels_out)
        self.is_shortcut = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        wide = x if self.expand is None else functional.relu6(self.expand(x))
        narrow: Tensor = self.project(functional.relu6(self.depthwise(wide)))
        return x + narrow if self.is_shortcut else narrow


class MobileNetV2(Encoder):
    """Strides 4, 8, 16, 32 with 24, 32, 96, 320 channels; 1.8 M parameters. Variants: "tensorflow", "torchvision"."""

    channels = (24, 32, 96, 320)
    head_width = 128
    stem_key = "stem.weight"
    # Kernels of 3 at strides 1 to 32, summed.
    reach_px = 245

    def __init__(self, bands: int, variant: str = TENSORFLOW) -> None:
        super().__init__()
        self.stem = Convolution(bands, 32, 3, 2)
        self.blocks = nn.ModuleList(Block(*shape) for shape in block_shapes())
        self.adopt(variant or TENSORFLOW)

    def adopt(self, variant: str) -> None:
        """Take on the padding and the input range of the weights that will be loaded."""
        if variant not in INPUT_RANGE:
            raise ModelError(f"mobilenet-v2 has no variant {variant!r}", f"use one of {', '.join(INPUT_RANGE)}")
        self.variant = variant
        for module in self.modules():
            if isinstance(module, Convolution):
                module.pads_like_tensorflow = variant == TENSORFLOW

    def forward(self, bands: Tensor) -> Levels:
        factor, offset = INPUT_RANGE[self.variant]
        x = functional.relu6(self.stem(bands * factor + offset))
        levels = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in LEVEL_ENDS:
                levels.append(x)
        return levels[0], levels[1], levels[2], levels[3]

    def translate(self, state: StateDict) -> Translation:
        if "features.0.0.weight" in state:
            return fold_torchvision(state)
        if "stem.weight" in state and "blocks.0.depthwise.weight" in state:
            kept = {key: tensor for key, tensor in state.items() if not key.startswith(("head.", "classifier."))}
            left_out = tuple(key for key in state if key not in kept)
            # Our names and a classifier: converted from TensorFlow. Without: our own, which do not say their variant.
            variant = TENSORFLOW if left_out else self.variant
            return Translation("tensorflow" if left_out else "rsseg", kept, left_out, variant)
        raise ModelError(
            "these weights are no MobileNetV2",
            "expected the keys stem.weight, blocks.0.depthwise.weight, ... or torchvision's features.0.0.weight, ...",
        )


def block_shapes() -> Iterator[tuple[int, int, int, int]]:
    """Channels in, channels out, expansion and stride of the 17 blocks."""
    channels_in = 32
    for expansion, channels, count, stride in TABLE:
        for number in range(count):
            yield channels_in, channels, expansion, stride if number == 0 else 1
            channels_in = channels


class Names(NamedTuple):
    """One convolution: our name for it, and torchvision's for it and its batch norm."""

    ours: str
    convolution: str
    norm: str


def torchvision_names() -> Iterator[Names]:
    """features.0 is the stem and features.n our block n - 1; a block without expansion counts one convolution less."""
    yield Names("stem", "features.0.0", "features.0.1")
    for number, (_, _, expansion, _) in enumerate(block_shapes()):
        ours, theirs = f"blocks.{number}", f"features.{number + 1}.conv"
        activated = ("expand", "depthwise") if expansion > 1 else ("depthwise",)
        for place, part in enumerate(activated):
            yield Names(f"{ours}.{part}", f"{theirs}.{place}.0", f"{theirs}.{place}.1")
        yield Names(f"{ours}.project", f"{theirs}.{len(activated)}", f"{theirs}.{len(activated) + 1}")


def fold_torchvision(state: StateDict) -> Translation:
    """w' = w g / sqrt(v + eps), b' = beta - m g / sqrt(v + eps), per output channel."""
    folded: dict[str, Tensor] = {}
    used: set[str] = set()
    for ours, convolution, norm in torchvision_names():
        keys = [f"{convolution}.weight"] + [f"{norm}.{k}" for k in ("weight", "bias", "running_mean", "running_var")]
        missing = [key for key in keys if key not in state]
        if missing:
            raise ModelError(
                f"these weights lack {', '.join(missing)}",
                "give a complete MobileNetV2 state dict as torchvision names it",
            )
        weight, gain, bias, mean, variance = (state[key].float() for key in keys)
        gain = gain * torch.rsqrt(variance + BATCH_NORM_EPS)
        folded[f"{ours}.weight"] = weight * gain.reshape(-1, 1, 1, 1)
        folded[f"{ours}.bias"] = bias - mean * gain
        used.update(keys)
    return Translation("torchvision", folded, tuple(key for key in state if key not in used), TORCHVISION)
