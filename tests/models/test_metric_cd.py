"""metric-cd on tables of pixels: its losses, its generator, and when it stops learning."""

import copy
import inspect
import math
from dataclasses import replace

import pytest
import torch
from rsseg_models import metric_cd
from rsseg_models.errors import ModelError
from rsseg_models.metric_cd import (
    CHECK_EVERY,
    Generator,
    Known,
    MetricCd,
    Sample,
    Settings,
    consistency_loss,
    known_loss,
    learn,
    metric_loss,
)
from torch import Tensor

TOY_CHANGE, TOY_DISTANCE = torch.tensor([0.9, 0.2, 0.6, 0.4]), torch.tensor([2.0, 0.5, 1.0, 0.1])
LEVELS = 4


def known(pixels: int = 400, seed: int = 0, sign: float = 1.0) -> Known:
    """The first level alone tells what changed; the others are noise, the last of them far wider."""
    draw = torch.Generator().manual_seed(seed)
    changed = torch.rand(pixels, generator=draw) < 0.2
    levels = torch.randn(pixels, LEVELS, generator=draw)
    levels[:, 0] += sign * 3 * changed
    levels[:, -1] *= 50
    return Known(levels, changed)


def sample(kept_back: Known | None = None, restless: int | None = None) -> Sample:
    """With a level that another look at the same ground moves, if there is to be one."""
    real = known(seed=2)
    again = real.levels.clone()
    if restless is not None:
        again[:, restless] += 2 * torch.randn(len(again), generator=torch.Generator().manual_seed(3))
    return Sample(real.levels, real.levels[:, 0].exp(), again, known(), kept_back or known(seed=1))


# Losses.


def test_loss_of_four_pixels() -> None:
    found = float(metric_loss(TOY_CHANGE.logit(), TOY_DISTANCE))
    assert found == pytest.approx(0.115 - 0.6 + 0.2925 - 0.25, abs=1e-6)


def test_information_is_what_the_paper_writes() -> None:
    p = torch.rand(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a, b = torch.where(p > 0.5, p**2, 0).mean(), torch.where(p <= 0.5, (1 - p) ** 2, 0).mean()
    total = a.exp() + b.exp()
    written = (a.exp() / total).log() - (b.exp() / total).log()
    assert float(metric_loss(p.logit(), torch.zeros(1000))) == pytest.approx(float(written), abs=1e-7)


def test_equal_dates_are_best_called_unchanged() -> None:
    losses = [float(metric_loss(torch.full((9,), logit), torch.zeros(9))) for logit in (-20.0, -1.0, 0.0, 1.0, 20.0)]
    assert losses[0] == min(losses) == pytest.approx(-1)
    assert losses[-1] == max(losses) == pytest.approx(1)


def test_a_half_is_unchanged_and_decisions_pass_no_gradient() -> None:
    assert float(metric_loss(torch.zeros(1), torch.ones(1))) == pytest.approx(0.5 - 0.25)
    p, distance = torch.tensor([0.5, 0.9, 0.2]), torch.tensor([1.0, 3.0, 0.4])
    logit = p.logit().requires_grad_()
    metric_loss(logit, distance).backward()
    assert logit.grad is not None
    # d/dp of -p d + p^2 where changed, of q d - q^2 where not; times dp/dlogit, and nothing else.
    by_change = torch.tensor([-1 + 2 * 0.5, -3 + 2 * 0.9, -0.4 + 2 * 0.8]) / 3
    torch.testing.assert_close(logit.grad, by_change * p * (1 - p))


def test_what_is_near_is_drawn_unchanged_and_what_is_far_changed() -> None:
    """From the middle, free pixels go where the formula says: below a distance of 1 to 0, beyond 2 to 1."""
    distance = torch.tensor([0.3, 0.8, 2.2, 4.0])
    logit = torch.tensor([0.3, 0.3, -0.3, -0.3], requires_grad=True)
    descent = torch.optim.SGD([logit], lr=2.0)
    for _ in range(400):
        descent.zero_grad()
        metric_loss(logit, distance).backward()
        descent.step()
    assert (torch.sigmoid(logit) > 0.5).tolist() == [False, False, True, True]


def test_changed_and_unchanged_weigh_the_same() -> None:
    changed = torch.arange(100) == 0
    logit = torch.where(changed, 2.0, -1.0)
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))) / 2
    assert float(known_loss(logit, changed)) == pytest.approx(expected, abs=1e-6)
    assert float(known_loss(logit[1:], changed[1:])) == pytest.approx(math.log1p(math.exp(-1)), abs=1e-6)


def test_of_no_pixel_nothing_is_lost() -> None:
    logit = torch.zeros(0, requires_grad=True)
    loss = known_loss(logit, torch.zeros(0, dtype=torch.bool))
    loss.backward()
    assert float(loss.detach()) == 0


# The generator.


def test_before_anything_is_learned_all_levels_speak_alike() -> None:
    levels = known().levels
    network = Generator(LEVELS)
    network.standardise(levels)
    alike = (levels - levels.mean(dim=0)) / levels.std(dim=0)
    torch.testing.assert_close(network(levels).detach(), alike.mean(dim=1), atol=1e-5, rtol=0)


def test_a_level_that_is_the_same_everywhere_says_nothing() -> None:
    levels = known().levels
    levels[:, 1] = 7
    network = Generator(LEVELS)
    network.standardise(levels)
    assert network(levels).abs().max() < 100


