"""SqueezeNet 1.0 (Iandola et al. 2016, arXiv 1602.07360) up to fire8, its first convolution at every pixel.

Published, that convolution steps two pixels. At every pixel its edges are as sharp as the image, and all behind it sees
half of what it saw in a photograph, which suits images whose objects are a few pixels wide.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

# The weights come from Caffe: blue, green, red, 0 to 255, less the mean of ImageNet.
MEAN_BGR = (104.0, 117.0, 123.0)
# Channels in, squeezed, and out of each half of fire2 to fire8.
FIRES = ((96, 16, 64), (128, 16, 64), (128, 32, 128), (256, 32, 128), (256, 48, 192), (384, 48, 192), (384, 64, 256))
# Places in `features`, which are torchvision's: conv1, fire4 and fire8, the last of each stride.
LEVEL_ENDS = (1, 5, 10)


class Fire(nn.Module):
    """Squeeze to few channels, then look at each pixel and around it, side by side."""

    def __init__(self, channels_in: int, squeezed: int, half: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels_in, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, half, 1)
        self.expand3x3 = nn.Conv2d(squeezed, half, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.squeeze(x))
        return functional.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], dim=1))


class SqueezeNet(nn.Module):
    """Red, green, blue (B, 3, H, W) in [0, 1] to levels at strides 1, 2, 4; keys as in torchvision."""

    channels = (96, 256, 512)
    # 3 px of conv1; 3 x 2 px of fire2-4 and 1 px of the pool before; 4 x 4 px of fire5-8 and 2 px of theirs.
    reach_px = 28
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Repeated edges: the published convolution has none, so no weights expect zeros here.
        first = nn.Conv2d(3, 96, 7, padding=3, padding_mode="replicate")
        fires = [Fire(*shape) for shape in FIRES]
        # Without `ceil_mode` the last pixels of a side would have no cell.
        pools = [nn.MaxPool2d(3, 2, ceil_mode=True) for _ in range(2)]
        self.features = nn.Sequential(first, nn.ReLU(inplace=True), pools[0], *fires[:3], pools[1], *fires[3:])
        self.register_buffer("mean", torch.tensor(MEAN_BGR).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, bands: Tensor) -> tuple[Tensor, ...]:
        x = bands.flip(1) * 255 - self.mean
        levels = []
        for number, part in enumerate(self.features):
            x = part(x)
            if number in LEVEL_ENDS:
                levels.append(x)
        return tuple(levels)
