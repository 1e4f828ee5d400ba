"""Published weights into an encoder: all or nothing."""

import sys
from pathlib import Path

import pytest
import torch
from rsseg_models.errors import ModelError
from rsseg_models.loading import at_hand_or_fetched, inherit, load_encoder_weights, open_encoder, open_weights
from rsseg_models.network import Architecture, build
from rsseg_models.stem import RGB, adapt_stem
from safetensors.torch import save_file


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


def state_of(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


def test_an_earlier_network_of_the_same_classes_goes_on_whole() -> None:
    earlier, network = (build(Architecture("tiny", RGB, 4)) for _ in range(2))
    assert inherit(network, earlier, [0, 1, 2, 3])
    assert all(torch.equal(value, earlier.state_dict()[key]) for key, value in network.state_dict().items())


def test_classes_find_their_own_weights_and_new_ones_start_anew() -> None:
    earlier, network = build(Architecture("tiny", RGB, 3)), build(Architecture("tiny", RGB, 4))
    before = state_of(network)
    assert inherit(network, earlier, [2, None, 0, None])
    for part in ("classifier.1.weight", "classifier.1.bias"):
        ours, theirs = network.head.state_dict()[part], earlier.head.state_dict()[part]
        assert torch.equal(ours[[0, 2]], theirs[[2, 0]])
        assert torch.equal(ours[[1, 3]], before[f"head.{part}"][[1, 3]])
    assert torch.equal(network.head.state_dict()["fuse.0.weight"], earlier.head.state_dict()["fuse.0.weight"])


def test_another_head_starts_anew() -> None:
    earlier, network = build(Architecture("tiny", RGB, 3)), build(Architecture("tiny", RGB, 3, "uper"))
    before = state_of(network.head)
    assert not inherit(network, earlier, [0, 1, 2])
    assert all(torch.equal(before[key], value) for key, value in network.head.state_dict().items())
    assert all(
        torch.equal(a, b) for a, b in zip(network.encoder.parameters(), earlier.encoder.parameters(), strict=True)
    )


def test_encoders_go_by_name_and_unknown_ones_are_refused() -> None:
    assert open_encoder("mit-b0") == ("mit-b0", "", None)
    for name in ("mit-b9", "transformers", ""):
        with pytest.raises(ModelError, match="there is no encoder") as caught:
            open_encoder(name)
        assert "tiny, mobilenet-v2, mit-b0" in caught.value.hint


def test_a_model_id_needs_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    for open_it in (open_encoder, open_weights):
        with pytest.raises(ModelError, match=r"someone/something .*needs the package transformers"):
            open_it("someone/something")


@pytest.mark.parametrize("is_here", [True, False])
def test_what_is_here_is_not_fetched(is_here: bool) -> None:
    asked: list[bool] = []

    def get(name: str, *, download: bool) -> str:
        asked.append(download)
        if not is_here and not download:
            raise ModelError("not here", "fetch it")
        return name

    assert at_hand_or_fetched(get, "someone/something") == "someone/something"
    assert asked == ([False] if is_here else [False, True])


def test_a_folder_is_never_looked_for_elsewhere(tmp_path: Path) -> None:
    def get(name: str, *, download: bool) -> str:
        assert not download
        raise ModelError("holds no model", "give one")

    with pytest.raises(ModelError, match="holds no model"):
        at_hand_or_fetched(get, str(tmp_path))


def test_files_and_folders_win_over_model_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "someone" / "something").mkdir(parents=True)
    save_file({"a": torch.ones(1)}, tmp_path / "someone" / "something" / "model.safetensors")
    assert set(open_weights("someone/something")) == {"a"}
