"""Levels of distance: the same for any window, of what both dates hold, blind to light."""

import numpy as np
import pytest
from pairs import changed, ground, later, pair_of
from rasterio.windows import Window

from rsseg_cli.change.distance import HALO_PX, fit_distance
from rsseg_cli.change.levels import NEAR_ZERO, Levels, open_levels
from rsseg_cli.change.methods import Choice
from rsseg_cli.change.pair import Pair

ENCODERS = [None, "random", "mobilenet-v2"]
CLASSICAL = 4
OF_FEATURES = 3


def drawn(height: int = 64, width: int = 64, bands: int = 3) -> Pair:
    before = ground(height, width, bands)
    return pair_of(before, changed(later(before))[0])


def levels_of(pair: Pair, encoder: str | None) -> Levels:
    return open_levels(Choice(encoder=encoder), pair, fit_distance(pair), "cpu")


def features_of(pair: Pair, encoder: str = "random") -> np.ndarray:
    return levels_of(pair, encoder).of(*pair.read())[1][CLASSICAL:]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_classical_distance_is_that_of_its_own_method(encoder: str | None) -> None:
    pair = drawn()
    levels = levels_of(pair, encoder)
    classical, found = levels.of(*pair.read())
    np.testing.assert_allclose(classical, levels.base.distance(*pair.read()), rtol=1e-4)
    assert found.shape == (CLASSICAL + (OF_FEATURES if encoder else 0), 64, 64)
    np.testing.assert_allclose(np.mean(np.exp(found[:CLASSICAL]) - NEAR_ZERO, axis=0), classical, atol=1e-4, rtol=1e-4)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_window_with_its_halo_is_cut_out_of_the_whole(encoder: str | None) -> None:
    pair = drawn(120, 136)
    levels = levels_of(pair, encoder)
    halo = levels.halo_px
    assert halo >= HALO_PX
    assert halo % 4 == 0
    wholes = levels.of(*pair.read())
    for row, col in ((48, 48), (0, 100), (88, 52)):
        top, left = max(0, row - halo), max(0, col - halo)
        bottom, right = min(120, row + 32 + halo), min(136, col + 32 + halo)
        parts = levels.of(*pair.read(Window(left, top, right - left, bottom - top)))
        for whole, part in zip(wholes, parts, strict=True):
            inner = part[..., row - top : row - top + 32, col - left : col - left + 32]
            expected = whole[..., row : row + 32, col : col + 32]
            np.testing.assert_allclose(inner, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("size", [(16, 16), (17, 38), (31, 22)])
def test_odd_sizes_have_a_level_for_each_pixel(encoder: str | None, size: tuple[int, int]) -> None:
    found = levels_of(drawn(*size), encoder).of(*drawn(*size).read())[1]
    assert found.shape[1:] == size
    assert np.isfinite(found).all()


@pytest.mark.parametrize("bands", [1, 2, 7])
def test_any_number_of_bands(bands: int) -> None:
    found = features_of(drawn(40, 40, bands))
    assert np.isfinite(found).all()


@pytest.mark.parametrize("encoder", ["random", "mobilenet-v2"])
def test_features_are_far_apart_where_something_changed(encoder: str) -> None:
    before = ground(64, 64)
    after, truth = changed(later(before))
    found = features_of(pair_of(before, after), encoder)
    for level in found:
        assert level[truth].mean() > level[~truth].mean()


def test_features_of_equal_dates_are_no_distance_apart() -> None:
    pair = pair_of(ground(64, 64), ground(64, 64))
    np.testing.assert_allclose(features_of(pair), np.log(NEAR_ZERO), atol=1e-3)


@pytest.mark.parametrize("gain", [0.5, 40.0])
def test_light_and_units_leave_the_features(gain: float) -> None:
    """Each date is scaled by its own bright and dark."""
    before = ground(64, 64)
    after = changed(later(before))[0]
    plain, other = features_of(pair_of(before, after)), features_of(pair_of(before, after * gain + 100))
    np.testing.assert_allclose(plain, other, atol=2e-3)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_gap_is_felt_no_farther_than_the_halo(encoder: str | None) -> None:
    pair = drawn(64, 100)
    levels = levels_of(pair, encoder)
    before, after = pair.read()
    _, plain = levels.of(before, after)
    before[:, 40:60, :30] = after[:, 40:60, :30] = np.nan
    classical, found = levels.of(before, after)
    assert np.isnan(classical[40:60, :30]).all()
    assert np.isfinite(found[:, np.isfinite(classical)]).all()
    beyond = 30 + levels.halo_px
    np.testing.assert_allclose(found[..., beyond:], plain[..., beyond:], rtol=1e-4, atol=1e-4)
