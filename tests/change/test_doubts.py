"""What is said of a pair and of what was found in it."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from rsseg_cli.change import doubts
from rsseg_cli.change.pair import Pair, open_pair
from rsseg_cli.change.shift import Shift

SURE = Shift(0.0, 0.0, 1.0)


def ground(seed: int) -> np.ndarray:
    return gaussian_filter(np.random.default_rng(seed).standard_normal((3, 200, 200)), (0, 2, 2)).astype(np.float32)


def pair_of(make_raster, before: np.ndarray, after: np.ndarray) -> Pair:
    return open_pair(str(make_raster("b.tif", before)), str(make_raster("a.tif", after)))


def test_likeness_is_blind_to_light_and_to_which_band_is_which(make_raster) -> None:
    before = ground(0)
    pair = pair_of(make_raster, before, -3 * before[::-1] + 7)
    assert doubts.likeness(pair) == pytest.approx(1, abs=1e-3)
    assert doubts.of_pair(pair, SURE) == []


def test_two_places_are_not_alike_and_a_third_of_change_is_no_matter(make_raster) -> None:
    before, other = ground(0), ground(1)
    assert "hardly resemble" in doubts.of_pair(pair_of(make_raster, before, other), SURE)[0]
    after = before.copy()
    after[:, :66] = other[:, :66]
    assert doubts.of_pair(pair_of(make_raster, before, after), SURE) == []


def test_a_shift_that_cannot_be_told_is_said(make_raster) -> None:
    pair = pair_of(make_raster, ground(0), ground(0) + 1)
    (doubt,) = doubts.of_pair(pair, Shift(3.0, 2.0, 0.25))
    assert "reliability 0.25" in doubt
    assert doubts.of_pair(pair, None) == []  # nobody asked for one


@pytest.mark.parametrize(
    ("share", "flagged", "words"),
    [
        (0, 0, "nothing has changed"),
        (0, 0.1, "--min-area"),
        (0.35, 0.35, "35%"),  # that much is found of a half, or more
        (1, 1, "100%"),
        (0.3, 0.4, None),
    ],
)
def test_nothing_and_everything_are_said(share: float, flagged: float, words: str | None) -> None:
    found = doubts.of_share(share, flagged)
    assert found == [] if words is None else words in found[0]
