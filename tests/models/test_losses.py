"""Cross-entropy over labelled pixels."""

import math

import pytest
import torch
from rsseg_models.losses import NO_LABEL, cross_entropy

# Two classes; the logits say class 1 with probability 3/4 everywhere.
LOGITS = torch.tensor([0.0, math.log(3)]).reshape(1, 2, 1, 1).expand(1, 2, 2, 2)
RIGHT, WRONG = math.log(4 / 3), math.log(4)


def labels(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.uint8).reshape(1, 2, 2)


def test_it_is_the_mean_over_labelled_pixels() -> None:
    assert cross_entropy(LOGITS, labels(1, 1, 0, NO_LABEL)).item() == pytest.approx((2 * RIGHT + WRONG) / 3)


def test_unlabelled_pixels_change_nothing() -> None:
    few = cross_entropy(LOGITS[:, :, :1], labels(1, 0, 0, 0)[:, :1])
    assert cross_entropy(LOGITS, labels(1, 0, NO_LABEL, NO_LABEL)).item() == pytest.approx(few.item())


def test_weights_are_divided_by_pixels_and_not_by_weights() -> None:
    doubled = cross_entropy(LOGITS, labels(1, 1, 0, NO_LABEL), torch.tensor([3.0, 2.0]))
    assert doubled.item() == pytest.approx((2 * 2 * RIGHT + 3 * WRONG) / 3)


def test_a_pixel_counts_by_its_weight() -> None:
    weights = torch.tensor([0.5, 0.0, 2.0, math.nan]).reshape(1, 2, 2)
    weighted = cross_entropy(LOGITS, labels(1, 1, 0, NO_LABEL), pixel_weights=weights)
    assert weighted.item() == pytest.approx((0.5 * RIGHT + 2 * WRONG) / 3)


def test_nothing_labelled_is_zero_with_a_gradient() -> None:
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = cross_entropy(logits, labels(*[NO_LABEL] * 4), torch.ones(3))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.abs().max() == 0


def test_half_precision_is_summed_in_full() -> None:
    half = cross_entropy(LOGITS.bfloat16(), labels(1, 1, 0, 0))
    assert half.dtype == torch.float32


def test_each_class_needs_its_weight() -> None:
    with pytest.raises(ValueError, match="2 classes need as many weights"):
        cross_entropy(LOGITS, labels(0, 0, 0, 0), torch.ones(3))
