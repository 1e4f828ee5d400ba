"""Learning from the source alone; what holds for every head."""

from dataclasses import replace

import pytest
import torch
from rsseg_models.batch import Batch
from rsseg_models.errors import ModelError
from rsseg_models.network import HEADS, Architecture, build
from rsseg_models.optimise import optimise
from rsseg_models.source_only import Settings, SourceOnly, preference
from torch.nn.utils import parameters_to_vector

STEPS = 4


def adapter(head: str, settings: Settings | None = None) -> SourceOnly:
    torch.manual_seed(1)
    network = build(Architecture("tiny", ("red", "green"), 3, head, width=16))
    return SourceOnly(network, settings or Settings(average=0.9), STEPS)


def draw(number: int) -> Batch:
    generator = torch.Generator().manual_seed(number)
    bands = torch.randn(2, 2, 40, 72, generator=generator)
    labels = (bands[:, 0] > 0).long() + (bands[:, 1] > 0).long()
    return Batch(bands, torch.ones(2, 40, 72, dtype=torch.bool), labels)


@pytest.mark.parametrize("head", HEADS)
def test_what_is_kept_is_the_network_described(head: str) -> None:
    method = adapter(head)
    list(optimise(method, draw, STEPS, seed=0))
    again = build(method.network.architecture)
    assert again.state_dict().keys() == method.network.state_dict().keys()
    again.load_state_dict(method.network.state_dict())


@pytest.mark.parametrize("head", HEADS)
def test_a_run_that_goes_on_ends_with_the_same_weights(head: str) -> None:
    whole, first, later = adapter(head), adapter(head), adapter(head)
    list(optimise(whole, draw, STEPS, seed=0))
    for report in optimise(first, draw, STEPS, seed=0):
        if report.step == 2:
            break
    later.load_state_dict(first.state_dict())
    list(optimise(later, draw, STEPS, seed=0, first_step=2))
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, later.network.state_dict()[name]), name


def test_a_rate_that_does_not_fall_goes_further_at_the_end() -> None:
    def last_stride(fall: float) -> float:
        method = adapter("all-mlp", Settings(fall=fall, warm_up=0))
        reports = optimise(method, draw, STEPS, seed=0)
        weights = [parameters_to_vector(method.student.parameters()).detach() for _ in reports]
        return float((weights[-1] - weights[-2]).norm())

    assert last_stride(0.0) > 2 * last_stride(0.9)


def test_uper_learns_with_a_second_head_at_stride_16() -> None:
    method = adapter("uper")
    assert method.auxiliary is not None
    before = {name: value.clone() for name, value in method.auxiliary.state_dict().items()}
    (report, *_) = optimise(method, draw, STEPS, seed=0)
    assert set(report.losses) == {"source", "auxiliary"}
    assert report.losses["auxiliary"] == pytest.approx(torch.tensor(3.0).log().item(), abs=0.1)
    after = method.auxiliary.state_dict()
    assert not torch.equal(before["convolve.0.weight"], after["convolve.0.weight"])


def test_the_second_head_teaches_the_encoder() -> None:
    """With the weight at 0 it is not there, and the encoder ends elsewhere."""
    with_it, without = adapter("uper"), adapter("uper", Settings(average=0.9, auxiliary=0.0))
    assert without.auxiliary is None
    for method in (with_it, without):
        list(optimise(method, draw, 1, seed=0))
    deep = "encoder.stages.3.0.0.weight"
    assert torch.equal(with_it.student.state_dict()[deep], without.student.state_dict()[deep])  # beyond stride 16
    shallow = "encoder.stages.1.0.0.weight"
    assert not torch.equal(with_it.student.state_dict()[shallow], without.student.state_dict()[shallow])


def test_other_heads_learn_alone() -> None:
    method = adapter("all-mlp")
    assert method.auxiliary is None
    assert set(method.step(draw(0), 0)) == {"source"}


@pytest.mark.parametrize(
    "wrong",
    [{"learning_rate": -1.0}, {"average": 1.0}, {"warm_up": 2.0}, {"auxiliary": -0.1}, {"precision": "float99"}],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float | str]) -> None:
    with pytest.raises(ModelError, match=next(iter(wrong))):
        replace(Settings(), **wrong)


def test_preference_follows_the_shares_and_leaves_absent_classes_alone() -> None:
    found = preference(torch.tensor([0.8, 0.0, 0.2]))
    torch.testing.assert_close(found.flatten(), torch.tensor([1.0, 1.0, 0.25]).log())
    assert found.shape == (3, 1, 1)


def test_what_is_common_in_the_source_is_not_learned_as_such() -> None:
    """Bands that tell nothing: without balance the network says the frequent class, with all of it nearly nothing."""
    torch.manual_seed(0)
    labels = (torch.rand(4, 32, 32) < 0.2).long()
    batch = Batch(torch.zeros(4, 1, 32, 32), torch.ones(4, 32, 32, dtype=torch.bool), labels)
    gaps = []
    for balance in (0.0, 1.0):
        torch.manual_seed(1)
        network = build(Architecture("tiny", ("red",), 2, width=16))
        settings = Settings(average=0.0, balance=balance, learning_rate=0.02)
        method = SourceOnly(network, settings, 60, class_shares=torch.tensor([0.8, 0.2]))
        list(optimise(method, lambda _, batch=batch: batch, 60, seed=0))
        with torch.inference_mode():
            logits = method.network.eval()(batch.bands).mean(dim=(0, 2, 3))
        gaps.append(float(logits[0] - logits[1]))
    assert gaps[0] > 1.0
    assert abs(gaps[1]) < 0.3
