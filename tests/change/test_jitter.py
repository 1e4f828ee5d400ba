"""Another look at a date: a little different everywhere, and nothing where there is nothing."""

import numpy as np
from pairs import ground

from rsseg_cli.change.jitter import LIGHT, NOISE, again

SPREAD = 20.0


def looked(image: np.ndarray, seed: int = 0) -> np.ndarray:
    return again(image, np.full(len(image), SPREAD), np.random.default_rng(seed))


def test_it_is_the_same_ground_in_another_light() -> None:
    image = ground(64, 80, 4)
    found = looked(image)
    assert (found.shape, found.dtype) == (image.shape, np.float32)
    for one, other in zip(image, found, strict=True):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.9
        assert abs(float((other - one).mean())) < 1.2 * LIGHT * SPREAD
        assert (other - one).std() > 0.9 * NOISE * SPREAD


def test_chance_alone_decides() -> None:
    image = ground()
    np.testing.assert_array_equal(looked(image, 1), looked(image, 1))
    assert not np.array_equal(looked(image, 1), looked(image, 2))


def test_gaps_stay_and_values_in_them_do_not_matter() -> None:
    image = ground(64, 64)
    image[:, 20:30, 10:40] = np.nan
    found = looked(image)
    assert np.isnan(found[:, 21:29, 11:39]).all()
    assert np.isfinite(found[:, :19]).all()
    assert np.isfinite(found).mean() > 0.7
    assert np.isnan(looked(np.full_like(image, np.nan))).all()
