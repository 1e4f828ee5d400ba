"""The Mix Transformer: counts, key maps, and the same numbers as transformers computes."""

from collections.abc import Callable

import pytest
import torch
from rsseg_models.errors import ModelError
from rsseg_models.loading import load_encoder_weights
from rsseg_models.mit import DROP_PATH, SIZES, DropPath, Mit, original_names, transformers_names
from rsseg_models.network import Architecture, build, count_parameters
from rsseg_models.stem import RGB
from torch import Tensor, nn


@pytest.mark.parametrize(("name", "count"), [("mit-b0", 3_319_392), ("mit-b5", 81_443_008)])
def test_parameter_counts_are_the_published_ones(name: str, count: int) -> None:
    with torch.device("meta"):
        assert count_parameters(Mit(SIZES[name], 3)) == count


@pytest.mark.parametrize("name", ["mit-b1", "mit-b2", "mit-b3", "mit-b4"])
def test_every_size_can_be_built(name: str) -> None:
    with torch.device("meta"):
        assert Mit(SIZES[name], 4).channels == (64, 128, 320, 512)


def as_original(state: dict[str, Tensor], depths: tuple[int, ...]) -> dict[str, Tensor]:
    return {
        f"{theirs[0]}.{kind}": state[f"{ours}.{kind}"]
        for ours, theirs in original_names(depths)
        for kind in ("weight", "bias")
        if f"{ours}.{kind}" in state
    }


def as_transformers(state: dict[str, Tensor], depths: tuple[int, ...]) -> dict[str, Tensor]:
    return {
        f"{name}.{kind}": part
        for ours, theirs in transformers_names(depths)
        for kind in ("weight", "bias")
        if f"{ours}.{kind}" in state
        for name, part in zip(theirs, state[f"{ours}.{kind}"].chunk(len(theirs)), strict=True)
    }


Rename = Callable[[dict[str, Tensor], tuple[int, ...]], dict[str, Tensor]]


@pytest.mark.parametrize(
    ("rename", "prefix", "naming", "sample"),
    [
        (as_original, "", "segformer", "block1.0.attn.kv.weight"),
        (as_original, "backbone.", "segformer", "backbone.patch_embed2.norm.bias"),
        (as_transformers, "", "transformers", "encoder.block.0.1.attention.self.value.bias"),
        (as_transformers, "segformer.", "transformers", "segformer.encoder.patch_embeddings.0.proj.weight"),
    ],
)
def test_published_names_lead_back_to_the_same_weights(rename: Rename, prefix: str, naming: str, sample: str) -> None:
    torch.manual_seed(0)
    own = Mit(SIZES["mit-b0"], 3)
    for parameter in own.parameters():
        nn.init.normal_(parameter)
    published = {prefix + key: value for key, value in rename(own.state_dict(), own.depths).items()}
    assert sample in published
    network = build(Architecture("mit-b0", RGB, 2))
    loaded = load_encoder_weights(network, published | {"head.weight": torch.zeros(1)}, RGB)
    assert (loaded.naming, loaded.left_out) == (naming, ("head.weight",))
    for key, value in own.state_dict().items():
        assert torch.equal(network.encoder.state_dict()[key], value), key


@pytest.mark.parametrize("rename", [as_original, as_transformers])
def test_weights_of_a_deeper_size_are_refused(rename: Rename) -> None:
    wide = Mit(SIZES["mit-b1"], 3).state_dict()
    deep = {"block1.2.norm1.weight": torch.zeros(64), "encoder.block.0.2.layer_norm_1.weight": torch.zeros(64)}
    network = build(Architecture("mit-b1", RGB, 2))
    with pytest.raises(ModelError, match=r"unknown: (block1|encoder\.block)"):
        load_encoder_weights(network, rename(wide, (2, 2, 2, 2)) | deep, RGB)


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(ModelError, match="no Mix Transformer"):
        Mit(SIZES["mit-b0"], 3).translate({"conv1.weight": torch.zeros(1)})


def test_drop_path_grows_from_nothing() -> None:
    rates = [module.rate for module in Mit(SIZES["mit-b2"], 3).modules() if isinstance(module, DropPath)]
    assert (rates[0], rates[-1]) == (0, pytest.approx(DROP_PATH))
    assert rates == sorted(rates)


def test_drop_path_keeps_the_mean_and_rests_when_predicting() -> None:
    torch.manual_seed(0)
    drop, ones = DropPath(0.25), torch.ones(4000, 1, 1)
    assert drop(ones).unique().tolist() == pytest.approx([0, 4 / 3])
    assert drop(ones).mean() == pytest.approx(1, abs=0.05)
    assert torch.equal(drop.eval()(ones), ones)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_features_are_those_of_transformers(tmp_path) -> None:
    transformers = pytest.importorskip("transformers")
    from rsseg_models.weights import read_weights

    torch.manual_seed(0)
    theirs = transformers.SegformerModel(transformers.SegformerConfig()).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.05)
    theirs.save_pretrained(tmp_path)
    network = build(Architecture("mit-b0", RGB, 2)).eval()
    load_encoder_weights(network, read_weights(tmp_path), RGB)
    image = torch.randn(2, 3, 64, 96)
    expected = theirs(image, output_hidden_states=True).hidden_states[-4:]
    for level, other in zip(network.levels(image), expected, strict=True):
        torch.testing.assert_close(level, other, atol=1e-5, rtol=1e-5)
