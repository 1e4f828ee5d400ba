"""Backbones of the optional package transformers."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from rsseg_models.errors import ModelError
from rsseg_models.loading import load_encoder_weights, open_encoder
from rsseg_models.network import Architecture, build
from rsseg_models.stem import RGB, adapt_stem
from rsseg_models.transformers_encoder import fetch_backbone, find_weights


def test_without_the_package_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModelError, match="not installed") as caught:
        build(Architecture("transformers", RGB, 2, variant='{"model_type": "convnext"}'))
    assert "rsseg[encoders]" in caught.value.hint


def test_networks_are_built_without_importing_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    build(Architecture("tiny", RGB, 2))


@pytest.fixture(scope="module")
def transformers() -> Any:
    return pytest.importorskip("transformers")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Checked by the package when it is first imported, hence the argument local_files_only in every call as well.
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def small(transformers: Any, kind: str) -> Any:
    """The kinds of network that have four levels, small enough for a test."""
    torch.manual_seed(0)
    if kind == "convnext":
        config = transformers.ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1])
        return transformers.ConvNextForImageClassification(config)
    if kind == "swin":
        config = transformers.SwinConfig(embed_dim=12, depths=[1, 1, 1, 1], num_heads=[1, 2, 3, 6], window_size=4)
        return transformers.SwinForImageClassification(config)
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1])
    return transformers.ResNetForImageClassification(config)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["convnext", "swin", "resnet"])
def test_a_local_folder_becomes_an_encoder_for_any_bands(transformers: Any, tmp_path: Path, kind: str) -> None:
    small(transformers, kind).save_pretrained(tmp_path)
    variant, state = fetch_backbone(str(tmp_path), download=False)
    bands = ("nir", "red", "green", "blue")
    network = build(Architecture("transformers", bands, 3, variant=variant)).eval()
    loaded = load_encoder_weights(network, state, bands)
    assert loaded.bands_by_mean == ("nir",)
    key = network.encoder.stem_key
    assert torch.equal(network.encoder.state_dict()[key], adapt_stem(state[key], bands))
    assert network(torch.randn(1, 4, 64, 90)).shape == (1, 3, 64, 90)
    again = build(Architecture.from_json(json.loads(json.dumps(network.architecture.as_json())))).eval()
    again.load_state_dict(network.state_dict())
    image = torch.randn(1, 4, 64, 64)
    assert torch.equal(again(image), network(image))


@torch.no_grad()
def test_rgb_features_are_those_of_the_published_model(transformers: Any, tmp_path: Path) -> None:
    published = small(transformers, "resnet").eval()
    published.save_pretrained(tmp_path)
    variant, state = fetch_backbone(str(tmp_path), download=False)
    network = build(Architecture("transformers", RGB, 3, variant=variant)).eval()
    load_encoder_weights(network, state, RGB)
    image = torch.randn(1, 3, 64, 64)
    expected = published(image, output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(network.levels(image)[-1], expected, atol=1e-5, rtol=1e-5)


def test_a_backbone_with_other_strides_is_refused(transformers: Any) -> None:
    config = {"model_type": "dinov2", "hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 2}
    with pytest.raises(ModelError, match="strides"):
        build(Architecture("transformers", RGB, 2, variant=json.dumps(config | {"patch_size": 16})))


@pytest.mark.parametrize(
    "variant",
    ["", "{", '{"model_type": "no-such"}', '{"model_type": "bert"}', "[1]", '{"model_type": "timm_backbone"}'],
)
def test_a_variant_that_is_no_backbone_is_refused(transformers: Any, variant: str) -> None:
    with pytest.raises(ModelError, match="backbone"):
        build(Architecture("transformers", RGB, 2, variant=variant))


@pytest.mark.usefixtures("offline")
def test_what_is_not_at_hand_is_refused(transformers: Any, tmp_path: Path) -> None:
    for name in ("nobody/no-such-model", str(tmp_path)):
        with pytest.raises(ModelError, match="cannot be had"):
            fetch_backbone(name, download=False)
        with pytest.raises(ModelError, match="cannot be had"):
            find_weights(name, download=False)


def test_a_folder_with_a_pickle_only_is_refused(transformers: Any, tmp_path: Path) -> None:
    model = small(transformers, "resnet")
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot be had"):
        fetch_backbone(str(tmp_path), download=False)


def test_weights_of_a_folder_are_found(transformers: Any, tmp_path: Path) -> None:
    small(transformers, "resnet").save_pretrained(tmp_path)
    assert find_weights(str(tmp_path), download=False) == tmp_path / "model.safetensors"


def test_an_encoder_named_by_its_folder_brings_its_weights(transformers: Any, tmp_path: Path) -> None:
    small(transformers, "resnet").save_pretrained(tmp_path)
    name, variant, weights = open_encoder(str(tmp_path))
    assert name == "transformers"
    network = build(Architecture(name, RGB, 2, variant=variant))
    assert weights is not None
    load_encoder_weights(network, weights, RGB)
    key = "backbone.encoder.stages.0.layers.0.layer.0.convolution.weight"
    assert torch.equal(network.encoder.state_dict()[key], weights[key])


def test_a_folder_of_another_kind_is_refused_as_what_it_is(transformers: Any, tmp_path: Path) -> None:
    config = transformers.SegformerConfig(depths=[1] * 4, hidden_sizes=[8] * 4, num_attention_heads=[1] * 4)
    transformers.SegformerModel(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="is no backbone with feature maps") as caught:
        open_encoder(str(tmp_path))
    assert "mit-b0 to mit-b5" in caught.value.hint