def test_a_pixel_is_looked_at_by_itself() -> None:
    levels = known().levels
    network = Generator(LEVELS)
    network.standardise(levels)
    torch.testing.assert_close(network(levels[5:9]), network(levels)[5:9])


# Learning.


def test_the_level_that_tells_known_changes_comes_to_count() -> None:
    found = learn(sample(), Settings(steps=100))
    weights = found.network.linear.weight.detach()[0]
    assert weights[0] > 3 * weights[1:].max()
    held = known(seed=5)
    right = (found.network(held.levels) > 0) == held.changed
    assert right.float().mean() > 0.8


def test_what_is_farther_apart_never_speaks_against_change() -> None:
    contrary = known(sign=-1.0)
    found = learn(replace(sample(contrary), known=contrary), Settings(steps=100))
    assert found.steps > CHECK_EVERY
    assert (found.network.linear.weight >= 0).all()


def test_the_pair_as_it_is_has_a_say() -> None:
    alone, both = (learn(sample(), Settings(steps=20, metric=weight)).network for weight in (0.0, 2.0))
    assert not torch.equal(alone.linear.weight, both.linear.weight)


def test_it_stops_when_what_was_kept_back_is_told_no_better() -> None:
    """Which says the opposite of what is learned: the least error is that before the first step."""
    contrary = sample(known(seed=1, sign=-1.0))
    found = learn(contrary, Settings(steps=200, patience=2))
    assert (found.steps, found.stopped_by) == (2 * CHECK_EVERY, "no better")
    torch.testing.assert_close(found.network.linear.weight, Generator(LEVELS).linear.weight)


def test_the_best_state_is_kept_and_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    errors, seen = iter([5.0, 3.0, 4.0, 1.0, 2.0, 2.0, 0.5]), []

    def error(method: MetricCd) -> float:
        seen.append(copy.deepcopy(method.network.state_dict()))
        return next(errors)

    monkeypatch.setattr(MetricCd, "error", error)
    found = learn(sample(), Settings(steps=300, patience=2))
    assert (found.steps, found.stopped_by) == (5 * CHECK_EVERY, "no better")
    for name, value in found.network.state_dict().items():
        assert torch.equal(value, seen[3][name])
    assert not torch.equal(seen[3]["linear.weight"], seen[5]["linear.weight"])


def test_it_stops_when_it_is_late_or_done() -> None:
    late = learn(sample(), Settings(), is_late=lambda: True)
    assert (late.steps, late.stopped_by) == (CHECK_EVERY, "minutes")
    done = learn(sample(), Settings(steps=CHECK_EVERY + 5))
    assert (done.steps, done.stopped_by) == (CHECK_EVERY + 5, "steps")


def test_it_is_the_same_again_and_leaves_the_dice_alone() -> None:
    state = torch.get_rng_state()
    one = learn(sample(), Settings(steps=20), seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    assert torch.equal(one.network.linear.weight, learn(sample(), Settings(steps=20), seed=3).network.linear.weight)


def test_nothing_known_is_no_trouble() -> None:
    nothing = Known(torch.zeros(0, LEVELS), torch.zeros(0, dtype=torch.bool))
    for part in (replace(sample(), known=nothing), replace(sample(), kept_back=nothing)):
        assert learn(part, Settings(steps=20)).network(part.levels).isfinite().all()


def test_a_loss_that_is_no_number_is_said() -> None:
    broken = replace(sample(), distance=torch.full((400,), torch.nan))
    with pytest.raises(FloatingPointError):
        learn(broken, Settings(steps=2))


def test_no_truth_goes_in() -> None:
    """What is known to be changed was put there; the pair as it is comes without."""
    taken = [*inspect.signature(learn).parameters, *inspect.signature(metric_loss).parameters]
    assert taken == ["sample", "settings", "seed", "is_late", "logit", "distance"]
    assert list(Sample.__dataclass_fields__) == ["levels", "distance", "again", "known", "kept_back"]


@pytest.mark.parametrize(
    ("name", "value"), [("steps", 0), ("learning_rate", -1.0), ("trust", 101.0), ("patience", 0), ("known_share", 0.9)]
)
def test_settings_out_of_range_are_refused(name: str, value: object) -> None:
    with pytest.raises(ModelError, match=f"{name} = {value}"):
        replace(Settings(), **{name: value})


def test_tables_go_to_the_device() -> None:
    moved: list[Tensor] = [part.levels for part in sample().to("meta").parts]
    assert {table.device.type for table in moved} == {"meta"}
    assert metric_cd.Sample.to(sample(), "meta").distance.device.type == "meta"


# Another look at the same ground.


def test_looks_that_agree_cost_nothing() -> None:
    logit = torch.tensor([-2.0, 0.0, 3.0])
    assert float(consistency_loss(logit, logit)) == 0
    assert float(consistency_loss(torch.zeros(4), torch.tensor([0.0, 0.0, 100.0, -100.0]))) == pytest.approx(0.25)


def test_a_level_that_another_look_moves_counts_less() -> None:
    """Though it is the one that tells known changes."""
    weights = {}
    for restless in (None, 0, 1):
        for consistency in (0.0, 5.0):
            settings = Settings(steps=60, consistency=consistency)
            found = learn(sample(restless=restless), settings).network.folded()[0]
            weights[restless, consistency] = float(found[0])
    assert weights[0, 5.0] < 0.8 * weights[0, 0.0]
    assert weights[1, 5.0] == pytest.approx(weights[1, 0.0], rel=0.1)
    assert weights[None, 5.0] == pytest.approx(weights[None, 0.0], rel=1e-5)
