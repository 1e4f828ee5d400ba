"""Extractors by name and weights: those that are named are those that compare."""

from pathlib import Path

import pytest
import torch
from rsseg_models.change_features import open_extractor
from rsseg_models.squeezenet import SqueezeNet
from safetensors.torch import save_file

from rsseg_cli.change.features import open_features
from rsseg_cli.change.methods import Choice
from rsseg_cli.errors import RssegError

RGB = ("red", "green", "blue")


@pytest.fixture
def weights(tmp_path: Path) -> str:
    torch.manual_seed(5)
    path = tmp_path / "squeezenet.safetensors"
    save_file(SqueezeNet().state_dict() | {"classifier.weight": torch.zeros(3)}, path)
    return str(path)


def same(one: object, other: object) -> bool:
    bands = torch.rand(1, 3, 16, 16)
    return all(torch.equal(a, b) for a, b in zip(one(bands), other(bands), strict=True))  # type: ignore[operator]


def test_none_are_opened_where_none_are_wanted() -> None:
    assert open_features(Choice(), RGB) is None
    assert open_features(Choice(encoder="none"), RGB) is None


def test_weights_are_those_of_the_file(weights: str, caplog: pytest.LogCaptureFixture) -> None:
    state = SqueezeNet().state_dict()
    with caplog.at_level("INFO", "rsseg_cli"):
        found = open_features(Choice(encoder="squeezenet", encoder_weights=weights), RGB)
    torch.manual_seed(5)
    state = SqueezeNet().state_dict()
    assert same(found, open_extractor("squeezenet", RGB, state))
    assert not same(found, open_extractor("squeezenet", RGB))
    assert caplog.text == ""


@pytest.mark.parametrize(("name", "is_said"), [("random", False), ("vgg16", True)])
def test_without_weights_the_seed_decides_and_it_is_said(
    name: str, is_said: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "rsseg_cli"):
        found = open_features(Choice(encoder=name, seed=4), RGB)
    assert same(found, open_extractor(name, RGB, seed=4))
    assert not same(found, open_extractor(name, RGB, seed=5))
    assert (f"{name} compares by random weights" in caplog.text) == is_said


@pytest.mark.parametrize(
    ("encoder", "file", "words"),
    [
        ("resnet", None, "no encoder 'resnet'"),
        ("vgg16", "squeezenet.safetensors", "the weights do not fit"),
        ("random", "squeezenet.safetensors", "random takes no weights"),
        (None, "squeezenet.safetensors", "of which encoder"),
        ("vgg16", "broken.safetensors", "damaged"),
        ("vgg16", "text.txt", "no such format"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(
    encoder: str | None, file: str | None, words: str, weights: str, tmp_path: Path
) -> None:
    for name in ("broken.safetensors", "text.txt"):
        (tmp_path / name).write_text("no tensors")
    path = str(tmp_path / file) if file else None
    with pytest.raises(RssegError, match=words):
        open_features(Choice(encoder=encoder, encoder_weights=path), RGB)
