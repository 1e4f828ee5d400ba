"""Several ways to see a target: each has a trial, and the better one goes on."""

import copy
import logging
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rsseg_cli import training
from rsseg_cli.adaptation import prepare
from rsseg_cli.domain import Crops
from rsseg_cli.plan import Request, make_plan
from rsseg_cli.progress import untracked
from rsseg_cli.selection import Way
from rsseg_cli.training import Learned, Run
from rsseg_cli.work import TARGET_NORMS, Pace, Work, trial_steps

SCENES = Path(__file__).parents[1] / "sample_scenes"
REQUEST = Request(
    (str(SCENES / "source"),),
    (str(SCENES / "target" / "karst_1.tif"),),
    method="self-training",
    match="none",
    steps=8,
    crops=Crops(crop_px=64, batch=2, seed=3),
    settings={"source.steps": 3, "precision": "float32", "source.precision": "float32"},
)
HALF, WHOLE = (Way("none", part) for part in TARGET_NORMS)
TRIAL = 2  # steps, of 8
PACE = Pace((3, 8), (0.0, 0.0))


@pytest.fixture(autouse=True)
def short_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "trial_steps", lambda steps: min(steps, TRIAL))


@pytest.fixture(scope="module")
def work() -> Work:
    return prepare(REQUEST, make_plan(REQUEST))


def scores(monkeypatch: pytest.MonkeyPatch, better: Way) -> None:
    """One way seems the better one."""

    def score(judge: object, network: object, way: Way) -> float:
        return 0.6 if way == better else 0.5

    monkeypatch.setattr("rsseg_cli.selection.Judge.score", score)


def learned(work: Work) -> Learned:
    return Run(work, PACE).learn(untracked, math.inf, lambda run: None)


def same(one: Learned, other: Learned) -> bool:
    ours, theirs = one.network.state_dict(), other.network.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_the_way_that_scores_better_after_its_trial_goes_on_as_if_there_were_no_other(
    work: Work, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    found = {}
    for better in (HALF, WHOLE):
        scores(monkeypatch, better)
        found[better] = learned(work)
        assert f"after {TRIAL} steps each: seen {better}, score 0.600" in caplog.text
        assert f"step {TRIAL} of 8, seen {better}: " in caplog.text
        with monkeypatch.context() as patch:
            patch.setattr(Work, "ways", lambda self, match, better=better: (better,))
            alone = learned(work)
        assert same(found[better], alone)
        assert found[better].candidates.scores == alone.candidates.scores
        assert {entry["target_norms"] for entry in alone.candidates.scores[1:]} == {better.target_norms}
    assert not same(found[HALF], found[WHOLE])


def test_a_run_goes_on_from_any_place_of_the_trials(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_EVERY", 1)
    saved = []
    whole = Run(work, PACE).learn(untracked, math.inf, lambda run: saved.append(copy.deepcopy(run.state_dict())))
    assert {(bool(state["rival"]), len(state["untried"])) for state in saved} == {(False, 0), (False, 1), (True, 0)}
    for state in saved[4::3]:
        run = Run(work, PACE)
        run.load_state_dict(state)
        again = run.learn(untracked, math.inf, lambda run: None)
        assert same(whole, again)
        assert again.candidates.scores == whole.candidates.scores


def test_where_time_is_up_during_the_second_trial_the_first_way_is_what_there_is(
    work: Work, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scores(monkeypatch, WHOLE)
    labels = []

    def slow(reports: Iterable, label: str, total: int) -> Iterator:
        labels.append((label, total))
        if len(labels) == 3:  # source-only, the first way, the second
            monkeypatch.setattr(time, "monotonic", lambda: math.inf)
        yield from reports

    deadline = time.monotonic() + 1000
    found = Run(work, PACE).learn(slow, deadline, lambda run: None)
    assert labels == [("source-only", 3), ("self-training, on trial", TRIAL), ("self-training, on trial", TRIAL)]
    assert found.pace.steps == (3, TRIAL)
    assert found.candidates.scores[-1]["target_norms"] == HALF.target_norms
    assert f"no time to try the target seen {WHOLE} as well" in caplog.text
    assert f"stopped after step {TRIAL} of 8" in caplog.text


@pytest.mark.parametrize(
    ("changed", "ways"),
    [
        ({}, (HALF, WHOLE)),
        ({"encoder": "mobilenet-v2"}, (Way("none"),)),
        (
            {
                "sources": (str(SCENES / "series" / "source"),),
                "targets": (str(SCENES / "series" / "target"),),
                "method": "da-stc",
            },
            (Way("none"),),
        ),
    ],
)
def test_there_are_ways_where_an_encoder_of_single_scenes_has_norms(changed: dict, ways: tuple[Way, ...]) -> None:
    request = replace(REQUEST, **changed)
    work = prepare(request, make_plan(request))
    assert work.ways("none") == ways
    alone = work.settled(work.network, Way("none"))
    assert alone is work.network


def test_trials_cost_time() -> None:
    assert Pace((10, 4000), (1.0, 2.0), scoring_s=5.0).seconds == 8015
    with_trial = Pace((10, 4000), (1.0, 2.0), scoring_s=5.0, others=1)
    assert trial_steps(4000) == 1000
    assert with_trial.seconds == 10015
    assert (with_trial.seconds_from(1), with_trial.seconds_from(2)) == (10000, 0)
    assert with_trial.within(20000) == with_trial
    less = with_trial.within(1000)
    assert 900 < less.seconds_from(0) <= 1000
    assert less.steps[1] / less.steps[0] == pytest.approx(400, rel=0.6)
    assert with_trial.within(0).steps == (1, 1)


def test_few_steps_tell_nothing() -> None:
    assert [trial_steps(n) for n in (1, 160, 480, 1440, 8000)] == [1, 160, 360, 360, 2000]
