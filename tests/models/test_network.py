"""Networks from their description: every encoder, any bands, any size."""

import json
from dataclasses import replace

import pytest
import torch
from rsseg_models.errors import ModelError
from rsseg_models.heads import AllMlpHead
from rsseg_models.network import ENCODERS, HEADS, Architecture, build

LIGHT = ("tiny", "mobilenet-v2", "mit-b0")


def named(count: int) -> tuple[str, ...]:
    return tuple(f"band {number}" for number in range(1, count + 1))


@torch.no_grad()
@pytest.mark.parametrize("encoder", LIGHT)
@pytest.mark.parametrize(("bands", "size"), [(1, (64, 64)), (3, (70, 101)), (4, (1, 1)), (12, (33, 31))])
def test_logits_have_the_size_of_the_bands(encoder: str, bands: int, size: tuple[int, int]) -> None:
    network = build(Architecture(encoder, named(bands), 5)).eval()
    logits = network(torch.randn(2, bands, *size))
    assert logits.shape == (2, 5, *size)
    assert torch.isfinite(logits).all()


@torch.no_grad()
@pytest.mark.parametrize("encoder", LIGHT)
def test_levels_have_the_strides_and_channels_stated(encoder: str) -> None:
    network = build(Architecture(encoder, named(3), 5)).eval()
    levels = network.levels(torch.randn(1, 3, 60, 90))
    stated = zip(network.encoder.channels, network.encoder.strides, strict=True)
    assert [level.shape[1:] for level in levels] == [(channels, 64 // s, 96 // s) for channels, s in stated]


@torch.no_grad()
@pytest.mark.parametrize("head", HEADS)
def test_decode_finishes_what_levels_began(head: str) -> None:
    network = build(Architecture("tiny", named(3), 5, head, width=16)).eval()
    bands = torch.randn(1, 3, 60, 90)
    assert torch.equal(network.decode(network.levels(bands), (60, 90)), network(bands))


@torch.no_grad()
def test_padding_repeats_the_edge() -> None:
    network = build(Architecture("tiny", named(2), 3)).eval()
    bands = torch.randn(1, 2, 40, 64)
    taller = torch.cat([bands, bands[:, :, -1:].expand(-1, -1, 24, -1)], dim=2)
    assert torch.equal(network(bands), network(taller)[:, :, :40])


@torch.no_grad()
@pytest.mark.parametrize("encoder", LIGHT)
def test_half_precision_agrees_with_full(encoder: str) -> None:
    torch.manual_seed(0)
    network = build(Architecture(encoder, named(3), 4)).eval().to(memory_format=torch.channels_last)
    bands = torch.randn(1, 3, 96, 90)
    full = network(bands)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(bands)
    assert half.shape == full.shape
    assert (half.float() - full).abs().max() < 0.1 * full.abs().max() + 0.01


@pytest.mark.parametrize("encoder", LIGHT)
def test_every_parameter_gets_a_gradient(encoder: str) -> None:
    network = build(Architecture(encoder, named(3), 4))
    network(torch.randn(2, 3, 64, 64)).square().mean().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("name", [name for name in ENCODERS if name != "transformers"])
def test_the_description_builds_the_same_network_again(name: str) -> None:
    with torch.device("meta"):
        first = build(Architecture(name, ("nir", "red"), 6))
        stored = json.dumps(first.architecture.as_json())
        again = build(Architecture.from_json(json.loads(stored)))
    assert again.architecture == first.architecture
    shapes = {key: value.shape for key, value in first.state_dict().items()}
    assert {key: value.shape for key, value in again.state_dict().items()} == shapes


def test_the_description_says_how_wide_the_head_is() -> None:
    network = build(Architecture("tiny", named(3), 6))
    assert isinstance(network.head, AllMlpHead)
    assert network.architecture.width == 64
    assert network.architecture.variant == ""
    assert build(Architecture("mobilenet-v2", named(3), 6)).architecture.variant == "tensorflow"


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"encoder": "resnet-50"}, "no encoder 'resnet-50'"),
        ({"head": "fcn"}, "no head 'fcn'"),
        ({"classes": 0}, "cannot have 0 classes"),
        ({"classes": 256}, "cannot have 256 classes"),
        ({"bands": []}, "cannot have 0 bands"),
        ({"width": -1}, "channels in the head"),
        ({"width": 10**9}, "channels in the head"),
        ({"depth": 3}, "unknown entries: depth"),
        ({"bands": [1, 2]}, "not of the kind"),
        ({"bands": "rgb"}, "not of the kind"),
        ({"classes": "6"}, "not of the kind"),
        ({"classes": True}, "not of the kind"),
        ({"encoder": None}, "not of the kind"),
    ],
)
def test_a_wrong_description_is_refused(wrong: dict[str, object], problem: str) -> None:
    right = Architecture("tiny", named(3), 6).as_json()
    with pytest.raises(ModelError, match=problem):
        Architecture.from_json(right | wrong)


def test_an_incomplete_description_is_refused() -> None:
    with pytest.raises(ModelError, match="lacks classes"):
        Architecture.from_json({"encoder": "tiny", "bands": ["a"]})


def test_descriptions_compare_by_what_they_say() -> None:
    one = Architecture("tiny", ("a", "b"), 3)
    assert one == Architecture.from_json(one.as_json())
    assert one != replace(one, classes=4)
    assert len({one, replace(one)}) == 1
