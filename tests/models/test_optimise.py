"""The loop: schedules, averages, and runs that go on as if never interrupted."""

import pytest
import torch
from rsseg_models.batch import Batch
from rsseg_models.network import Architecture, build
from rsseg_models.optimise import Average, Descent, Report, Schedule, optimise, typical_seconds
from rsseg_models.source_only import Settings, SourceOnly
from torch import nn

STEPS = 6


def adapter() -> SourceOnly:
    torch.manual_seed(1)
    network = build(Architecture("tiny", ("red", "green"), 3))
    return SourceOnly(network, Settings(average=0.9), STEPS)


def draw(number: int) -> Batch:
    generator = torch.Generator().manual_seed(number)
    bands = torch.randn(2, 2, 32, 32, generator=generator)
    labels = (bands[:, 0] > 0).long() + (bands[:, 1] > 0).long()
    return Batch(bands, torch.ones(2, 32, 32, dtype=torch.bool), labels)


def test_losses_fall_and_reports_count() -> None:
    reports = list(optimise(adapter(), draw, STEPS, seed=0))
    assert [report.step for report in reports] == [1, 2, 3, 4, 5, 6]
    assert reports[-1].losses["source"] < reports[0].losses["source"]


@pytest.mark.parametrize("stopped", [1, 4])
def test_a_run_that_goes_on_ends_with_the_same_weights(stopped: int) -> None:
    whole = adapter()
    list(optimise(whole, draw, STEPS, seed=0))
    first = adapter()
    for report in optimise(first, draw, STEPS, seed=0):
        if report.step == stopped:
            break
    later = adapter()
    later.load_state_dict(first.state_dict())
    list(optimise(later, draw, STEPS, seed=0, first_step=stopped))
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, later.network.state_dict()[name]), name


def test_a_loss_that_is_no_number_stops_the_run() -> None:
    def broken(number: int) -> Batch:
        batch = draw(number)
        return Batch(batch.bands * float("nan"), batch.valid, batch.labels)

    with pytest.raises(FloatingPointError, match="step 1"):
        list(optimise(adapter(), broken, STEPS, seed=0))


def test_a_gradient_that_is_no_number_changes_no_weight() -> None:
    part = nn.Linear(2, 1)
    descent, before = Descent([(part, 1e-3)], Schedule(10, 0), 0.1, 1.0), part.weight.detach().clone()
    loss = (part(torch.ones(1, 2)) * 0).sqrt().sum()  # 0, and the root is infinitely steep there
    with pytest.raises(FloatingPointError, match="a gradient is no number any more at step 8"):
        descent.minimise(loss, 7)
    assert torch.equal(part.weight, before)


@pytest.mark.parametrize("spoilt", ["student", "network"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_network_that_is_spoilt_is_not_reported(spoilt: str, value: float) -> None:
    method, reports = adapter(), list[int]()
    really = method.step

    def step(batch: Batch, number: int) -> dict[str, torch.Tensor]:
        losses = really(batch, number)
        if number == 2:
            next(getattr(method, spoilt).buffers())[:] = value
        return losses

    method.step = step  # type: ignore[method-assign]
    with pytest.raises(FloatingPointError, match=r"no number any more at step (3|4)$"):
        reports.extend(report.step for report in optimise(method, draw, STEPS, seed=0))
    assert reports in ([1, 2], [1, 2, 3])


def test_the_rate_rises_and_falls() -> None:
    factors = [Schedule(100, 10, 1.0).factor(number) for number in range(100)]
    assert factors[0] == pytest.approx(1 / 11)
    assert max(factors) == factors[10] == pytest.approx(0.9)
    assert factors[-1] == pytest.approx(0.01)


def test_biases_and_norms_do_not_decay() -> None:
    part = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    descent = Descent([(part, 1e-3)], Schedule(10, 0), 0.1, 1.0)
    decay = {p.ndim > 1: group["weight_decay"] for group in descent.optimiser.param_groups for p in group["params"]}
    assert decay == {True: 0.1, False: 0.0}


def test_the_average_is_the_plain_mean_at_first() -> None:
    """From 0 towards a constant 1: k / (k + 1) after k updates, until the momentum takes over."""
    student, average = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.ones_(student.weight)
    nn.init.zeros_(average.weight)
    ema = Average(student, average, 0.999)
    seen = {}
    for number in range(1500):
        ema.update(number)
        seen[number + 1] = float(average.weight)
    for updates in (1, 2, 9, 99):
        assert seen[updates] == pytest.approx(updates / (updates + 1), rel=1e-4)
    assert seen[1500] == pytest.approx(0.999394, abs=1e-5)


def test_a_typical_step_is_the_median_without_the_first() -> None:
    seconds = [90.0, 1.0, 5.0, 1.2, 1.1]
    reports = [Report(step, {}, took) for step, took in enumerate(seconds, 1)]
    assert typical_seconds(reports, enough_s=100) == pytest.approx(1.15)
    assert typical_seconds(iter(reports), enough_s=4) == pytest.approx(3.0)
