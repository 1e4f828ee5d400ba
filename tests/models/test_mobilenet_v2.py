"""MobileNetV2: key maps, folding, padding, and two photographs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rsseg_models.errors import ModelError
from rsseg_models.loading import load_encoder_weights
from rsseg_models.mobilenet_v2 import INPUT_RANGE, TABLE, TENSORFLOW, TORCHVISION, Convolution, MobileNetV2
from rsseg_models.network import Architecture, build
from rsseg_models.stem import RGB
from rsseg_models.weights import read_weights
from torch import Tensor, nn
from torch.nn import functional


def normalised(channels_in: int, channels: int, size: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(channels_in, channels, size, stride, size // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(channels)]


def activated(*shape: int) -> nn.Sequential:
    return nn.Sequential(*normalised(*shape), nn.ReLU6())


class Inverted(nn.Module):
    """A block with batch norm, its parts named as torchvision names them."""

    def __init__(self, channels_in: int, channels: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = channels_in * expansion
        parts: list[nn.Module] = [activated(channels_in, wide)] if expansion > 1 else []
        self.conv = nn.Sequential(*parts, activated(wide, wide, 3, stride, wide), *normalised(wide, channels))
        self.is_shortcut = stride == 1 and channels_in == channels

    def forward(self, x: Tensor) -> Any:
        return x + self.conv(x) if self.is_shortcut else self.conv(x)


def unfolded() -> nn.Module:
    """The network as it is trained, with statistics that differ from channel to channel."""
    parts: list[nn.Module] = [activated(3, 32, 3, 2)]
    channels_in = 32
    for expansion, channels, count, stride in TABLE:
        for number in range(count):
            parts.append(Inverted(channels_in, channels, expansion, stride if number == 0 else 1))
            channels_in = channels
    parts.append(activated(320, 1280))
    network = nn.Module()
    network.features = nn.Sequential(*parts)
    network.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in ((module.running_mean, -0.2, 0.2), (module.running_var, 0.5, 2.0)):
                assert tensor is not None
                nn.init.uniform_(tensor, low, high)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    return network.eval()


@torch.no_grad()
def test_torchvision_weights_fold_to_the_same_features() -> None:
    torch.manual_seed(0)
    published = unfolded()
    network = build(Architecture("mobilenet-v2", RGB, 2))
    loaded = load_encoder_weights(network, published.state_dict(), RGB)
    assert (loaded.naming, loaded.bands_by_mean) == ("torchvision", ())
    assert network.architecture.variant == TORCHVISION
    assert all(key.startswith(("features.18", "classifier")) or "num_batches" in key for key in loaded.left_out)
    x = image = torch.randn(1, 3, 64, 64)
    expected = []
    assert isinstance(published.features, nn.Sequential)
    for number, part in enumerate(published.features[:18]):
        x = part(x)
        if number in (3, 6, 13, 17):
            expected.append(x)
    for level, other in zip(network.levels(image), expected, strict=True):
        torch.testing.assert_close(level, other, atol=1e-4, rtol=1e-4)


def test_incomplete_torchvision_weights_are_refused() -> None:
    state = unfolded().state_dict()
    del state["features.4.conv.1.1.running_var"]
    with pytest.raises(ModelError, match=r"lack features\.4\.conv\.1\.1\.running_var"):
        MobileNetV2(3).translate(state)


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(ModelError, match="no MobileNetV2"):
        MobileNetV2(3).translate({"conv1.weight": torch.zeros(1)})


def test_paddings_differ_by_one_pixel() -> None:
    # A kernel that passes its middle pixel on: TensorFlow's lies one to the right and below.
    x = torch.arange(36.0).reshape(1, 1, 6, 6)
    convolution = Convolution(1, 1, 3, 2)
    convolution.weight.data = torch.zeros(1, 1, 3, 3)
    convolution.weight.data[0, 0, 1, 1] = 1
    assert convolution(x)[0, 0].tolist() == x[0, 0, 0::2, 0::2].tolist()
    convolution.pads_like_tensorflow = True
    assert convolution(x)[0, 0].tolist() == x[0, 0, 1::2, 1::2].tolist()


@pytest.mark.parametrize("size", [(7, 7), (8, 5), (6, 9)])
def test_tensorflow_padding_of_odd_sizes_is_symmetric(size: tuple[int, int]) -> None:
    convolution = Convolution(2, 2, 3, 2)
    convolution.pads_like_tensorflow = True
    assert convolution(torch.zeros(1, 2, *size)).shape[-2:] == tuple(-(-side // 2) for side in size)


def test_the_variant_sets_padding_and_range() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 3, 64, 64)
    tensorflow, torchvision = MobileNetV2(3, TENSORFLOW), MobileNetV2(3, TORCHVISION)
    torchvision.load_state_dict(tensorflow.state_dict())
    assert not torch.equal(tensorflow(x)[0], torchvision(x)[0])
    torchvision.adopt(TENSORFLOW)
    assert torch.equal(tensorflow(x)[0], torchvision(x)[0])
    with pytest.raises(ModelError, match="no variant 'caffe'"):
        MobileNetV2(3, "caffe")


def test_there_are_no_norm_layers() -> None:
    assert not [module for module in MobileNetV2(3).modules() if "Norm" in type(module).__name__]
    # 3,489,097 values of the whole classifier, less its last two layers.
    head, classifier = 1280 * 320 + 1280, 1001 * 1280 + 1001
    assert sum(p.numel() for p in MobileNetV2(3).parameters()) == 3_489_097 - head - classifier


@torch.no_grad()
@pytest.mark.parametrize(("photograph", "name"), [("cat", "Egyptian cat"), ("bird", "chickadee")])
def test_staged_weights_know_two_photographs(real_data: Path, photograph: str, name: str) -> None:
    image = pytest.importorskip("PIL.Image")
    folder = real_data / "weights"
    state = read_weights(folder / "mobilenetv2_imagenet_bnfolded_fp32.npz")
    network = build(Architecture("mobilenet-v2", RGB, 2)).eval()
    loaded = load_encoder_weights(network, state, RGB)
    assert loaded.naming == TENSORFLOW
    assert {key.split(".")[0] for key in loaded.left_out} == {"head", "classifier"}
    with image.open(folder / f"check_{photograph}_227.png") as opened:
        pixels = np.asarray(opened.convert("RGB").resize((224, 224), image.Resampling.BILINEAR), dtype=np.float32)
    factor, offset = INPUT_RANGE[TENSORFLOW]
    standardised = ((torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1) - offset) / factor
    features = functional.relu6(
        functional.conv2d(network.levels(standardised)[-1], state["head.weight"], state["head.bias"])
    )
    pooled = features.mean(dim=(2, 3), keepdim=True)
    logits = functional.conv2d(pooled, state["classifier.weight"], state["classifier.bias"])
    names = (folder / "imagenet_labels_1001.txt").read_text(encoding="utf-8").splitlines()
    assert name in names[int(logits.argmax())]
    assert logits.softmax(dim=1).max() > 0.5
