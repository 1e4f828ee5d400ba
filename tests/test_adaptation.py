"""Training through files: plans, settings, and runs that go on from a checkpoint."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from rsseg_cli import adaptation
from rsseg_cli.adaptation import Request, adapt, make_plan, parse_settings
from rsseg_cli.bundle import read_card
from rsseg_cli.errors import RssegError
from rsseg_cli.patches import Crops

SCENES = Path(__file__).parents[1] / "sample_scenes"
REQUEST = Request((str(SCENES / "source"),), steps=6, crops=Crops(side_px=64, batch=2, seed=3))


class Killed(BaseException):
    """As a SIGKILL would end it."""


def killing_after(steps: int):
    def track(reports: Iterable, label: str, total: int) -> Iterator:
        for report in reports:
            yield report
            if report.step == steps:
                raise Killed

    return track


@pytest.mark.parametrize("steps", [2, 5])
def test_a_killed_run_that_goes_on_gives_the_same_model(tmp_path: Path, monkeypatch, steps: int) -> None:
    monkeypatch.setattr(adaptation, "CHECKPOINT_EVERY", 1)
    plan = make_plan(REQUEST)
    adapt(REQUEST, plan, tmp_path / "whole.safetensors")
    halfway = Request(**{**vars(REQUEST), "workdir": tmp_path / "work"})
    with pytest.raises(Killed):
        adapt(halfway, plan, tmp_path / "later.safetensors", track=killing_after(steps))
    assert not (tmp_path / "later.safetensors").exists()
    adapt(Request(**{**vars(halfway), "resume": True}), plan, tmp_path / "later.safetensors")
    digests = [read_card(tmp_path / f"{name}.safetensors")["digest"] for name in ("whole", "later")]
    assert digests[0] == digests[1]
    assert not list((tmp_path / "work").iterdir())


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(adaptation, "CHECKPOINT_EVERY", 1)
    plan = make_plan(REQUEST)
    first = Request(**{**vars(REQUEST), "workdir": tmp_path})
    with pytest.raises(Killed):
        adapt(first, plan, tmp_path / "m.safetensors", track=killing_after(2))
    other = Request(**{**vars(first), "resume": True, "settings": {"learning_rate": "0.5"}})
    with pytest.raises(RssegError, match="belongs to a run with other inputs or settings"):
        adapt(other, plan, tmp_path / "m.safetensors")


def test_the_target_decides_normalisation_and_size_on_the_ground() -> None:
    source_alone, both = (
        make_plan(REQUEST),
        make_plan(Request(**{**vars(REQUEST), "targets": (str(SCENES / "target"),)})),
    )
    assert (source_alone.gsd_m, both.gsd_m) == (0.5, 0.8)
    assert both.targets == 3
    assert both.normalisation != both.domain.normalisations[0]
    assert source_alone.normalisation == source_alone.domain.normalisations[0]


def test_settings_are_typed_and_known() -> None:
    assert parse_settings(["a=1", "b = x"]) == {"a": "1", "b": "x"}
    with pytest.raises(RssegError, match="not of the form"):
        parse_settings(["learning_rate"])
    for settings, match in (
        ({"speed": "1"}, "no such setting"),
        ({"clip": "far"}, "not a float"),
        ({"precision": "float99"}, "not a precision"),
    ):
        with pytest.raises(RssegError, match=match):
            adapt(Request(**{**vars(REQUEST), "settings": settings}), make_plan(REQUEST), Path("never.safetensors"))
