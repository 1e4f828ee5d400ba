"""Extractors of features: shapes, how far they look, any number of bands, published weights."""

from pathlib import Path

import pytest
import torch
from rsseg_models.change_features import (
    EXTRACTORS,
    STRIDES,
    Extractor,
    fill,
    halo_px,
    open_extractor,
    orthogonal,
    triplets,
)
from rsseg_models.errors import ModelError
from rsseg_models.mobilenet_v2 import TORCHVISION, MobileNetV2
from rsseg_models.squeezenet import SqueezeNet
from rsseg_models.stem import RGB
from rsseg_models.vgg16 import Vgg16
from rsseg_models.weights import read_weights
from torch import Tensor, nn


def image(bands: int, height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(1, bands, height, width, generator=torch.Generator().manual_seed(seed))


def assert_alike(one: Tensor, other: Tensor) -> None:
    """To 1e-5 of their spread, because squeezenet's features are in the hundreds."""
    torch.testing.assert_close(one / other.std(), other / other.std(), atol=1e-5, rtol=0)


def published_vgg16() -> dict[str, Tensor]:
    """What torchvision's file holds: all convolutions and a classifier."""
    generator = torch.Generator().manual_seed(3)
    state = {key: torch.randn(t.shape, generator=generator) * 0.05 for key, t in Vgg16().state_dict().items()}
    return state | {"features.17.weight": torch.zeros(512, 256, 3, 3), "classifier.0.weight": torch.zeros(1, 1)}


@pytest.mark.parametrize("name", EXTRACTORS)
@pytest.mark.parametrize("size", [(32, 48), (37, 51), (34, 35)])
@torch.no_grad()
def test_levels_have_the_channels_stated_and_whole_cells(name: str, size: tuple[int, int]) -> None:
    extractor = open_extractor(name, RGB)
    levels = extractor(image(3, *size))
    assert [tuple(level.shape) for level in levels] == [
        (1, channels, size[0] // stride, size[1] // stride)
        for channels, stride in zip(extractor.channels, STRIDES, strict=True)
    ]


@torch.no_grad()
def moved_px(extractor: Extractor, size_px: int, row: int, column: int) -> int:
    """How far from a pixel that changes lies what changes with it."""
    before = image(3, size_px, size_px)
    after = before.clone()
    after[..., row, column] = 1 - after[..., row, column]
    farthest = 0
    for stride, one, other in zip(STRIDES, extractor(before), extractor(after), strict=True):
        cells = (one != other).any(dim=1)[0].nonzero()
        place = torch.tensor([row, column])
        # From the nearest pixel under a cell.
        nearest = torch.maximum(torch.minimum(place, cells * stride + stride - 1), cells * stride)
        farthest = max(farthest, int((nearest - place).abs().max()))
    return farthest


@pytest.mark.parametrize("name", EXTRACTORS)
def test_nothing_beyond_the_reach_is_seen(name: str) -> None:
    extractor = open_extractor(name, RGB)
    # All places within a cell of stride 4.
    found = max(moved_px(extractor, 96, 48 + shift, 48 + shift) for shift in range(4))
    assert found == extractor.reach_px


@pytest.mark.parametrize("name", EXTRACTORS)
@torch.no_grad()
def test_a_window_with_its_halo_gives_what_the_whole_gives(name: str) -> None:
    extractor = open_extractor(name, ("red", "green", "blue", "nir"))
    halo = halo_px(extractor)
    assert halo >= extractor.reach_px
    assert halo % STRIDES[-1] == 0
    whole = image(4, 2 * halo + 49, 2 * halo + 71)
    top, left, side = 16, 40, 24
    window = whole[..., top : top + side + 2 * halo, left : left + side + 2 * halo]
    for stride, part, all_of_it in zip(STRIDES, extractor(window), extractor(whole), strict=True):
        inner = slice(halo // stride, (halo + side) // stride)
        rows, columns = (slice((start + halo) // stride, (start + halo + side) // stride) for start in (top, left))
        assert_alike(part[..., inner, inner], all_of_it[..., rows, columns])


@pytest.mark.parametrize("name", EXTRACTORS)
@torch.no_grad()
def test_an_image_does_not_depend_on_the_others_of_its_batch(name: str) -> None:
    extractor = open_extractor(name, RGB)
    dark, bright = image(3, 16, 16) * 0.1, image(3, 16, 16, seed=1)
    for alone, together in zip(extractor(dark), extractor(torch.cat([bright, dark])), strict=True):
        assert_alike(alone[0], together[1])


@pytest.mark.parametrize("name", EXTRACTORS)
@pytest.mark.parametrize("count", [1, 2, 5, 13])
@torch.no_grad()
def test_any_number_of_bands_counts(name: str, count: int) -> None:
    extractor = open_extractor(name, [f"band {number}" for number in range(count)])
    before = image(count, 16, 16)
    for band in range(count):
        after = before.clone()
        after[:, band] = 1 - after[:, band]
        assert not torch.equal(extractor(before)[0], extractor(after)[0])


def test_red_green_and_blue_go_in_as_such_and_the_others_in_threes() -> None:
    assert triplets(("blue", "green", "Red")) == ((2, 1, 0),)
    assert triplets(("blue", "green", "red", "nir")) == ((2, 1, 0), (1, 0, 3))
    assert triplets(("blue", "green", "red", "nir"), only_rgb=True) == ((2, 1, 0),)
    assert triplets(("a", "b", "c")) == ((0, 1, 2),)
    assert triplets(("a",)) == ((0, 0, 0),)
    assert triplets(("a", "b")) == ((0, 1, 1),)
    assert triplets(tuple("abcdefg")) == ((0, 1, 2), (3, 4, 5), (4, 5, 6))
    with pytest.raises(ModelError, match="not all among red, nir"):
        triplets(("red", "nir"), only_rgb=True)


@torch.no_grad()
def test_bands_are_known_by_name_and_several_threes_are_averaged() -> None:
    pixels = image(3, 16, 16)
    one, other = open_extractor("vgg16", RGB), open_extractor("vgg16", RGB[::-1])
    for level, same in zip(one(pixels), other(pixels.flip(1)), strict=True):
        assert torch.equal(level, same)
    six = open_extractor("vgg16", tuple("abcdef"))
    first, second = image(3, 16, 16, seed=1), image(3, 16, 16, seed=2)
    for both, a, b in zip(six(torch.cat([first, second], 1)), one(first), one(second), strict=True):
        torch.testing.assert_close(both, (a + b) / 2)


@pytest.mark.parametrize("name", EXTRACTORS)
@torch.no_grad()
def test_of_red_green_and_blue_alone_no_other_band_counts(name: str) -> None:
    before = image(4, 16, 16)
    after = before.clone()
    after[:, 3] = 1 - after[:, 3]
    bands = ("blue", "green", "red", "nir")
    for only_rgb in (True, False):
        extractor = open_extractor(name, bands, only_rgb=only_rgb)
        assert torch.equal(extractor(before)[-1], extractor(after)[-1]) is only_rgb


@torch.no_grad()
def test_without_weights_the_seed_decides_alone() -> None:
    torch.manual_seed(1)
    one = open_extractor("random", RGB)(image(3, 16, 16))
    torch.manual_seed(2)
    same, other = (open_extractor("random", RGB, seed=seed)(image(3, 16, 16)) for seed in (0, 1))
    assert torch.equal(one[-1], same[-1])
    assert not torch.equal(one[-1], other[-1])


def test_random_kernels_are_orthogonal() -> None:
    first = orthogonal(Vgg16(), 0).features[0]
    assert isinstance(first, nn.Conv2d)
    rows = first.weight.flatten(1)
    torch.testing.assert_close(rows.T @ rows, 2 * torch.eye(27), atol=1e-4, rtol=0)


def test_nothing_is_trained_unless_somebody_says_so() -> None:
    extractor = open_extractor("vgg16", RGB)
    assert isinstance(extractor, nn.Module)
    assert not any(parameter.requires_grad for parameter in extractor.parameters())


def test_published_weights_of_vgg16_are_taken_without_its_deeper_layers() -> None:
    state, network = published_vgg16(), Vgg16()
    fill(network, state)
    assert all(torch.equal(tensor, state[key]) for key, tensor in network.state_dict().items())


def test_mobilenet_takes_padding_and_range_with_its_weights() -> None:
    encoder = MobileNetV2(3, TORCHVISION)
    extractor = open_extractor("mobilenet-v2", RGB, encoder.state_dict())
    assert isinstance(extractor, nn.Module)
    taken = {key.removeprefix("network.encoder."): tensor for key, tensor in extractor.state_dict().items()}
    assert "blocks.5.project.weight" in taken
    assert "blocks.6.project.weight" not in taken
    assert all(torch.equal(tensor, encoder.state_dict()[key]) for key, tensor in taken.items())


@pytest.mark.parametrize(
    ("key", "tensor", "message"),
    [
        ("features.2.bias", None, r"missing: features\.2\.bias"),
        ("features.2.bias", torch.zeros(3), "of another shape"),
        ("features.2.bias", torch.full((64,), torch.nan), "not finite"),
    ],
)
def test_weights_that_do_not_fit_change_nothing(key: str, tensor: Tensor | None, message: str) -> None:
    state, network = published_vgg16(), orthogonal(Vgg16(), 0)
    del state[key]
    if tensor is not None:
        state[key] = tensor
    with pytest.raises(ModelError, match=message):
        fill(network, state)
    untouched = orthogonal(Vgg16(), 0).state_dict()
    assert all(torch.equal(tensor, untouched[key]) for key, tensor in network.state_dict().items())


def test_what_there_is_not_is_refused() -> None:
    with pytest.raises(ModelError, match="no encoder 'resnet'"):
        open_extractor("resnet", RGB)
    with pytest.raises(ModelError, match="takes no weights"):
        open_extractor("random", RGB, published_vgg16())
    with pytest.raises(ModelError, match="missing"):
        open_extractor("squeezenet", RGB, published_vgg16())


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("squeezenet", "squeezenet1_0_imagenet_fp16.pth"),
        ("mobilenet-v2", "mobilenetv2_imagenet_bnfolded_fp32.npz"),
    ],
)
def test_staged_weights_give_features_of_pictures(real_data: Path, name: str, file: str) -> None:
    extractor = open_extractor(name, RGB, read_weights(real_data / "weights" / file))
    for level in extractor(image(3, 32, 32)):
        assert level.isfinite().all()
        assert (level.std(dim=(0, 2, 3)) > 0).float().mean() > 0.5


def test_squeezenet_ends_with_fire8() -> None:
    assert sum(p.numel() for p in SqueezeNet().parameters()) == 1_248_424 - 197_184 - (1000 * 512 + 1000)
