"""What every encoder promises: four feature levels, and key maps for the weights others have published."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

StateDict = Mapping[str, Tensor]
Levels = tuple[Tensor, Tensor, Tensor, Tensor]
Channels = tuple[int, int, int, int]


@dataclass(frozen=True)
class Translation:
    """Published weights under our names."""

    # Whose names the file used: "rsseg", "torchvision", ...
    naming: str
    state: dict[str, Tensor]
    # Keys that are no part of an encoder: classifiers, counters.
    left_out: tuple[str, ...] = ()
    # What the encoder must do to fit these weights (Encoder.variant).
    variant: str = ""


class Encoder(nn.Module, ABC):
    """Bands (B, N, H, W), H and W multiples of 32, to levels (B, C_l, H / s_l, W / s_l) at strides s_l = 4, 8, 16, 32.

    The input are bands standardised to about zero mean and unit spread; what published weights expect instead is
    made of that inside the encoder.
    """

    strides: tuple[int, int, int, int] = (4, 8, 16, 32)
    channels: Channels
    # The width of the all-MLP head that suits the encoder.
    head_width: int
    # The key of the convolution that sees the bands.
    stem_key: str
    # How far from a pixel its coarsest features look; None: over the whole tile.
    reach_px: int | None = None
    # What the encoder's name leaves open, in words that a file can hold; "" where it leaves nothing open.
    variant: str = ""

    @abstractmethod
    def forward(self, bands: Tensor) -> Levels: ...

    @abstractmethod
    def translate(self, state: StateDict) -> Translation:
        """Weights under any naming this encoder knows, under our names; ModelError for any other."""
