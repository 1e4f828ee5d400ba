"""VGG16 (Simonyan & Zisserman 2015, arXiv 1409.1556) up to conv3_3: what Metric-CD was released with."""

from torch import Tensor, nn

# Channels and convolutions of each stride.
STAGES = ((64, 2), (128, 2), (256, 3))
# Places in `features`, which are torchvision's: after the ReLU of conv1_2, conv2_2 and conv3_3.
LEVEL_ENDS = (3, 8, 15)


class Vgg16(nn.Module):
    """Red, green, blue (B, 3, H, W) in [0, 1] to levels at strides 1, 2, 4; keys as in torchvision.

    The input is not standardised, though ImageNet's weights were trained on what is: Metric-CD was released so.
    """

    channels = (64, 128, 256)
    # 2 x 1 px, 2 x 2 px and 3 x 4 px; pools of 2 x 2 stay within their cell.
    reach_px = 18

    def __init__(self) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        channels_in = 3
        for channels, count in STAGES:
            if parts:
                parts.append(nn.MaxPool2d(2))
            for _ in range(count):
                parts += [nn.Conv2d(channels_in, channels, 3, padding=1), nn.ReLU(inplace=True)]
                channels_in = channels
        self.features = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        levels = []
        for number, part in enumerate(self.features):
            x = part(x)
            if number in LEVEL_ENDS:
                levels.append(x)
        return tuple(levels)
