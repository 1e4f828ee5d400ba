"""How sure a model may be: known factors come back, with labels and without."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rsseg_models.network import Architecture
from torch import Tensor, nn

from rsseg_cli.adaptation import adapt
from rsseg_cli.bundle import load_bundle
from rsseg_cli.calibration import LEAST, MOST, Calibration, as_sure_as, calibrate, confidence, likeliest
from rsseg_cli.domain import Crops
from rsseg_cli.folders import find_scenes
from rsseg_cli.plan import Request, make_plan
from rsseg_cli.target import Target, open_target
from rsseg_cli.validation import Sample

SCENES = Path(__file__).parents[1] / "sample_scenes"


def honest(pixels: int = 40_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of four classes, and labels drawn with the probabilities that they say."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (pixels, 4)).astype(np.float32)
    return logits, (logits + rng.gumbel(size=logits.shape)).argmax(axis=1).astype(np.uint8)


def sample_of(logits: np.ndarray, places: np.ndarray) -> Sample:
    return Sample(1.0, [(logits, places)])


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_a_factor_that_is_known_comes_back_from_labels(factor: float) -> None:
    logits, places = honest()
    assert likeliest(logits * np.float32(factor), places) == pytest.approx(factor, rel=0.05)


def test_logits_as_large_as_can_be_are_no_trouble() -> None:
    logits, places = honest(1000)
    assert likeliest(logits * np.float32(1e30), places) == pytest.approx(MOST, rel=1e-3)
    assert np.isfinite(confidence(logits * np.float32(1e30), 1.0)).all()


def test_the_mean_confidence_becomes_the_accuracy() -> None:
    logits, _ = honest()
    for accuracy in (0.4, 0.6, 0.9):
        assert confidence(logits, as_sure_as(logits, accuracy)).mean() == pytest.approx(accuracy, abs=1e-3)
    assert (as_sure_as(logits, 0.1), as_sure_as(logits, 1.0)) == (MOST, LEAST)


class Says(nn.Module):
    """A network of three classes by brightness, which chance decides where it is grainy, the same way each time."""

    def __init__(self, grain: float, factor: float = 1.0) -> None:
        super().__init__()
        self.grain, self.factor = grain, factor
        self.architecture = Architecture("tiny", ("a", "b", "c", "d"), 3)

    def forward(self, bands: Tensor) -> Tensor:
        chance = torch.randn(bands[:, 0].shape, generator=torch.Generator().manual_seed(bands.shape[-1]))
        grey = bands.mean(1) + self.grain * chance
        return self.factor * torch.stack([-grey, torch.full_like(grey, 0.3), grey], dim=1)


@pytest.fixture(scope="module")
def target() -> Target:
    return open_target(find_scenes([str(SCENES / "target")]), None, "robust", Crops(crop_px=64))


def of_target(network: nn.Module, target: Target) -> Calibration:
    """Where nothing is known of the source."""
    return calibrate(network, Sample(1.0), target, "cpu")


def test_a_factor_that_is_known_comes_back_without_labels(target: Target) -> None:
    once, twice = (of_target(Says(0.3, factor), target) for factor in (5.0, 10.0))
    assert once.target is not None
    assert twice.target_accuracy == pytest.approx(once.target_accuracy)
    assert twice.target == pytest.approx(2 * once.target, rel=0.01)
    assert twice.temperature == twice.target


def test_a_map_that_changes_with_the_size_is_trusted_less(target: Target) -> None:
    firm, shaky = (of_target(Says(grain, 10.0), target) for grain in (0.0, 0.3))
    assert firm.target_accuracy > shaky.target_accuracy + 0.1
    assert firm.temperature < shaky.temperature


def test_new_ground_is_no_reason_to_be_surer() -> None:
    assert Calibration(0.5, 0.0).temperature == 0.5
    assert Calibration().temperature == 1.0
    assert Calibration(0.5, 0.0, 0.2, 0.9).temperature == 1.0
    assert Calibration(1.4, 0.0, 1.2, 0.9).temperature == 1.4
    assert Calibration(1.4, 0.0, 2.2, 0.9).temperature == 2.2


def test_new_ground_is_not_thought_easier_than_the_source(target: Target) -> None:
    logits, places = honest(4000)
    found = calibrate(Says(0.0, 10.0), sample_of(logits, places), target, "cpu")
    assert of_target(Says(0.0, 10.0), target).target_accuracy > 0.9
    assert found.target_accuracy == pytest.approx((logits.argmax(axis=1) == places).mean())


def test_where_nothing_is_held_back_nothing_is_corrected(target: Target, caplog) -> None:
    caplog.set_level("INFO")
    nothing = replace(target, held_back=[replace(held, patches=held.patches * 0) for held in target.held_back])
    found = calibrate(Says(0.0), Sample(1.0), nothing, "cpu")
    assert found == Calibration()
    assert "no ground of the target is held back" in caplog.text
    alone = calibrate(Says(0.0), sample_of(*honest()), None, "cpu")
    assert (alone.target, alone.temperature) == (None, pytest.approx(1.0, rel=0.05))
    assert alone.source_ece == pytest.approx(0, abs=0.02)


def test_a_model_carries_its_temperature(tmp_path: Path) -> None:
    request = Request(
        (str(SCENES / "source"),), (str(SCENES / "target"),), steps=3, crops=Crops(crop_px=64, batch=2, seed=3)
    )
    adapt(replace(request, method="source-only"), make_plan(request), tmp_path / "m.safetensors")
    card = load_bundle(tmp_path / "m.safetensors").card
    assert card.scores["calibration"]["temperature"] == card.temperature
    assert card.temperature >= max(1.0, card.scores["calibration"]["source_temperature"])
    assert 0 < card.scores["calibration"]["target_accuracy_expected"] <= 1
