import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from rsseg_cli.change.threshold import BINS, Cut, Noise, Rule, count, threshold
from rsseg_cli.errors import RssegError


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


def surrounded(share: float) -> tuple[np.ndarray, np.ndarray]:
    """Distances averaged over octaves of surroundings: what lies around patches of change stands out as well."""
    rng, is_changed = np.random.default_rng(0), np.zeros((400, 400), bool)
    while is_changed.mean() < share:
        (row, col), (height, width) = rng.integers(0, 360, 2), rng.integers(12, 40, 2)
        is_changed[row : row + height, col : col + width] = True
    noise = np.exp(rng.normal(0, 0.6, is_changed.shape))
    raw = np.where(is_changed, noise * rng.uniform(8, 40, is_changed.shape), noise)
    return np.mean([gaussian_filter(raw, scale) for scale in (1, 2, 4, 8)], axis=0).astype(np.float32), is_changed


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.4, 0.5, 0.6])
def test_what_lies_around_changes_is_not_taken_for_noise(share: float) -> None:
    values, is_changed = surrounded(share)
    found = values > threshold(count(values))
    assert Noise.of(count(values)).centre < 0.5
    assert found.mean() == pytest.approx(is_changed.mean(), rel=0.35)
    assert 2 * (found & is_changed).sum() / (found.sum() + is_changed.sum()) > 0.8


@pytest.mark.parametrize("sigma", [0.01, 0.1, 0.3, 0.6])
def test_where_nothing_changed_nothing_much_is_found(sigma: float) -> None:
    values = np.exp(np.random.default_rng(1).normal(0, sigma, 300_000)).astype(np.float32)
    assert (values > threshold(count(values))).mean() <= 0.01


def test_nothing_has_a_threshold_too() -> None:
    assert np.isfinite(threshold(count(np.full(9, np.nan, np.float32))))


@pytest.mark.parametrize("rule", ["otsu", "kittler"])
@pytest.mark.parametrize("pixels", [400, 100_000])
def test_two_equal_groups_are_parted_in_the_middle(rule: Rule, pixels: int) -> None:
    rng = np.random.default_rng(2)
    logarithms = np.concatenate([rng.normal(-2, 0.5, pixels), rng.normal(2, 0.5, pixels)])
    assert np.log(threshold(count(np.exp(logarithms).astype(np.float32)), rule)) == pytest.approx(0, abs=0.1)


def test_minimum_error_goes_nearer_to_the_narrow_group_and_otsu_does_not() -> None:
    rng = np.random.default_rng(2)
    logarithms = np.concatenate([rng.normal(-1, 0.2, 50_000), rng.normal(2, 0.8, 50_000)])
    counts = count(np.exp(logarithms).astype(np.float32))
    # The two laws are equally likely at -0.33, as their densities say.
    assert np.log(threshold(counts, "kittler")) == pytest.approx(-0.33, abs=0.1)
    assert np.log(threshold(counts, "otsu")) > 0.2


@pytest.mark.parametrize("share", [0, 0.02, 0.3])
@pytest.mark.parametrize("sigma", [0.25, 0.6])
def test_null_flags_a_hundredth_of_what_did_not_change(share: float, sigma: float) -> None:
    rng = np.random.default_rng(3)
    unchanged, changes = rng.normal(0, sigma, 300_000), rng.normal(4, sigma, int(300_000 * share))
    found = threshold(count(np.exp(np.concatenate([unchanged, changes])).astype(np.float32)), "null")
    assert (np.exp(unchanged) > found).mean() == pytest.approx(0.01, rel=0.5)


@pytest.mark.parametrize("rule", ["auto", "otsu", "kittler", "null"])
@pytest.mark.parametrize("value", [np.nan, 0.0, 3.0])
def test_every_rule_has_an_answer_where_there_is_little_to_ask(rule: Rule, value: float) -> None:
    assert np.isfinite(threshold(count(np.full(9, value, np.float32)), rule))


def test_a_cut_is_a_rule_or_a_score() -> None:
    assert Cut.of("kittler") == Cut("kittler")
    assert Cut.of("0.3") == Cut.of(0.3) == Cut(score=0.3, is_given=True)
    for text in ("much", "0", "1", "nan", "-0.5", "2"):
        with pytest.raises(RssegError, match="auto, otsu, kittler, null nor a score between 0 and 1"):
            Cut.of(text)
