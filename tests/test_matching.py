"""A target seen as the source."""

import numpy as np
import pytest

from rsseg_cli.matching import MATCHES, Moments, matched
from rsseg_cli.normalisation import Normalisation

PLAIN = Normalisation("robust", (10.0, 20.0, 0.0), (2.0, 5.0, 1.0))


def pixels(seed: int) -> np.ndarray:
    """(band, y, x), bands that go together."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(0, 0.4, (3, 3)) @ rng.normal(0, 1, (3, 4000)) + rng.normal(0, 1, (3, 1))
    return mixed.reshape(3, 40, 100)


def stored(standardised: np.ndarray) -> np.ndarray:
    """Values that PLAIN makes these of."""
    centres, spreads = (np.array(v)[:, None, None] for v in (PLAIN.centres, PLAIN.spreads))
    return (standardised * spreads + centres).astype(np.float32)


def moments(values: np.ndarray) -> Moments:
    flat = values.reshape(3, -1)
    return Moments(flat.mean(axis=1), np.cov(flat, ddof=0))


def seen(rule: str, target: np.ndarray, source: np.ndarray) -> np.ndarray:
    return matched(PLAIN, rule, moments(target), moments(source)).apply(stored(target))


def test_after_coral_the_target_has_the_sources_mean_and_covariance() -> None:
    found, wanted = moments(seen("coral", pixels(1), pixels(2))), moments(pixels(2))
    np.testing.assert_allclose(found.covariance, wanted.covariance, atol=1e-4)
    np.testing.assert_allclose(found.mean, wanted.mean, atol=1e-4)


def test_mean_std_matches_each_band_and_keeps_how_they_go_together() -> None:
    target = pixels(1)
    found, wanted = moments(seen("mean-std", target, pixels(2))), moments(pixels(2))
    np.testing.assert_allclose(found.covariance.diagonal(), wanted.covariance.diagonal(), atol=1e-4)
    np.testing.assert_allclose(found.mean, wanted.mean, atol=1e-4)
    deviations = np.sqrt(found.covariance.diagonal())
    correlations = found.covariance / np.outer(deviations, deviations)
    np.testing.assert_allclose(correlations, np.corrcoef(target.reshape(3, -1)), atol=1e-4)


@pytest.mark.parametrize("rule", MATCHES)
def test_where_a_band_is_missing_there_is_nothing(rule: str) -> None:
    target = pixels(1)
    values = stored(target)
    values[1, :5] = np.nan
    found = matched(PLAIN, rule, moments(target), moments(pixels(2))).apply(values)
    assert np.isfinite(found).all()
    assert not found[:, :5].any()
    np.testing.assert_array_equal(found[:, 5:], seen(rule, target, pixels(2))[:, 5:])


@pytest.mark.parametrize("rule", MATCHES)
def test_a_band_that_says_nothing_does_no_harm(rule: str) -> None:
    flat = pixels(1)
    flat[1] = 0.0
    found = seen(rule, flat, pixels(2))
    assert np.abs(found).max() < 100


def test_a_file_keeps_it() -> None:
    found = matched(PLAIN, "coral", moments(pixels(1)), moments(pixels(2)))
    assert Normalisation.from_json(found.to_json()) == found
    assert "factors" not in PLAIN.to_json()
    assert Normalisation.from_json(PLAIN.to_json()) == PLAIN


def test_batches_are_matched_as_single_scenes_are() -> None:
    rule = matched(PLAIN, "coral", moments(pixels(1)), moments(pixels(2)))
    values = stored(pixels(3))
    np.testing.assert_allclose(rule.apply(np.stack([values, values]))[1], rule.apply(values), atol=1e-6)
