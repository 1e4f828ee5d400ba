"""Choosing without labels."""

import math
from pathlib import Path

import pytest
import torch
from rsseg_models.network import Architecture, build
from torch import Tensor, nn

from rsseg_cli.domain import Crops
from rsseg_cli.folders import find_scenes
from rsseg_cli.selection import TELLING, Candidates, Judge, Outlook, Way, least_doubtful, overlap
from rsseg_cli.target import open_target

AS_IT_IS = Way("none")
TARGET = str(Path(__file__).parents[1] / "sample_scenes" / "target")


class Says(nn.Module):
    """A network of three classes that says what a function of the bands is."""

    def __init__(self, logits) -> None:
        super().__init__()
        self.logits = logits
        self.architecture = Architecture("tiny", ("a", "b", "c", "d"), 3)

    def forward(self, bands: Tensor) -> Tensor:
        return self.logits(bands)


def by_brightness(noise: float = 0.0):
    """Classes by the mean of the bands; and how much chance comes in."""

    def logits(bands: Tensor) -> Tensor:
        grey = bands.mean(1) + noise * torch.randn(
            bands[:, 0].shape, generator=torch.Generator().manual_seed(bands.shape[-1])
        )
        return torch.stack([-grey, torch.full_like(grey, 0.3), grey], dim=1)

    return Says(logits)


def one_class() -> Says:
    return Says(lambda bands: torch.tensor([0.0, 1.0, 0.0])[:, None, None].expand(len(bands), 3, *bands.shape[-2:]))


@pytest.fixture
def judge() -> Judge:
    target = open_target(find_scenes([TARGET]), None, "robust", Crops(crop_px=64))
    return Judge(target, {"none": target.normalisation}, "cpu", 0)


def test_a_map_that_holds_together_wins_over_one_of_chance(judge: Judge) -> None:
    firm, shaky = judge.score(by_brightness(), AS_IT_IS), judge.score(by_brightness(1.0), AS_IT_IS)
    assert 0.4 < firm <= 1
    assert shaky < firm - 0.1


def test_a_collapsed_candidate_loses(judge: Judge) -> None:
    judge.expect(by_brightness(0.5), AS_IT_IS)
    assert judge.score(one_class(), AS_IT_IS) <= 1 / 3 + 1e-6
    assert judge.score(by_brightness(0.5), AS_IT_IS) > 0.34


def test_a_source_only_that_has_collapsed_is_no_measure(judge: Judge) -> None:
    assert judge.score(one_class(), AS_IT_IS) == 1
    judge.expect(one_class(), AS_IT_IS)
    judge.expect(by_brightness(0.5), AS_IT_IS)  # the same target, seen in another way
    assert judge.score(one_class(), AS_IT_IS) <= 1 / 3 + 1e-6


def test_scores_are_the_same_each_time(judge: Judge) -> None:
    network = build(Architecture("tiny", ("a", "b", "c", "d"), 3)).eval()
    assert judge.score(network, AS_IT_IS) == judge.score(network, AS_IT_IS)


def test_overlap_counts_each_class_for_itself() -> None:
    found = overlap(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1]), 3)
    torch.testing.assert_close(found, torch.tensor([1 / 2, 2 / 3, 0.0]))


class TestChoice:
    """The latest of those that are not far below the best."""

    def chosen(self, *scores: float) -> Candidates:
        candidates = Candidates()
        for step, score in enumerate(scores):
            candidates.offer(step, AS_IT_IS, score, nn.Linear(1, 1))  # type: ignore[arg-type]
        return candidates

    def test_what_falls_far_is_not_taken(self) -> None:
        candidates = self.chosen(0.5, 0.7, 0.4)
        assert (candidates.best, candidates.has_learned) == (1, True)
        assert candidates.to_json()["verdict"] == "adapted"

    def test_of_two_not_far_apart_the_later_is_kept(self) -> None:
        assert self.chosen(0.5, 0.7, 0.7 - TELLING / 2).best == 2

    def test_source_only_is_kept_where_nothing_comes_near(self) -> None:
        candidates = self.chosen(0.8, 0.5, 0.6)
        assert not candidates.has_learned
        assert candidates.to_json() == {
            "rule": "consistency",
            "step": 0,
            "match": "none",
            "target_norms": 0.0,
            "score": 0.8,
            "source_only_score": 0.8,
            "verdict": "source-only kept",
        }

    def test_source_only_seen_in_another_way_is_taken_where_it_is_better(self) -> None:
        candidates = Candidates()
        for way, score in ((AS_IT_IS, 0.5), (Way("coral", target_norms=1.0), 0.51)):
            candidates.offer(0, way, score, nn.Linear(1, 1))  # type: ignore[arg-type]
        assert candidates.match == "coral"
        assert not candidates.has_learned
        assert candidates.to_json() == {
            **{"rule": "consistency", "step": 0, "match": "coral", "target_norms": 1.0, "score": 0.51},
            **{"source_only_score": 0.5, "verdict": "adapted"},
        }


def test_an_outlook_is_of_what_is_held_back(judge: Judge) -> None:
    halves = Says(lambda bands: 50 * torch.stack([bands[:, 0], -bands[:, 0], torch.full_like(bands[:, 0], -9)], dim=1))
    torn = Says(lambda bands: torch.zeros(len(bands), 3, *bands.shape[-2:]))
    sure = judge.outlook(halves, AS_IT_IS)
    assert sure.doubt < 0.1
    assert 0.5 < sure.told < math.log(2) + 1e-4
    for says_nothing in (one_class(), torn):
        outlook = judge.outlook(says_nothing, AS_IT_IS)
        assert outlook.doubt == pytest.approx(1, abs=1e-3)
        assert outlook.told == pytest.approx(0, abs=1e-4)
    assert judge.outlook(torn, AS_IT_IS).unsure == pytest.approx(math.log(3), rel=1e-4)


class TestWays:
    """How the target is to be seen."""

    MATCHED, OTHER = Way("mean-std"), Way("coral")

    def test_the_least_doubtful_is_taken_where_that_is_clear(self) -> None:
        outlooks = {AS_IT_IS: Outlook(0.5, 1.0), self.MATCHED: Outlook(0.4, 1.0), self.OTHER: Outlook(0.3, 1.0)}
        assert least_doubtful(outlooks) == self.OTHER

    def test_else_the_first_is(self) -> None:
        outlooks = {AS_IT_IS: Outlook(0.5, 1.0), self.MATCHED: Outlook(0.45, 1.0)}
        assert least_doubtful(outlooks) == AS_IT_IS

    def test_what_is_sure_of_hardly_more_than_one_class_is_not_taken(self) -> None:
        outlooks = {AS_IT_IS: Outlook(0.001, 0.05), self.MATCHED: Outlook(0.3, 0.7), self.OTHER: Outlook(0.28, 0.68)}
        assert least_doubtful(outlooks) == self.OTHER
        assert least_doubtful({AS_IT_IS: Outlook(0.1, 0.1)}) == AS_IT_IS


def test_ways_in_words() -> None:
    assert str(AS_IT_IS) == "as it is"
    assert str(Way("coral", target_norms=1.0)) == "with its bands matched by coral, with norms of its own"
    assert str(Way("none", target_norms=0.5)) == "as it is, with norms 50% of its own"
    assert (AS_IT_IS.short, Way("coral", target_norms=0.5).short) == ("none", "coral_norms50")
