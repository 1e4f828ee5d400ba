"""Masks: the right pixels of the right date, and nothing of a cloud in what lies beside it."""

import logging

import numpy as np
import pytest
from affine import Affine

from rsseg_cli.change.mask import masked, split_values
from rsseg_cli.change.pair import PairOptions, open_pair
from rsseg_cli.errors import RssegError
from rsseg_cli.raster.sources import open_scene

PLACE = Affine(10, 0, 500_000, 0, -10, 5_000_000)


def test_values_after_a_colon(make_raster) -> None:
    assert split_values("clouds.tif") == ("clouds.tif", ())
    assert split_values("clouds.tif:3,8-10") == ("clouds.tif", ((3, 3), (8, 10)))
    assert split_values("C:/scl.tif") == ("C:/scl.tif", ())
    strange = str(make_raster("scl:3", np.ones((2, 2), np.uint8)))
    assert split_values(strange) == (strange, ())
    there = str(make_raster("scl.tif", np.ones((2, 2), np.uint8)))
    for wrong in ("clouds", "10-8", "-3", ""):
        with pytest.raises(RssegError, match="no values of a mask") as refused:
            split_values(f"{there}:{wrong}")
        assert f"{there}:3,8-10" in refused.value.hint


@pytest.fixture
def scene(make_raster):
    values = np.arange(2 * 20 * 20, dtype=np.float32).reshape(2, 20, 20) + 1
    return open_scene(make_raster("scene.tif", values, transform=PLACE))


@pytest.mark.parametrize(
    ("values", "expected"), [("", {1, 3, 8, 9, 10}), (":3,8-10", {3, 8, 9, 10}), (":0", {0}), (":7", set())]
)
def test_only_what_is_asked_for_is_masked(make_raster, scene, values: str, expected: set[int]) -> None:
    classes = np.resize(np.array([0, 1, 3, 8, 9, 10], np.uint8), (20, 20))
    path = make_raster("scl.tif", classes, transform=PLACE)
    found = masked(scene, f"{path}{values}")
    missing = np.isnan(found.values())
    np.testing.assert_array_equal(missing, np.broadcast_to(np.isin(classes, list(expected)), missing.shape))
    np.testing.assert_array_equal(found.values()[~missing], scene.values()[~missing])
    assert str(path) in found.files


def test_a_mask_on_other_pixels_comes_by_nearest_neighbour(make_raster, scene, caplog) -> None:
    caplog.set_level(logging.INFO)
    clouds = np.zeros((10, 5), np.uint8)
    clouds[2, 3] = 1
    path = make_raster("clouds.tif", clouds, transform=PLACE @ Affine.scale(2))
    missing = np.isnan(masked(scene, str(path)).values()[0])
    assert missing[4:6, 6:8].all()
    assert missing.sum() == 4
    assert "covers a part of" in caplog.text


def test_what_the_mask_does_not_know_is_not_masked(make_raster, scene) -> None:
    path = make_raster("clouds.tif", np.full((20, 20), 255, np.uint8), transform=PLACE, nodata=255)
    assert np.isfinite(masked(scene, str(path)).values()).all()


def test_no_cloud_runs_into_its_surroundings(make_raster) -> None:
    """A cloud is masked before the date is resampled, and moves with it."""
    clear = np.full((60, 60), 100, np.float32)
    cloudy, clouds = clear.copy(), np.zeros((60, 60), np.uint8)
    cloudy[20:30, 20:30], clouds[20:30, 20:30] = 5000, 1
    before = make_raster("before.tif", cloudy, transform=PLACE)
    after = make_raster("after.tif", clear + 1, transform=PLACE @ Affine.translation(0.5, 0.5))
    mask = make_raster("clouds.tif", clouds, transform=PLACE)
    pair = open_pair(str(before), str(after), PairOptions(before_mask=str(mask)))
    for tried in (pair, pair.shifted(6, 0)):
        one, other = tried.read()
        assert np.nanmax(one) < 101
        np.testing.assert_array_equal(np.isnan(one), np.isnan(other))
    still, moved = (np.argwhere(np.isnan(p.read()[0][0, :58, 8:50]))[:, 1].mean() for p in (pair, pair.shifted(6, 0)))
    assert still == pytest.approx(24 - 8, abs=0.6)
    assert moved - still == 6


def test_masks_that_cannot_be_used(make_raster, scene) -> None:
    images = make_raster("image.tif", np.ones((3, 20, 20), np.uint8), transform=PLACE)
    with pytest.raises(RssegError, match="has 3 bands, and a mask has one"):
        masked(scene, str(images))
    far = make_raster("far.tif", np.ones((20, 20), np.uint8), transform=PLACE @ Affine.translation(500, 0))
    with pytest.raises(RssegError, match=r"far\.tif: shares no ground"):
        masked(scene, str(far))
    nowhere = {"crs": None, "transform": None}
    small = make_raster("small.tif", np.ones((9, 20), np.uint8), **nowhere)
    image = open_scene(make_raster("plain.tif", np.ones((20, 20), np.uint8), **nowhere))
    with pytest.raises(RssegError, match=r"small\.tif: is 20 x 9 pixels, its image .* 20 x 20"):
        masked(image, str(small))
    with pytest.raises(RssegError, match="no such file"):
        masked(scene, "none.tif:3")
