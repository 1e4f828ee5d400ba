"""Bundle: one file that holds all of a model, and refuses to open when it is not what it says."""

import json
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rsseg_models.network import Architecture, build
from safetensors import safe_open
from safetensors.torch import save_file

from rsseg_cli.bundle import Card, load_bundle, save_bundle
from rsseg_cli.classes import ClassScheme
from rsseg_cli.errors import RssegError
from rsseg_cli.model_file import SEAL, read_card, sealed
from rsseg_cli.normalisation import Normalisation


@pytest.fixture
def card() -> Card:
    scheme = ClassScheme.of_names([("forest", (311, 312), "#1a7f37"), ("water", (511,), None)])
    normalisation = Normalisation("robust", (0.1, 20.0), (1.5, 3.25))
    return Card(
        Architecture("tiny", ("red", "nir"), 2), scheme, normalisation, 0.5, "source-only", {"a": 1}, {"b": "c"}
    )


@pytest.fixture
def saved(tmp_path: Path, card: Card) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "m.safetensors"
    save_bundle(path, card, build(card.architecture))
    return path


def rewritten(path: Path, change: object, reseal: bool = True) -> Path:
    """The file with its header or tensors changed."""
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["rsseg"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(header, tensors)
    save_file(tensors, path, metadata={"rsseg": json.dumps(sealed(header) if reseal else header)})
    return path


def test_all_of_it_comes_back(saved: Path, card: Card) -> None:
    torch.manual_seed(0)
    network = build(card.architecture).eval()
    bundle = load_bundle(saved)
    assert bundle.card.scheme == card.scheme
    assert bundle.card.normalisation == card.normalisation
    assert (bundle.card.bands, bundle.card.gsd_m, bundle.card.method) == (("red", "nir"), 0.5, "source-only")
    values = torch.randn(1, 2, 64, 64)
    torch.testing.assert_close(bundle.network(values), network(values), rtol=0, atol=0)
    assert read_card(saved)["digest"] == bundle.digest


def test_the_temperature_comes_back_and_earlier_models_have_none(tmp_path: Path, card: Card) -> None:
    path = tmp_path / "m.safetensors"
    save_bundle(path, replace(card, temperature=1.75), build(card.architecture))
    assert load_bundle(path).card.temperature == read_card(path)["temperature"] == 1.75
    assert load_bundle(rewritten(path, lambda header, _: header.pop("temperature"))).card.temperature == 1.0


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), "warm", None])
def test_a_temperature_that_is_none_is_refused(saved: Path, value: object) -> None:
    with pytest.raises(RssegError, match="description is incomplete"):
        load_bundle(rewritten(saved, lambda header, _: header.update(temperature=value)))


def test_weights_that_changed_are_noticed(saved: Path) -> None:
    def nudge(_: dict, tensors: dict) -> None:
        tensors[next(iter(tensors))].flatten()[0] += 1e-3

    with pytest.raises(RssegError, match="not those it was saved with"):
        load_bundle(rewritten(saved, nudge))


def test_one_flipped_byte_is_noticed(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[-100] ^= 1
    saved.write_bytes(content)
    with pytest.raises(RssegError, match="damaged"):
        load_bundle(saved)


def test_truncated_text_pickle_and_missing(saved: Path, tmp_path: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-1000])
    text, evil = tmp_path / "t.safetensors", tmp_path / "p.safetensors"
    text.write_text("hello")
    evil.write_bytes(pickle.dumps({"a": print}))
    for path in (saved, text, evil):
        with pytest.raises(RssegError, match="is no rsseg model, or is damaged"):
            load_bundle(path)
    with pytest.raises(RssegError, match="no such file"):
        load_bundle(tmp_path / "none.safetensors")


def test_foreign_weights_and_newer_formats(saved: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "f.safetensors"
    save_file({"x": torch.zeros(3)}, foreign)
    with pytest.raises(RssegError, match="holds weights, but is no rsseg model"):
        load_bundle(foreign)
    with pytest.raises(RssegError, match="made by a newer rsseg"):
        load_bundle(rewritten(saved, lambda header, _: header.update(format=99)))


def test_weights_that_are_no_numbers(tmp_path: Path, card: Card) -> None:
    network = build(card.architecture)
    next(network.parameters()).data[0] = float("nan")
    with pytest.raises(RssegError, match="no numbers"):
        save_bundle(tmp_path / "nan.safetensors", card, network)
    assert not (tmp_path / "nan.safetensors").exists()


def test_an_incomplete_description(saved: Path) -> None:
    with pytest.raises(RssegError, match="incomplete"):
        load_bundle(rewritten(saved, lambda header, _: header.pop("classes")))


def test_an_encoder_that_needs_what_is_not_installed(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_other_encoder(header: dict, tensors: dict) -> None:
        header["architecture"] |= {"encoder": "transformers", "variant": '{"model_type": "resnet"}'}

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(RssegError, match="needs the package transformers") as refused:
        load_bundle(rewritten(saved, with_other_encoder))
    assert "rsseg[encoders]" in refused.value.hint


def test_a_description_that_was_changed_is_refused_and_one_without_a_seal_is_read(saved: Path) -> None:
    digest = load_bundle(saved).digest
    assert load_bundle(rewritten(saved, lambda header, _: header.pop(SEAL), reseal=False)).digest == digest
    sealed_again = rewritten(saved, lambda header, _: None)
    with pytest.raises(RssegError, match="its description is not the one it was saved with"):
        load_bundle(rewritten(sealed_again, lambda header, _: header.update(gsd_m=0.6), reseal=False))
