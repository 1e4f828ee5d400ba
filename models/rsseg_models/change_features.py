"""What two dates are compared by: features at strides 1, 2 and 4, from networks that are not trained here.

Every extractor is strictly local. A cell of stride s looks at the s x s pixels under it and at no more than `reach_px`
around them; nothing is estimated from a batch. A window that starts at a multiple of 4 px, with `halo_px` around it,
therefore gives what the whole raster gives.
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from rsseg_models.encoder import StateDict
from rsseg_models.errors import ModelError
from rsseg_models.loading import check_fit
from rsseg_models.mobilenet_v2 import INPUT_RANGE, MobileNetV2
from rsseg_models.squeezenet import SqueezeNet
from rsseg_models.stem import RGB
from rsseg_models.vgg16 import Vgg16

STRIDES = (1, 2, 4)
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Triplet = tuple[int, int, int]
Levels = tuple[Tensor, ...]
Module = TypeVar("Module", bound=nn.Module)


class Extractor(Protocol):
    """Bands (B, N, H, W) in [0, 1] to levels (B, C_l, H // s_l, W // s_l) for s_l in STRIDES."""

    # Of each level.
    channels: Triplet
    # How far beyond its own pixels a cell looks.
    reach_px: int

    def __call__(self, bands: Tensor) -> Levels: ...

    def to(self, device: str) -> "Extractor": ...


def halo_px(extractor: Extractor) -> int:
    """What a window needs around it: the reach in whole cells of the coarsest level, so that cells stay in place."""
    return -(-extractor.reach_px // STRIDES[-1]) * STRIDES[-1]


class RandomPyramid(nn.Module):
    """Three levels of random convolutions over any bands: nothing to download. Edges are repeated."""

    channels = (32, 64, 128)
    # 2 x 1 px, 2 x 2 px and 2 x 4 px; means of 2 x 2 stay within their cell.
    reach_px = 14

    def __init__(self, bands: int) -> None:
        super().__init__()
        sizes = (bands, *self.channels)
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(sizes[level], sizes[level + 1], 3, padding=1, padding_mode="replicate"),
                nn.ReLU(inplace=True),
                nn.Conv2d(sizes[level + 1], sizes[level + 1], 3, padding=1, padding_mode="replicate"),
                nn.ReLU(inplace=True),
            )
            for level in range(len(STRIDES))
        )

    def forward(self, bands: Tensor) -> Levels:
        # About the middle, so that a ReLU cuts some of what is dark and some of what is bright.
        levels = [self.stages[0](bands - 0.5)]
        for stage in self.stages[1:]:
            levels.append(stage(functional.avg_pool2d(levels[-1], 2)))
        return tuple(levels)


