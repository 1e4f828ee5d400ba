"""What goes with which method, said before anything is opened."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from rsseg_cli import detect_change
from rsseg_cli.change.choosing import OPTIMISED, check_choice
from rsseg_cli.change.methods import Choice, Method
from rsseg_cli.errors import RssegError

PAPER = Choice("metric-cd-paper")
GIVEN = {
    "steps": ("--steps", 5),
    "minutes": ("--minutes", 1.0),
    "encoder": ("--encoder", "vgg16"),
    "encoder_weights": ("--encoder-weights", "w.pth"),
    "settings": ("--set", {"cc": "false"}),
    "device": ("--device", "cpu"),
}


@pytest.mark.parametrize("method", get_args(Method))
def test_every_method_can_be_chosen_without_more(method: Method) -> None:
    check_choice(Choice(method), "auto")
    check_choice(Choice(method), 0.4)


@pytest.mark.parametrize("method", sorted(set(get_args(Method)) - set(OPTIMISED)))
@pytest.mark.parametrize("name", GIVEN)
def test_options_without_a_use_are_refused(method: Method, name: str) -> None:
    option, value = GIVEN[name]
    with pytest.raises(RssegError, match=f"^{option}: {method} compares by statistics") as refused:
        check_choice(replace(Choice(method), **{name: value}), "auto")
    assert "leave it out, or use --method metric-cd" in refused.value.hint


def test_all_that_have_no_use_are_named_at_once() -> None:
    with pytest.raises(RssegError, match=r"^--steps, --encoder: cva") as refused:
        check_choice(Choice("cva", "vgg16", steps=3), "auto")
    assert "leave them out" in refused.value.hint


def test_options_with_a_use_are_taken(tmp_path: Path) -> None:
    (tmp_path / "w.pth").touch()
    check_choice(
        Choice("metric-cd-paper", "vgg16", str(tmp_path / "w.pth"), {"cc": "no"}, 5, 1.0, device="cpu"), "auto"
    )
    check_choice(replace(PAPER, encoder_weights="someone/something"), "auto")


@pytest.mark.parametrize("rule", ["otsu", "kittler", "null"])
def test_a_score_on_its_own_scale_follows_no_rule(rule: str) -> None:
    with pytest.raises(RssegError, match=f"--threshold {rule}: metric-cd-paper has no use for a rule"):
        check_choice(PAPER, rule)
    check_choice(Choice("cva"), rule)


@pytest.mark.parametrize("threshold", ["0.6", 0.6, "auto"])
def test_a_number_is_a_threshold_for_it(threshold: str | float) -> None:
    check_choice(PAPER, threshold)


@pytest.mark.parametrize("minutes", [0.0, -1.0, float("nan")])
def test_no_time_is_refused(minutes: float) -> None:
    with pytest.raises(RssegError, match="--minutes"):
        check_choice(replace(PAPER, minutes=minutes), "auto")


@pytest.mark.parametrize("name", ["w.pth", "weights/w.pth", "three/parts/of"])
def test_weights_that_are_not_there_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RssegError, match=f"{name}: no such file or folder"):
        check_choice(replace(PAPER, encoder_weights=name), "auto")


def test_the_function_refuses_the_same_before_it_opens_a_file() -> None:
    with pytest.raises(RssegError, match="--steps, --set: ir-mad"):
        detect_change("missing.tif", "missing.tif", method="ir-mad", steps=5, settings={"cc": False})
    with pytest.raises(RssegError, match="--threshold otsu"):
        detect_change("missing.tif", "missing.tif", method="metric-cd-paper", threshold="otsu")
