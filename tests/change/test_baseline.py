"""Sentinel-2's constant between processing baselines is said, and nothing else is taken for it."""

import numpy as np
import pytest
from scipy import ndimage

from rsseg_cli.change.baseline import note_offset
from rsseg_cli.change.pair import Pair, open_pair


def reflectance(seed: int = 0) -> np.ndarray:
    """Four bands of dark and bright ground."""
    rough = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(4, 200, 200)), (0, 4, 4))
    return np.clip(1200 + 9000 * rough, 150, 8000)


@pytest.fixture
def pair(make_raster):
    def make(before: np.ndarray, after: np.ndarray, dtype: str = "uint16") -> Pair:
        paths = [make_raster(f"{n}.tif", values.astype(dtype)) for n, values in enumerate((before, after))]
        return open_pair(*map(str, paths))

    return make


def test_the_offset_is_said_whichever_date_has_it(pair, caplog) -> None:
    old, new = reflectance(), 0.9 * reflectance(1) + 1050
    assert note_offset(pair(old, new)) == pytest.approx(1000, abs=150)
    assert "1.tif holds values about 1000 higher than" in caplog.text
    caplog.clear()
    assert note_offset(pair(new, old)) == pytest.approx(-1000, abs=150)
    assert "0.tif holds values about 1000 higher than" in caplog.text


def test_nothing_else_is_taken_for_it(pair, caplog) -> None:
    old = reflectance()
    season = old.copy()
    season[3] += 1000
    assert note_offset(pair(old, reflectance(1))) == 0
    assert note_offset(pair(old, season)) == 0  # one band only: leaves
    assert note_offset(pair(old, old + 3000)) == 0
    assert note_offset(pair(old, 5 * old + 1000)) == 0  # brighter than any ground
    assert note_offset(pair(old, old + 1000, "float32")) == 0
    assert note_offset(pair(old / 40, old / 40 + 20, "uint8")) == 0
    assert caplog.text == ""
