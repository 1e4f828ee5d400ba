import numpy as np
import pytest

from rsseg_cli.change.threshold import BINS, Noise, count, threshold


def distances(share: float, factor: float = 8.0, pixels: int = 200_000) -> tuple[np.ndarray, np.ndarray]:
    """What noise leaves, and changes a factor above it."""
    rng = np.random.default_rng(0)
    logarithms = rng.normal(0, 0.3, pixels)
    is_changed = np.arange(pixels) < share * pixels
    return np.exp(logarithms + np.log(factor) * is_changed).astype(np.float32), is_changed


def test_counts_of_parts_add_up_and_leave_out_nothing_that_is_there() -> None:
    values, _ = distances(0.1)
    whole = count(values)
    assert whole.shape == (BINS,)
    np.testing.assert_array_equal(count(values[:999]) + count(values[999:]), whole)
    assert count(np.array([np.nan, 0, 1e9, np.inf], np.float32)).sum() == 2


@pytest.mark.parametrize("share", [0.002, 0.01, 0.05, 0.3, 0.5])
def test_noise_is_what_lies_lowest_however_much_has_changed(share: float) -> None:
    noise = Noise.of(count(distances(share)[0]))
    assert noise.centre == pytest.approx(0, abs=0.1)
    assert noise.sigma == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize("share", [0.002, 0.01, 0.05, 0.3, 0.5])
def test_the_share_that_changed_is_met(share: float) -> None:
    values, is_changed = distances(share)
    found = values > threshold(count(values))
    assert found.mean() == pytest.approx(share, rel=0.3)
    assert (found & is_changed).sum() > 0.7 * is_changed.sum()


@pytest.mark.parametrize("sigma", [0.01, 0.1, 0.3, 0.6])
def test_where_nothing_changed_nothing_much_is_found(sigma: float) -> None:
    values = np.exp(np.random.default_rng(1).normal(0, sigma, 300_000)).astype(np.float32)
    assert (values > threshold(count(values))).mean() <= 0.01


def test_nothing_has_a_threshold_too() -> None:
    assert np.isfinite(threshold(count(np.full(9, np.nan, np.float32))))
