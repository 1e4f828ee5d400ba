"""Published weights into an encoder: all or nothing."""

import pytest
import torch
from rsseg_models.errors import ModelError
from rsseg_models.loading import load_encoder_weights
from rsseg_models.network import Architecture, build
from rsseg_models.stem import RGB, adapt_stem


def staged() -> dict[str, torch.Tensor]:
    """Weights as the staged file names them: ours, and a classifier."""
    torch.manual_seed(0)
    own = build(Architecture("mobilenet-v2", RGB, 2)).encoder.state_dict()
    return dict(own) | {"classifier.weight": torch.zeros(1)}


def test_the_stem_goes_by_band_name_and_the_rest_as_it_is() -> None:
    bands = ("nir", "blue", "green", "red")
    network = build(Architecture("mobilenet-v2", bands, 2))
    state = staged()
    loaded = load_encoder_weights(network, state, bands)
    own = network.encoder.state_dict()
    assert torch.equal(own["stem.weight"], adapt_stem(state["stem.weight"], bands))
    assert torch.equal(own["blocks.9.project.weight"], state["blocks.9.project.weight"])
    assert loaded.bands_by_mean == ("nir",)
    assert loaded.left_out == ("classifier.weight",)
    assert loaded.tensors == len(own)
    assert loaded.values == sum(value.numel() for value in own.values())


def test_three_bands_need_not_be_red_green_and_blue() -> None:
    bands = ("nir", "red", "green")
    network = build(Architecture("mobilenet-v2", bands, 2))
    state = staged()
    load_encoder_weights(network, state, bands)
    assert torch.equal(network.encoder.state_dict()["stem.weight"], adapt_stem(state["stem.weight"], bands))


def test_our_own_weights_come_back_as_they_were() -> None:
    bands = ("nir", "red", "green")
    first, second = (build(Architecture("tiny", bands, 2)) for _ in range(2))
    loaded = load_encoder_weights(second, first.encoder.state_dict(), bands)
    assert loaded.naming == "rsseg"
    assert all(torch.equal(a, b) for a, b in zip(first.encoder.parameters(), second.encoder.parameters(), strict=True))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"blocks.3.expand.weight": None}, r"missing: blocks\.3\.expand\.weight"),
        ({"blocks.17.expand.weight": torch.zeros(1)}, r"unknown: blocks\.17\.expand\.weight"),
        ({"blocks.3.project.bias": torch.zeros(7)}, r"another shape: blocks\.3\.project\.bias \(7,\) in place of"),
        ({"blocks.3.project.bias": torch.full((32,), torch.nan)}, r"not finite: blocks\.3\.project\.bias"),
        ({"stem.weight": torch.zeros(32, 5, 3, 3)}, r"another shape: stem\.weight"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(change: dict[str, torch.Tensor | None], problem: str) -> None:
    network = build(Architecture("mobilenet-v2", RGB, 2))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = {key: value for key, value in (staged() | change).items() if value is not None}
    with pytest.raises(ModelError, match=problem):
        load_encoder_weights(network, state, RGB)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_long_lists_are_cut() -> None:
    network = build(Architecture("mobilenet-v2", RGB, 2))
    state = {key: value for key, value in staged().items() if not key.endswith(".bias")}
    with pytest.raises(ModelError, match="and 46 more"):
        load_encoder_weights(network, state, RGB)


def test_every_band_has_a_name() -> None:
    network = build(Architecture("tiny", ("a", "b"), 2))
    with pytest.raises(ValueError, match="2 bands need as many names"):
        load_encoder_weights(network, network.encoder.state_dict(), ("a",))
