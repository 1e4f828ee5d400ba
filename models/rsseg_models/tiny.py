"""`tiny`: a small convolutional pyramid that a CPU trains from nothing in minutes. Our own; no paper.

It sees at most `reach_px` around a pixel, and normalises with stored statistics alone, so that tiles give what the
whole scene gives.
"""

from typing import Literal

from torch import Tensor, nn

from rsseg_models.encoder import Encoder, Levels, StateDict, Translation
from rsseg_models.errors import ModelError


def convolve(channels_in: int, channels_out: int, size: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution and batch norm; an even kernel cuts the plane into patches and needs no padding.

    Edges are repeated, not filled with zeros: what then lies beyond a tile is a better guess at the scene's next
    pixels, and tiles agree more with the whole.
    """
    padding = size // 2 if size % 2 else 0
    # Named only where there is padding: PyTorch would copy the map to pad it by nothing.
    mode: Literal["replicate", "zeros"] = "replicate" if padding else "zeros"
    layer = nn.Conv2d(channels_in, channels_out, size, stride, padding, groups=groups, bias=False, padding_mode=mode)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(layer, nn.BatchNorm2d(channels_out))


class Residual(nn.Module):
    """x + branch(x), rectified; the branch starts at zero so that a deep stack starts as a shallow one."""

    def __init__(self, *branch: nn.Module) -> None:
        super().__init__()
        self.branch = nn.Sequential(*branch)
        *_, last_norm = (module for module in self.branch.modules() if isinstance(module, nn.BatchNorm2d))
        nn.init.zeros_(last_norm.weight)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        activated: Tensor = self.activation(x + self.branch(x))
        return activated


def dense(channels: int) -> Residual:
    """Two full 3x3 convolutions: on a CPU faster for what they learn than depthwise ones, as long as maps are wide."""
    return Residual(convolve(channels, channels, 3), nn.ReLU(inplace=True), convolve(channels, channels, 3))


def separable(channels: int) -> Residual:
    """Widen, look around, narrow: where full convolutions would hold most of the network's parameters."""
    wide = 2 * channels
    return Residual(
        convolve(channels, wide, 1),
        nn.ReLU(inplace=True),
        convolve(wide, wide, 3, groups=wide),
        nn.ReLU(inplace=True),
        convolve(wide, channels, 1),
    )


class Tiny(Encoder):
    """Strides 4, 8, 16, 32 with 32, 64, 128, 160 channels; 0.44 M parameters."""

    channels = (32, 64, 128, 160)
    head_width = 64
    stem_key = "stages.0.0.0.weight"
    # Stem 1 + 2, residuals 2 x 4, 4 x 8 and 2 x 16, and patches of 4, 8 and 16 px. None at stride 32: with one,
    # tiles disagreed with the whole on a quarter more pixels, and the scores were no better.
    reach_px = 104

    def __init__(self, bands: int, variant: str = "") -> None:
        super().__init__()
        if variant:
            raise ModelError(f"tiny has no variant {variant!r}", "leave the variant empty")
        relu = nn.ReLU(inplace=True)
        self.stages = nn.ModuleList(
            [
                nn.Sequential(convolve(bands, 24, 3, stride=2), relu, convolve(24, 32, 3, stride=2), relu, dense(32)),
                nn.Sequential(convolve(32, 64, 2, stride=2), relu, dense(64), dense(64)),
                nn.Sequential(convolve(64, 128, 2, stride=2), relu, separable(128), separable(128)),
                nn.Sequential(convolve(128, 160, 2, stride=2), relu),
            ]
        )

    def forward(self, bands: Tensor) -> Levels:
        one = self.stages[0](bands)
        two = self.stages[1](one)
        three = self.stages[2](two)
        return one, two, three, self.stages[3](three)

    def translate(self, state: StateDict) -> Translation:
        """Nobody else publishes weights for it."""
        if self.stem_key not in state:
            raise ModelError(
                "these are no weights of the encoder tiny", "tiny is trained from nothing: give no weights"
            )
        return Translation("rsseg", dict(state))
