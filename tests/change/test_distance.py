"""The distance between two dates: blind to light and noise, awake to change, the same for any window."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from pairs import pair_of
from rasterio.windows import Window
from scipy.ndimage import gaussian_filter, shift

from rsseg_cli.change.distance import HALO_PX, DistanceModel, fit_distance
from rsseg_cli.change.level import BANDS, CANONICAL
from rsseg_cli.change.pair import Pair, open_pair
from rsseg_cli.change.threshold import count, threshold
from rsseg_cli.errors import RssegError
from rsseg_cli.raster.dataset import open_raster

SAMPLE = Path(__file__).parents[2] / "sample_scenes" / "change"


def ground(seed: int = 0, bands: int = 4, side_px: int = 200) -> np.ndarray:
    """Fields, edges and texture, alike in all bands but not the same."""
    rng = np.random.default_rng(seed)
    fields = np.kron(rng.random((side_px // 20, side_px // 20)), np.ones((20, 20)))
    texture = gaussian_filter(rng.standard_normal((side_px, side_px)), 1.5)
    own = gaussian_filter(rng.standard_normal((bands, side_px, side_px)), (0, 4, 4))
    return 100 + 40 * fields + 15 * texture + 25 * own


def later(before: np.ndarray, noise: float = 1.0) -> np.ndarray:
    """The same ground half a pixel aside, in another light."""
    rng = np.random.default_rng(9)
    moved = np.stack([shift(band, (0.3, 0.4), order=3, mode="nearest") for band in before])
    gains, offsets = rng.uniform(0.7, 1.3, (2, len(before), 1, 1))
    return moved * gains + 20 * offsets + noise * rng.standard_normal(before.shape)


def changed(after: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """With patches of other ground."""
    truth = np.zeros(after.shape[1:], bool)
    other = np.roll(after, (73, 41), axis=(1, 2))
    rng = np.random.default_rng(3)
    while truth.mean() < share:
        row, col = rng.integers(0, truth.shape[0] - 16, 2)
        truth[row : row + 16, col : col + 16] = True
    return np.where(truth, other, after), truth


def flagged(pair: Pair) -> np.ndarray:
    distance = fit_distance(pair).distance(*pair.read())
    return distance > threshold(count(distance))


def test_light_noise_and_half_a_pixel_are_no_change() -> None:
    before = ground()
    assert flagged(pair_of(before, later(before))).mean() <= 0.01


@pytest.mark.parametrize("share", [0.01, 0.05, 0.3])
def test_what_changed_is_found_rare_or_common(share: float) -> None:
    before = ground()
    after, truth = changed(later(before), share)
    found = flagged(pair_of(before, after))
    assert truth.mean() / 2 < found.mean() < truth.mean() * 2
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.7


@pytest.fixture(scope="module")
def fitted() -> tuple[Pair, DistanceModel, np.ndarray]:
    before = ground()
    after, _ = changed(later(before), 0.05)
    after[:, 90:130, 60:75] = np.nan
    pair = pair_of(before, after)
    model = fit_distance(pair)
    return pair, model, model.distance(*pair.read())


@pytest.mark.parametrize(("row", "col"), [(0, 0), (60, 40), (137, 150)])
def test_a_window_with_its_halo_is_the_crop_of_the_whole(fitted, row: int, col: int) -> None:
    pair, model, whole = fitted
    top, left = max(0, row - HALO_PX), max(0, col - HALO_PX)
    bottom, right = min(200, row + 50 + HALO_PX), min(200, col + 50 + HALO_PX)
    part = model.distance(*pair.read(Window(left, top, right - left, bottom - top)))
    inner = part[row - top : row - top + 50, col - left : col - left + 50]
    np.testing.assert_allclose(inner, whole[row : row + 50, col : col + 50], rtol=1e-5)


def test_where_one_date_has_nothing_there_is_no_distance_and_no_influence(fitted) -> None:
    pair, model, whole = fitted
    before, after = pair.read()
    assert np.isnan(whole[90:130, 60:75]).all()
    assert np.isfinite(whole).sum() == whole.size - 40 * 15
    odd = np.where(np.isnan(after), 1e6, after)
    both = np.where(np.isnan(after), np.nan, before)
    np.testing.assert_array_equal(model.distance(both, np.where(np.isnan(both), np.nan, odd)), whole)


def test_the_order_of_the_dates_is_no_matter(fitted) -> None:
    pair, _, whole = fitted
    before, after = pair.read()
    swapped = pair_of(after, before)
    np.testing.assert_allclose(fit_distance(swapped).distance(*swapped.read()), whole, rtol=1e-4)


def test_gains_and_units_are_no_matter(fitted) -> None:
    pair, _, whole = fitted
    before, after = pair.read()
    scaled = pair_of(before * 37 + 5, after * np.array([2, 0.1, 9, 1], np.float32)[:, None, None] - 4)
    np.testing.assert_allclose(fit_distance(scaled).distance(*scaled.read()), whole, rtol=2e-3)


def test_the_same_seed_gives_the_same_model_and_another_hardly_another(fitted) -> None:
    pair, _, whole = fitted
    np.testing.assert_array_equal(fit_distance(pair).distance(*pair.read()), whole)
    other = fit_distance(pair, seed=5).distance(*pair.read())
    assert np.corrcoef(other[np.isfinite(other)], whole[np.isfinite(whole)])[0, 1] > 0.999


def test_one_band_and_bands_that_repeat_are_enough() -> None:
    before = ground(bands=1)
    after, truth = changed(later(ground()), 0.05)
    for count_ in (1, 2):
        one, other = np.repeat(before, count_, axis=0), np.repeat(after[:1], count_, axis=0)
        distance = fit_distance(pair_of(one, other)).distance(one.astype(np.float32), other.astype(np.float32))
        assert distance[truth].mean() > 2 * distance[~truth].mean()


def test_an_image_of_nothing_is_refused() -> None:
    before = ground()
    with pytest.raises(RssegError, match="after: holds the same value everywhere"):
        fit_distance(pair_of(before, np.full_like(before, 7)))


def test_the_same_date_twice_shows_no_change() -> None:
    before = ground()
    assert not flagged(pair_of(before, before)).any()


def test_fitting_is_seen() -> None:
    before, seen = ground(), []

    def track(steps: Iterable, label: str, total: int) -> Iterator:
        for done, step in enumerate(steps, 1):
            seen.append((label, done == total))
            yield step

    fit_distance(pair_of(before, later(before)), track=track)
    assert seen.count(("looking at both dates", True)) == seen.count(("fitting", True)) == 1


def test_several_distances_at_once_are_those_one_by_one(fitted) -> None:
    pair, model, whole = fitted
    found = model.distances(*pair.read(), [(CANONICAL,), (CANONICAL, BANDS), (BANDS,)])
    np.testing.assert_array_equal(found[1], whole)
    for number, ways in ((0, (CANONICAL,)), (2, (BANDS,))):
        np.testing.assert_array_equal(found[number], replace(model, ways=ways).distance(*pair.read()))
    np.testing.assert_allclose(found[[0, 2]].mean(axis=0), whole, rtol=1e-5)


def test_a_hole_far_away_is_no_matter(fitted) -> None:
    """Windows that are whole take a shorter way to the same."""
    pair, model, _ = fitted
    before, after = (values[:, :, 80:].copy() for values in pair.read())
    whole = model.distance(before, after)
    before[:, 60:64, 100:104] = np.nan
    holed = model.distance(before, after)
    far = np.hypot(*(np.indices(whole.shape) - np.array([62, 102])[:, None, None])) > 2 * HALO_PX
    assert far.any()
    np.testing.assert_array_equal(holed[far], whole[far])


def test_too_few_pixels_are_refused() -> None:
    before = np.full((2, 40, 40), np.nan)
    before[:, :3, :3] = np.arange(9).reshape(3, 3)
    with pytest.raises(RssegError, match="9 pixels"):
        fit_distance(pair_of(before, before))


def test_the_sample_pair() -> None:
    pair = open_pair(str(SAMPLE / "before.tif"), str(SAMPLE / "after.tif"))
    distance = fit_distance(pair).distance(*pair.read())
    with rasterio.open(SAMPLE / "truth.tif") as dataset:
        truth = dataset.read(1)
    found, held = distance > threshold(count(distance)), truth != 255
    hits = (found & (truth == 1))[held].sum()
    assert 2 * hits / (found[held].sum() + (truth == 1).sum()) > 0.5


@pytest.mark.parametrize(("name", "least"), [("oscd_lasvegas", 0.68), ("vhr_beijing_a", 0.7), ("madeirinha", 0.78)])
def test_real_pairs(real_data: Path, name: str, least: float) -> None:
    folder = real_data / "change" / name
    before, after, change = (next(folder.glob(f"{stem}*")) for stem in ("t1.", "t2.", "change"))
    pair = open_pair(str(before), str(after))
    distance = fit_distance(pair).distance(*pair.read())
    with open_raster(str(change)) as dataset:
        labels = dataset.read(1)
    truth, held = (labels == 2, labels > 0) if labels.max() <= 2 else (labels > 127, np.ones(labels.shape, bool))
    found = distance > threshold(count(distance))
    assert 2 * (found & truth)[held].sum() / (found[held].sum() + truth[held].sum()) > least
