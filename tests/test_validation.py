"""What is known of held-back ground: figures of all of it, logits of a part."""

from pathlib import Path

import pytest
import torch

from rsseg_cli import validation
from rsseg_cli.domain import Crops, Domain
from rsseg_cli.plan import Request, make_plan
from rsseg_cli.validation import validate

SCENES = Path(__file__).parents[1] / "sample_scenes"


@pytest.fixture(scope="module")
def domain() -> Domain:
    return make_plan(Request((str(SCENES / "source"),), crops=Crops(crop_px=64))).domain


def by_band(bands: torch.Tensor) -> torch.Tensor:
    """Six classes out of four bands."""
    return torch.cat([bands, -bands[:, :2]], dim=1)


def test_little_ground_is_sampled_whole(domain: Domain) -> None:
    figures, sample = validate(by_band, domain)
    assert sample.logits.shape == (figures["pixels"], 6)
    assert (sample.logits.argmax(axis=1) == sample.places).mean() == pytest.approx(figures["accuracy"])


def test_of_much_ground_a_part_is_kept(domain: Domain, monkeypatch) -> None:
    whole, _ = validate(by_band, domain)
    monkeypatch.setattr(validation, "MOST_SAMPLED", 2000)
    figures, sample = validate(by_band, domain)
    assert figures == whole
    assert len(sample.places) == pytest.approx(2000, rel=0.1)
    assert (sample.logits.argmax(axis=1) == sample.places).mean() == pytest.approx(figures["accuracy"], abs=0.05)