class MobileNetLevels(nn.Module):
    """Stem and six blocks of MobileNetV2, the stem at every pixel: strides 1, 2, 4 in place of 2, 4, 8."""

    channels = (32, 24, 32)
    # 1 px each of stem, block 0 and block 1; 2 px each of blocks 2 and 3; 4 px each of blocks 4 and 5.
    reach_px = 15
    level_ends = (2, 5)
    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.encoder = MobileNetV2(3)
        self.encoder.stem.stride = (1, 1)
        del self.encoder.blocks[self.level_ends[-1] + 1 :]
        for name, values in (("mean", IMAGENET_MEAN), ("deviation", IMAGENET_DEVIATION)):
            self.register_buffer(name, torch.tensor(values).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, bands: Tensor) -> Levels:
        height, width = bands.shape[-2:]
        # Whole cells: TensorFlow pads an odd side in another place than an even one.
        x = functional.pad(bands, (0, -width % STRIDES[-1], 0, -height % STRIDES[-1]), mode="replicate")
        x = functional.relu6(self.encoder.stem(self.standardised(x)))
        levels = [x]
        for number, block in enumerate(self.encoder.blocks):
            x = block(x)
            if number in self.level_ends:
                levels.append(x)
        return tuple(
            level[..., : height // stride, : width // stride] for level, stride in zip(levels, STRIDES, strict=True)
        )

    def standardised(self, bands: Tensor) -> Tensor:
        """As ImageNet was, and within the range that the weights were trained on."""
        factor, offset = INPUT_RANGE[self.encoder.variant]
        return (bands - self.mean) / self.deviation * factor + offset

    def translate(self, state: StateDict) -> StateDict:
        """Under our names; takes on the padding and the input range of the weights."""
        translation = self.encoder.translate(state)
        self.encoder.adopt(translation.variant)
        return {f"encoder.{key}": tensor for key, tensor in translation.state.items()}


Network = RandomPyramid | Vgg16 | SqueezeNet | MobileNetLevels
# Of red, green and blue.
EXTRACTORS: dict[str, Callable[[], Network]] = {
    "random": partial(RandomPyramid, 3),
    "vgg16": Vgg16,
    "squeezenet": SqueezeNet,
    "mobilenet-v2": MobileNetLevels,
}


class InTriplets(nn.Module):
    """A network of red, green and blue for any bands: the mean of what it makes of each three."""

    def __init__(self, network: Network, places: Sequence[Triplet]) -> None:
        super().__init__()
        self.network, self.places = network, tuple(places)
        self.channels, self.reach_px = network.channels, network.reach_px

    def forward(self, bands: Tensor) -> Levels:
        total = reduce(added, (self.network(bands[:, list(three)]) for three in self.places))
        return tuple(level / len(self.places) for level in total)


def added(levels: Levels, others: Levels) -> Levels:
    return tuple(one + other for one, other in zip(levels, others, strict=True))


def apart(one: Tensor, other: Tensor) -> Tensor:
    """How far apart two levels (B, C, H, W) are in each cell (B, H, W), whatever their lengths."""
    return (_unit(one) - _unit(other)).abs().sum(dim=1)


def _unit(level: Tensor) -> Tensor:
    length: Tensor = level.norm(dim=1, keepdim=True)
    return level / (length + 1e-6)


def open_extractor(
    name: str, bands: Sequence[str], weights: StateDict | None = None, *, only_rgb: bool = False, seed: int = 0
) -> Extractor:
    """The extractor of a name for these bands: with published weights, or random and orthogonal by the seed.

    `only_rgb` leaves out all bands but those called red, green and blue.
    """
    if name not in EXTRACTORS:
        raise ModelError(f"no encoder {name!r} gives features at strides 1, 2 and 4", f"use {', '.join(EXTRACTORS)}")
    if name == "random" and weights is not None:
        raise ModelError("the encoder random takes no weights", "leave them out, or name the encoder they are for")
    if name == "random" and not only_rgb:
        return frozen(orthogonal(RandomPyramid(len(bands)), seed))
    network = orthogonal(EXTRACTORS[name](), seed)
    if weights is not None:
        fill(network, weights)
    return frozen(InTriplets(network, triplets(bands, only_rgb)))


def triplets(bands: Sequence[str], only_rgb: bool = False) -> tuple[Triplet, ...]:
    """Places of the bands that go in as red, green and blue: those of that name first, the others in threes.

    The last three overlap others where the count is no multiple of three; a last of fewer than three is repeated.
    """
    lowered = [band.casefold() for band in bands]
    named = [lowered.index(colour) for colour in RGB] if set(RGB) <= set(lowered) else []
    if only_rgb and not named:
        raise ModelError(f"red, green and blue are not all among {', '.join(bands)}", "name them, or use all bands")
    order = named + [place for place in range(len(bands)) if place not in named and not only_rgb]
    order += order[-1:] * (len(RGB) - len(order))
    starts = [*range(0, len(order) - 3, 3), len(order) - 3]
    return tuple((order[start], order[start + 1], order[start + 2]) for start in starts)


def fill(network: Network, weights: StateDict) -> None:
    """Published weights, without deeper layers and classifiers; ModelError unless all others are there and fit."""
    state = network.translate(weights) if isinstance(network, MobileNetLevels) else weights
    own = network.state_dict()
    kept = {key: tensor for key, tensor in state.items() if key in own}
    check_fit(network, kept)  # type: ignore[arg-type]  # it asks for no more than a state dict
    network.load_state_dict(kept)


def orthogonal(network: Module, seed: int) -> Module:
    """Random kernels that keep apart what differs; of one seed always the same, whatever was drawn before."""
    generator = torch.Generator().manual_seed(seed)
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.orthogonal_(part.weight, nn.init.calculate_gain("relu"), generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    return network


def frozen(network: Module) -> Module:
    return network.eval().requires_grad_(False)
