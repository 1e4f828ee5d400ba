import numpy as np
import pytest

from rsseg_cli.change.level import fit_level


def dates(share: float = 0.0, pixels: int = 40_000) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(before, after, steepness, where it changed) of pixels in another light; noise grows with steepness."""
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((3, 3))
    before = mix @ rng.standard_normal((3, pixels)) * 20 + 100
    steepness = rng.exponential(1, pixels)
    noise = np.sqrt(1 + 4 * steepness) * rng.standard_normal((3, pixels))
    after = np.array([[0.8], [1.3], [1.1]]) * before + np.array([[5], [-9], [40]]) + noise
    is_changed = np.arange(pixels) < share * pixels
    after[:, is_changed] = mix @ rng.standard_normal((3, is_changed.sum())) * 30 + 150
    return before.astype(np.float32), after.astype(np.float32), steepness.astype(np.float32), is_changed


def distance_of(before: np.ndarray, after: np.ndarray, steepness: np.ndarray) -> np.ndarray:
    images = (values[:, np.newaxis] for values in (before, after))
    return fit_level(before, after, steepness).distance(*images, steepness[np.newaxis])[0]


def test_where_nothing_changed_noise_explains_the_distance_flat_or_steep() -> None:
    before, after, steepness, _ = dates()
    distance = distance_of(before, after, steepness)
    medians = [np.median(distance[(steepness >= low) & (steepness < low + 0.5)]) for low in (0, 1, 2, 3)]
    assert medians == pytest.approx([1] * 4, rel=0.15)


@pytest.mark.parametrize("share", [0.001, 0.05, 0.3])
def test_changes_do_not_move_what_is_taken_for_no_change(share: float) -> None:
    before, after, steepness, is_changed = dates(share)
    distance = distance_of(before, after, steepness)
    assert np.median(distance[~is_changed]) == pytest.approx(1, rel=0.3)
    assert np.median(distance[is_changed]) > 4


def test_the_offset_is_that_of_what_did_not_change() -> None:
    before, after, steepness, is_changed = dates(0.3)
    level = fit_level(before, after, steepness)
    differences = level.left @ before - level.right @ after - level.offset[:, np.newaxis]
    spread = differences[:, ~is_changed].std(axis=1)
    assert (np.abs(np.median(differences[:, ~is_changed], axis=1)) < 0.1 * spread).all()


def test_bands_in_another_order_give_the_same_distance() -> None:
    before, after, steepness, _ = dates(0.1)
    order = [2, 0, 1]
    expected = distance_of(before, after, steepness)
    np.testing.assert_allclose(distance_of(before[order], after[order], steepness), expected, rtol=1e-3)


def test_the_same_date_twice_is_far_from_nothing_nowhere() -> None:
    before, _, steepness, _ = dates()
    assert distance_of(before, before, steepness).max() < 1e-2
