"""A segmentation network from its description, and the description from a file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from rsseg_models.encoder import Encoder, Levels
from rsseg_models.errors import ModelError
from rsseg_models.heads import AllMlpHead, UPerHead
from rsseg_models.mit import SIZES, Mit
from rsseg_models.mobilenet_v2 import MobileNetV2
from rsseg_models.tiny import Tiny
from rsseg_models.transformers_encoder import TransformersEncoder

# From the number of bands and the variant, "" for the usual one.
MakeEncoder = Callable[[int, str], Encoder]
ENCODERS: dict[str, MakeEncoder] = {
    "tiny": Tiny,
    "mobilenet-v2": MobileNetV2,
    "mit-b0": partial(Mit, SIZES["mit-b0"]),
    "mit-b1": partial(Mit, SIZES["mit-b1"]),
    "mit-b2": partial(Mit, SIZES["mit-b2"]),
    "mit-b3": partial(Mit, SIZES["mit-b3"]),
    "mit-b4": partial(Mit, SIZES["mit-b4"]),
    "mit-b5": partial(Mit, SIZES["mit-b5"]),
    "transformers": TransformersEncoder,
}
# From the channels of the levels, the number of classes and the width.
MakeHead = Callable[[Sequence[int], int, int], nn.Module]
HEADS: dict[str, MakeHead] = {"all-mlp": AllMlpHead, "uper": UPerHead}

# Labels are written as bytes, of which 255 says that there is none.
MOST_CLASSES = 255
MOST_BANDS = 1024
MOST_WIDTH = 4096


@dataclass(frozen=True)
class Architecture:
    """What must be known to build a network again; its fields are what JSON can hold."""

    # A name in ENCODERS.
    encoder: str
    # What the network expects as bands, in this order.
    bands: tuple[str, ...]
    # How many classes it tells apart.
    classes: int
    # A name in HEADS.
    head: str = "all-mlp"
    # Channels inside the head; 0 takes what suits the encoder.
    width: int = 0
    # What the encoder's name leaves open: padding of "mobilenet-v2", the JSON configuration of "transformers".
    variant: str = ""
    # Of two students as one, what was chosen of their parts, as JSON; "" for one network.
    students: str = ""
    # Of a network that fuses the dates of a series, how it does, as JSON; "" for one that knows single scenes.
    fusion: str = ""
    # Of a network that sees by way of a teacher's tokens, how its parts are shaped, as JSON; "" for any other.
    transfer: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "bands", tuple(self.bands))
        for value, table, what in ((self.encoder, ENCODERS, "encoder"), (self.head, HEADS, "head")):
            if value not in table:
                raise ModelError(f"there is no {what} {value!r}", f"use one of {', '.join(table)}")
        for count, most, what in (
            (len(self.bands), MOST_BANDS, "bands"),
            (self.classes, MOST_CLASSES, "classes"),
            (self.width + 1, MOST_WIDTH + 1, "channels in the head"),
        ):
            if not 1 <= count <= most:
                raise ModelError(f"a network cannot have {count} {what}", f"give between 1 and {most}")

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"bands": list(self.bands)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Architecture":
        """The description as a file holds it; ModelError where it is not one."""
        known = {field.name: field for field in fields(cls)}
        unknown = sorted(set(stored) - set(known))
        missing = [name for name, field in known.items() if field.default is MISSING and name not in stored]
        wrong = [name for name, value in stored.items() if name in known and not is_kind(value, known[name].type)]
        for names, what in ((unknown, "has unknown entries:"), (missing, "lacks"), (wrong, "holds, not of the kind:")):
            if names:
                raise ModelError(f"the network's description {what} {', '.join(names)}", "update rsseg or train again")
        return cls(**stored)


def is_kind(value: object, kind: object) -> bool:
    """Whether JSON gave what the field of this type holds."""
    if kind == tuple[str, ...]:
        return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
    # True is an int in Python's eyes, not in ours.
    return type(value) is kind


class SegmentationNetwork(nn.Module):
    """Standardised bands (B, N, H, W) of any size to logits (B, K, H, W)."""

    def __init__(self, encoder: Encoder, head: nn.Module, architecture: Architecture) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.architecture = architecture

    def forward(self, bands: Tensor) -> Tensor:
        return self.decode(self.levels(bands), bands.shape[-2:])

    def levels(self, bands: Tensor) -> Levels:
        """The encoder's features of the bands, padded right and below to whole cells of the coarsest level."""
        cell = self.encoder.strides[-1]
        height, width = bands.shape[-2:]
        down, right = -height % cell, -width % cell
        if down or right:
            # Replicated, not reflected: reflection needs an image larger than the padding.
            bands = functional.pad(bands, (0, right, 0, down), mode="replicate")
        levels: Levels = self.encoder(bands)
        return levels

    def decode(self, levels: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """Logits (B, K, *size) from the levels of bands that have this size."""
        return enlarge(self.head(levels), self.encoder.strides[0], size)


def enlarge(logits: Tensor, stride: int, size: Sequence[int]) -> Tensor:
    """Logits of a level as those of the bands, without what `levels` padded."""
    logits = functional.interpolate(logits, scale_factor=stride, mode="bilinear", align_corners=False)
    return logits[..., : size[0], : size[1]]


def build(architecture: Architecture) -> SegmentationNetwork:
    """The network described, with fresh weights."""
    encoder = ENCODERS[architecture.encoder](len(architecture.bands), architecture.variant)
    width = architecture.width or encoder.head_width
    head = HEADS[architecture.head](encoder.channels, architecture.classes, width)
    return SegmentationNetwork(encoder, head, replace(architecture, width=width, variant=encoder.variant))


def count_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
