"""Teachers of KTDA: what they are given to see, and which models can be one."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from rsseg_models.errors import ModelError
from rsseg_models.teachers import (
    IMAGENET,
    Teacher,
    described,
    of_colours,
    of_components,
    open_vision_transformer,
)
from torch import Tensor, nn

RGB = ("red", "green", "blue")


class Mirror(nn.Module):
    """Says what it sees: the mean colour of each token."""

    patch_px, width, (mean, std) = 8, 3, IMAGENET

    def forward(self, image: Tensor) -> list[Tensor]:
        return [nn.functional.avg_pool2d(image, self.patch_px)] * 4


# 1. Three channels of the bands.


def test_colours_are_found_by_name() -> None:
    composite = of_colours(("nir", "blue", "green", "red"), RGB, 0.25, 0.5)
    bands = torch.tensor([9.0, -1.0, 1.0, 0.0]).view(1, 4, 1, 1)
    assert composite(bands).flatten().tolist() == [0.5, 0.75, 0.25]
    assert composite(10 * bands).flatten().tolist() == [0.5, 1.0, 0.0]


def test_components_are_stretched_and_have_a_sign() -> None:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(5, 5, generator=generator)
    pixels = (torch.randn(50_000, 5, generator=generator) @ mixing + 2).double()
    mean, covariance = pixels.mean(0), pixels.T.cov()
    composite = of_components(mean.tolist(), covariance.tolist())
    found = composite(pixels.T.float().view(1, 5, 1, -1))[0, :, 0]
    low, high = found.quantile(torch.tensor([0.02, 0.98]), dim=1)
    torch.testing.assert_close(low, torch.zeros(3), atol=0.03, rtol=0)
    torch.testing.assert_close(high, torch.ones(3), atol=0.03, rtol=0)
    between = found.corrcoef().fill_diagonal_(0)
    assert between.abs().max() < 0.05
    assert all(sum(row) >= 0 for row in composite.factors)


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_bands_are_shown_again(count: int) -> None:
    composite = of_components([0.0] * count, torch.diag(torch.arange(1.0, count + 1)).tolist())
    assert len(composite.factors) == 3
    assert composite.factors[count] == composite.factors[0]


# 2. What a teacher is given.


def test_images_are_filled_up_to_whole_tokens_with_its_mean() -> None:
    teacher = Teacher(Mirror(), of_colours(RGB, RGB, 0.25, 0.5))
    lesson = teacher(torch.ones(2, 3, 20, 12), torch.ones(2, 20, 12, dtype=torch.bool))
    assert [level.shape for level in lesson.maps] == [(2, 3, 3, 2)] * 4
    mean, std = (torch.tensor(part) for part in IMAGENET)
    seen = (0.75 - mean) / std
    torch.testing.assert_close(lesson.maps[0][0, :, 0, 0], seen)
    torch.testing.assert_close(lesson.maps[0][0, :, 2, 1], seen / 4)
    assert lesson.valid.tolist() == [[[True, True], [True, True], [True, False]]] * 2


def test_what_is_not_valid_is_not_seen() -> None:
    teacher = Teacher(Mirror(), of_colours(RGB, RGB, 0.25, 0.5))
    valid = torch.ones(1, 16, 16, dtype=torch.bool)
    valid[:, :8] = False
    lesson = teacher(torch.randn(1, 3, 16, 16), valid)
    assert not lesson.maps[0][:, :, 0].any()
    assert lesson.valid.tolist() == [[[False, False], [True, True]]]


# 3. Models of transformers.


@pytest.fixture(scope="module")
def transformers() -> Any:
    return pytest.importorskip("transformers")


def small(transformers: Any, kind: str) -> Any:
    torch.manual_seed(0)
    size = {"hidden_size": 24, "num_hidden_layers": 8, "num_attention_heads": 2}
    if kind == "dinov2":
        return transformers.Dinov2Model(transformers.Dinov2Config(**size, mlp_ratio=2, image_size=42, patch_size=14))
    if kind == "registers":
        config = transformers.Dinov2WithRegistersConfig(**size, mlp_ratio=2, image_size=42, patch_size=14)
        return transformers.Dinov2WithRegistersModel(config)
    if kind == "vit":
        config = transformers.ViTConfig(**size, intermediate_size=48, image_size=32, patch_size=16)
        return transformers.ViTModel(config, add_pooling_layer=False)
    config = transformers.DINOv3ViTConfig(**size, intermediate_size=48, num_register_tokens=4, patch_size=16)
    return transformers.DINOv3ViTModel(config)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["dinov2", "registers", "dinov3", "vit"])
def test_a_folder_becomes_a_teacher(transformers: Any, tmp_path: Path, kind: str) -> None:
    model = small(transformers, kind).eval()
    model.save_pretrained(tmp_path)
    backbone = open_vision_transformer(str(tmp_path)).eval()
    side = backbone.patch_px
    assert (side, backbone.width, backbone.blocks) == (model.config.patch_size, 24, (1, 3, 5, 7))
    image = torch.randn(2, 3, 3 * side, 5 * side)
    maps = backbone(image)
    assert [level.shape for level in maps] == [(2, 24, 3, 5)] * 4
    options = {"interpolate_pos_encoding": True} if kind == "vit" else {}
    said = model(image, **options).last_hidden_state[:, -15:]
    torch.testing.assert_close(maps[-1], said.transpose(1, 2).unflatten(2, (3, 5)), atol=1e-5, rtol=1e-5)
    teacher = Teacher(backbone, of_colours(RGB, RGB, 0.25, 0.5))
    lesson = teacher(torch.randn(1, 3, 50, 70), torch.ones(1, 50, 70, dtype=torch.bool))
    assert lesson.maps[0].shape == (1, 24, -(-50 // side), -(-70 // side))
    assert described(teacher)["blocks"] == [1, 3, 5, 7]


@torch.no_grad()
def test_norms_of_the_depths(transformers: Any, tmp_path: Path) -> None:
    small(transformers, "dinov2").save_pretrained(tmp_path)
    image = torch.randn(1, 3, 42, 42)
    said = {
        norm: open_vision_transformer(str(tmp_path), (0, 2, 5, 7), norm).eval()(image)
        for norm in ("final", "published", "standardised")
    }
    assert torch.equal(said["published"][0], said["standardised"][0])
    assert torch.equal(said["published"][3], said["final"][3])
    assert not torch.equal(said["standardised"][3], said["final"][3])
    for level in said["final"]:
        torch.testing.assert_close(level.mean(1), torch.zeros(1, 3, 3), atol=1e-5, rtol=0)


def test_a_head_on_top_is_left_out(transformers: Any, tmp_path: Path) -> None:
    size = {"hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 2, "mlp_ratio": 2}
    config = transformers.Dinov2Config(**size, image_size=42, patch_size=14)
    transformers.Dinov2ForImageClassification(config).save_pretrained(tmp_path)
    assert open_vision_transformer(str(tmp_path)).blocks == (0, 1, 2, 3)


def test_colours_are_those_the_model_was_trained_on(transformers: Any, tmp_path: Path) -> None:
    small(transformers, "dinov3").save_pretrained(tmp_path)
    assert open_vision_transformer(str(tmp_path)).mean == IMAGENET[0]
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_mean": [0.43, 0.41, 0.3], "image_std": [0.2, 0.2, 0.1]}'
    )
    found = open_vision_transformer(str(tmp_path))
    assert (found.mean, found.std) == ((0.43, 0.41, 0.3), (0.2, 0.2, 0.1))


@pytest.mark.parametrize("kind", ["ConvNext", "Swin", "Bert"])
def test_models_without_tokens_are_refused(transformers: Any, tmp_path: Path, kind: str) -> None:
    options = {
        "ConvNext": {"hidden_sizes": [8, 16, 24, 32], "depths": [1] * 4},
        "Swin": {"embed_dim": 12, "depths": [1] * 4, "num_heads": [1, 2, 3, 6], "window_size": 4},
        "Bert": {"hidden_size": 8, "num_hidden_layers": 4, "num_attention_heads": 2, "vocab_size": 9},
    }[kind]
    config = getattr(transformers, f"{kind}Config")(**options)
    getattr(transformers, f"{kind}Model")(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no vision transformer with a token for each patch") as caught:
        open_vision_transformer(str(tmp_path))
    assert "hf download" in caught.value.hint


def test_a_model_that_lacks_weights_is_refused(transformers: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    small(transformers, "dinov2").save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    kept = {name: value for name, value in load_file(path).items() if "layer.3." not in name}
    save_file(kept, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="lacks"):
        open_vision_transformer(str(tmp_path))


@pytest.mark.parametrize("blocks", [(1, 2, 3), (0, 1, 2, 99), (-1, 1, 2, 3)])
def test_blocks_that_are_not_there_are_refused(transformers: Any, tmp_path: Path, blocks: tuple[int, ...]) -> None:
    small(transformers, "dinov2").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="teacher_blocks"):
        open_vision_transformer(str(tmp_path), blocks)


def test_a_folder_that_holds_no_model_is_refused(transformers: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be had from this folder") as caught:
        open_vision_transformer(str(tmp_path))
    assert "config.json" in caught.value.hint
    assert "--teacher none" in caught.value.hint


def test_without_a_network_an_id_is_refused(transformers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rsseg_models.teachers.at_hand_or_fetched", lambda get, name: get(name, download=False))
    with pytest.raises(ModelError, match="the teacher nobody/no-such-model cannot be had") as caught:
        open_vision_transformer("nobody/no-such-model")
    assert "hf download" in caught.value.hint


def test_without_the_package_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModelError, match=r"the teacher .* needs the package transformers") as caught:
        open_vision_transformer(str(tmp_path))
    assert "rsseg[encoders]" in caught.value.hint
