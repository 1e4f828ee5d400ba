"""SqueezeNet: what its weights were trained on, and two photographs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from rsseg_models.change_features import fill, orthogonal
from rsseg_models.squeezenet import MEAN_BGR, Fire, SqueezeNet
from rsseg_models.weights import read_weights
from torch import nn
from torch.nn import functional


def mean_colour() -> torch.Tensor:
    red, green, blue = reversed(MEAN_BGR)
    return torch.tensor([red, green, blue]).reshape(1, 3, 1, 1).expand(1, 3, 16, 16) / 255


@torch.no_grad()
def test_it_takes_red_green_blue_and_sees_them_about_the_mean_of_imagenet() -> None:
    network = orthogonal(SqueezeNet(), 0)
    levels = network(mean_colour())
    assert all(level.abs().max() < 1e-3 for level in levels)
    assert network(mean_colour().flip(1))[0].abs().max() > 1


@torch.no_grad()
@pytest.mark.parametrize(("photograph", "name", "least"), [("cat", "Egyptian cat", 0.8), ("bird", "chickadee", 0.99)])
def test_staged_weights_know_two_photographs(real_data: Path, photograph: str, name: str, least: float) -> None:
    """With the stride and the edges of the published network, and the layers behind it that rsseg leaves out."""
    image = pytest.importorskip("PIL.Image")
    folder = real_data / "weights"
    state = {key: tensor.float() for key, tensor in read_weights(folder / "squeezenet1_0_imagenet_fp16.pth").items()}
    network = SqueezeNet()
    fill(network, state)
    first = network.features[0]
    assert isinstance(first, nn.Conv2d)
    network.features[0] = nn.Conv2d(3, 96, 7, stride=2)
    network.features[0].load_state_dict(first.state_dict())
    with image.open(folder / f"check_{photograph}_227.png") as opened:
        pixels = np.asarray(opened.convert("RGB"), dtype=np.float32)
    x = network(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)[-1]
    last = Fire(512, 64, 256)
    last.load_state_dict({key.removeprefix("features.12."): t for key, t in state.items() if "features.12." in key})
    x = last(functional.max_pool2d(x, 3, 2, ceil_mode=True))
    logits = functional.relu(functional.conv2d(x, state["classifier.1.weight"], state["classifier.1.bias"]))
    chances = logits.mean(dim=(2, 3))[0].softmax(dim=0)
    names = (folder / "imagenet_labels_1001.txt").read_text(encoding="utf-8").splitlines()
    assert name in names[int(chances.argmax()) + 1]
    assert chances.max() > least
