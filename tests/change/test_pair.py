"""open_pair: two dates that have nothing in common but the ground, read as one; and what cannot be compared."""

import logging
from pathlib import Path

import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import Resampling, reproject
from rasterio.windows import Window
from scipy import ndimage
from shapely.geometry import box

from rsseg_cli.change.pair import Pair, PairOptions, open_pair
from rsseg_cli.change.shift import estimate
from rsseg_cli.errors import RssegError
from rsseg_cli.raster.grid import Grid

ZONE_33, ZONE_34 = CRS.from_epsg(32633), CRS.from_epsg(32634)
WEST, NORTH = 690_000.0, 5_400_000.0
PLAIN = PairOptions()


def at(gsd_m: float, right_px: float = 0, down_px: float = 0) -> Affine:
    """A lattice from the common corner on, moved by so many of its own pixels."""
    return Affine(gsd_m, 0, WEST + right_px * gsd_m, 0, -gsd_m, NORTH - down_px * gsd_m)


def ground(*shape: int, seed: int = 1) -> np.ndarray:
    """Something that varies over a few pixels, between 0 and 200."""
    rough = np.random.default_rng(seed).normal(size=shape)
    smooth = ndimage.gaussian_filter(rough, [0] * (len(shape) - 2) + [2, 2])
    return (100 + 100 * smooth / np.abs(smooth).max()).astype(np.float32)


@pytest.fixture
def dates(make_raster):
    """Opens two arrays, each with what its file says, as a pair."""

    def make(before, after, options: PairOptions = PLAIN) -> Pair:
        names = (("before.tif", *before), ("after.tif", *after))
        one, other = (make_raster(name, values, **profile) for name, values, profile in names)
        return open_pair(str(one), str(other), options)

    return make


def test_the_coarser_date_gives_the_pixels_and_the_finer_one_is_averaged(dates) -> None:
    fine, coarse = ground(120, 120), ground(40, 40, seed=2)
    pair = dates((fine, {"transform": at(10)}), (coarse, {"transform": at(30, 5, 4), "crs": ZONE_33}))
    assert pair.grid.transform == at(30, 5, 4)
    assert pair.grid.shape == (36, 35)
    before, after = pair.read()
    np.testing.assert_array_equal(after[0], coarse[:36, :35])
    means = fine.reshape(40, 3, 40, 3).mean(axis=(1, 3))[4:, 5:]
    np.testing.assert_allclose(before[0], means, atol=1e-3)
    # It is the ground that counts, not which one comes first.
    turned = dates((coarse, {"transform": at(30, 5, 4)}), (fine, {"transform": at(10)}))
    assert turned.grid == pair.grid
    np.testing.assert_array_equal(turned.read()[1], before)


def test_pixels_of_one_lattice_are_read_as_they_are(dates, caplog) -> None:
    caplog.set_level(logging.INFO)
    one, other = ground(60, 60), ground(50, 70, seed=2)
    pair = dates((one, {"transform": at(10)}), (other, {"transform": at(10, 20, 10)}))
    assert not pair.is_resampled
    before, after = pair.read()
    np.testing.assert_array_equal(before[0], one[10:, 20:])
    np.testing.assert_array_equal(after[0], other[:50, :40])
    notes = [record.message for record in caplog.records if "compared on" in record.message]
    assert len(notes) == 1
    assert "40 x 50 pixels of 10 m" in notes[0]
    assert "before.tif is read as it is" in notes[0]


def test_of_equal_pixels_those_of_the_later_date_count(dates) -> None:
    one = ground(100, 100)
    inner = one[20:80, 20:80]
    pair = dates((one, {"transform": at(10)}), (inner, {"transform": at(10, 20.5, 20)}))
    assert pair.grid.transform == at(10, 20.5, 20)
    before, _ = pair.read()
    expected = ndimage.shift(one, (0, -0.5), order=3, mode="nearest")[20:80, 20:80]
    assert np.abs(before[0] - expected)[:, 2:-2].max() < 1


def across_zones(dates, options: PairOptions = PLAIN, gsd_m: float = 10.0) -> Pair:
    """Two bands in two zones, with holes in both; the later date lies over the middle of the earlier one."""
    x, y = pyproj.Transformer.from_crs(32633, 32634, always_xy=True).transform(WEST + 1500, NORTH - 1300)
    before, after = ground(2, 480, 500), ground(2, 300, 320, seed=2)
    before[:, 200:240, 250:280] = np.nan
    after[0, 50:90, 30:60] = np.nan
    there = Affine(gsd_m, 0, x, 0, -gsd_m, y)
    return dates((before, {"transform": at(10)}), (after, {"transform": there, "crs": ZONE_34}), options)


@pytest.mark.parametrize("gsd_m", [10.0, 25.0, 6.0])
def test_a_window_is_the_crop_of_the_whole_to_the_bit(dates, gsd_m: float) -> None:
    pair = across_zones(dates, gsd_m=gsd_m)
    rng = np.random.default_rng(5)
    for tried in (pair, pair.shifted(0.37, -1.2)):
        whole = tried.read()
        assert np.isfinite(whole[0]).mean() > 0.6
        for _ in range(25):
            height, width = (int(n) for n in rng.integers(1, 90, 2))
            row = int(rng.integers(0, pair.grid.height - height))
            col = int(rng.integers(0, pair.grid.width - width))
            part = tried.read(Window(col, row, width, height))
            for found, all_of_it in zip(part, whole, strict=True):
                np.testing.assert_array_equal(found, all_of_it[:, row : row + height, col : col + width])


def test_what_one_date_lacks_is_nothing_in_both(dates) -> None:
    pair = across_zones(dates)
    before, after = pair.read()
    missing = np.isnan(before)
    np.testing.assert_array_equal(missing, np.isnan(after))
    assert (missing[0] == missing[1]).all()
    assert missing[0, 50:90, 30:60].all()  # one band of the later date
    hole = missing[0].copy()
    hole[50:90, 30:60] = False
    assert 30 * 40 * 0.8 < hole.sum() < 30 * 40 * 1.3  # the earlier date's, turned a little


@pytest.mark.parametrize("lag_px", [0.0, 0.3])
def test_a_shift_is_taken_out_in_one_resampling(dates, lag_px: float) -> None:
    """Of one lattice, or of two that differ: then it goes into the resampling there is anyway."""
    one = ground(120, 120)
    later = ndimage.shift(one, (-0.7, 1.4), order=5, mode="nearest")
    pair = dates((one, {"transform": at(10, lag_px)}), (later, {"transform": at(10)}))
    before, after = pair.shifted(1.4 - lag_px, -0.7).read()
    inner = np.s_[0, 8:-8, 8:-8]
    once = ndimage.shift(one, (-0.7, 1.4), order=3, mode="nearest")
    assert np.abs(before[inner] - after[inner]).max() < 1.5 * np.abs(once[8:-8, 8:-8] - after[inner]).max() + 0.5
    assert np.abs(pair.read()[0][inner] - after[inner]).max() > 10


def test_the_finer_date_moves_whichever_it_is(dates) -> None:
    fine = ground(240, 240)
    coarse = ndimage.shift(fine, (2, -3), order=5, mode="nearest").reshape(80, 3, 80, 3).mean(axis=(1, 3))
    inner = np.s_[0, 5:-5, 5:-5]
    pair = dates((fine, {"transform": at(10)}), (coarse, {"transform": at(30)})).shifted(-1.0, 2 / 3)
    assert np.abs(np.subtract(*pair.read())[inner]).max() < 0.1
    turned = dates((coarse, {"transform": at(30)}), (fine, {"transform": at(10)})).shifted(1.0, -2 / 3)
    assert np.abs(np.subtract(*turned.read())[inner]).max() < 0.1


def test_bands_are_matched_by_name(dates) -> None:
    values = ground(3, 40, 40)
    pair = dates(
        (values, {"photometric": "RGB"}), (values[::-1] + 1, {}), PairOptions(after_bands="blue=1,green=2,red=3")
    )
    assert pair.before.names == pair.after.names == ("red", "green", "blue")
    found = pair.read()
    np.testing.assert_allclose(found[1] - found[0], 1, atol=1e-4)


def test_bands_without_common_names_are_taken_in_order(dates, caplog) -> None:
    caplog.set_level(logging.INFO)
    values = ground(2, 40, 40)
    pair = dates((values, {}), (values + 1, {}), PairOptions(before_bands="red=1,nir=2"))
    assert "its bands 1, 2 are taken as red, nir of " in caplog.text
    np.testing.assert_array_equal(pair.read()[1], values + 1)


def test_a_date_may_be_several_files(make_raster, tmp_path: Path) -> None:
    red, nir = ground(2, 40, 40)
    one = make_raster("tiles/a.tif", np.stack([red, nir])[:, :, :25], transform=at(10))
    make_raster("tiles/b.tif", np.stack([red, nir])[:, :, 20:], transform=at(10, 20))
    files = [make_raster(name, band + 1, transform=at(10)) for name, band in (("r.tif", red), ("n.tif", nir))]
    options = PairOptions(before_bands="red=1,nir=2", mosaic=True)
    pair = open_pair(str(one.parent), f"nir={files[1]},red={files[0]}", options)
    before, after = pair.read()
    np.testing.assert_array_equal(before, np.stack([red, nir]))
    np.testing.assert_array_equal(after, before + 1)
    assert len(pair.files) == 4


def test_different_numbers_of_bands_are_refused_with_those_in_common(dates) -> None:
    values = ground(4, 40, 40)
    options = PairOptions(before_bands="red=1,nir=2", after_bands="red=1,green=2,nir=3")
    with pytest.raises(RssegError, match=r"before\.tif has 2 bands: red, nir; .*after\.tif has 3: .*") as refused:
        dates((values, {}), (values, {}), options)
    assert refused.value.hint == "take those that both have: --before-bands red,nir --after-bands red,nir"
    with pytest.raises(RssegError) as refused:
        dates((values[:1], {}), (values, {}))
    assert "--before-bands" in refused.value.hint


def test_an_area_is_all_that_is_compared(dates, tmp_path: Path) -> None:
    values = ground(100, 100)
    outlines = [
        box(WEST + 105, NORTH - 505, WEST + 405, NORTH - 205),
        box(WEST + 505, NORTH - 305, WEST + 605, NORTH - 205),
    ]
    geopandas.GeoDataFrame(geometry=outlines, crs=32633).to_file(tmp_path / "a.gpkg")
    given = (values, {"transform": at(10)}), (values + 1, {"transform": at(10, 0.5)})
    whole = dates(*given)
    seen = whole.read()
    pair = dates(*given, PairOptions(aoi=str(tmp_path / "a.gpkg")))
    assert pair.grid.shape == (31, 50)
    before, after = pair.read()
    held = np.isfinite(before[0])
    assert held.sum() == 30 * 30 + 10 * 10
    row, col = whole.grid.offset_of(pair.grid)
    expected = seen[0][:, row : row + 31, col : col + 50]
    np.testing.assert_array_equal(before[:, held], expected[:, held])
    part = pair.read(Window(3, 2, 20, 10))
    np.testing.assert_array_equal(part[1], after[:, 2:12, 3:23])


def test_without_coordinates_pixel_is_compared_with_pixel(dates) -> None:
    values = ground(40, 50)
    nowhere = {"crs": None, "transform": None}
    pair = dates((values, nowhere), (values + 1, nowhere))
    np.testing.assert_array_equal(pair.read()[0][0], values)
    with pytest.raises(RssegError, match=r"is 50 x 40 pixels and .* 49 x 40; pixel by pixel"):
        dates((values, nowhere), (values[:, 1:], nowhere))
    # World files place both on one plane, though nobody says which.
    one, other = ({"crs": None, "transform": Affine(2, 0, x, 0, -2, 80)} for x in (10, 30))
    placed = dates((values, one), (values[:, 10:], other))
    np.testing.assert_array_equal(*placed.read())


def test_off_means_pixel_by_pixel_whatever_the_files_say(dates) -> None:
    values = ground(40, 50)
    pair = dates((values, {"transform": at(10)}), (values + 1, {"transform": at(30, 99)}), PairOptions(align="off"))
    assert pair.grid.transform == at(30, 99)
    np.testing.assert_array_equal(pair.read()[0][0], values)
    pair.shifted(0.5, 0).read()  # the one resampling there is
    with pytest.raises(RssegError, match="pixel by pixel"):
        dates((values, {}), (values[1:], {}), PairOptions(align="off"))


def test_what_cannot_be_compared_is_refused(dates) -> None:
    values = ground(40, 40)
    empty = np.full((40, 40), np.nan, np.float32)
    left, right = values.copy(), values.copy()
    left[:, 20:] = right[:, :20] = np.nan
    here, nowhere = {"transform": at(10)}, {"crs": None, "transform": None}
    refusals = {
        "share no ground": ((values, here), (values, {"transform": at(10, 900)})),
        "share 1 x 40 pixels only": ((values, here), (values, {"transform": at(10, 39)})),
        "share 15 x 40 pixels only": ((values, here), (values, {"transform": at(10, 25)})),
        "before.tif: holds nothing but nodata": ((empty, here), (values, here)),
        "after.tif: holds nothing but nodata": ((values, here), (empty, here)),
        "no pixel where both lie holds something at both dates": ((left, here), (right, here)),
        "before.tif: has no coordinate system, unlike the other date": ((values, nowhere), (values, here)),
        "complex numbers": ((values, here), (values.astype(np.complex64), here)),
    }
    for words, given in refusals.items():
        with pytest.raises(RssegError) as refused:
            dates(*given)
        assert words in refused.value.problem
        assert refused.value.hint
    with pytest.raises(RssegError, match="--align left: not known"):
        dates((values, here), (values, here), PairOptions(align="left"))  # type: ignore[arg-type]


def test_the_same_pixels_twice_are_warned_of(dates, make_raster, caplog) -> None:
    values = ground(40, 40)
    dates((values, {}), (values, {}))
    assert "hold the same pixels: nothing can have changed" in caplog.text
    caplog.clear()
    values[39, 39] += 1
    dates((ground(40, 40), {}), (values, {}))
    assert caplog.text == ""


def test_swapped_dates_are_noticed(make_raster, caplog) -> None:
    later, earlier = (make_raster(name, ground(40, 40, seed=n)) for n, name in enumerate(("t_2021.tif", "t_2019.tif")))
    open_pair(str(later), str(earlier))
    assert "is later than" in caplog.text
    caplog.clear()
    open_pair(str(earlier), str(later))
    assert caplog.text == ""


@pytest.fixture
def awkward(real_data: Path, make_raster):
    """Two Landsat dates with two coordinate systems, two pixel sizes, half an overlap, and nodata in the middle."""

    def make(first: int, second: int) -> Pair:
        folder = real_data / "timeseries" / "landsat_pucallpa"
        with rasterio.open(folder / f"{first}.tif") as early, rasterio.open(folder / f"{second}.tif") as late:
            before, after, place, crs = early.read(), late.read(), late.transform, late.crs
        after[:, 100:160, 400:460] = 0
        moved = place @ Affine.translation(250, 0)
        later = make_raster("late.tif", after[:, :, 250:], crs=crs, transform=moved, nodata=0)
        x, y = pyproj.Transformer.from_crs(crs, 32718, always_xy=True).transform(place.c, place.f)
        gsd_m = 2 * Grid(crs, place, *after.shape[1:]).gsd_m
        there = Affine(gsd_m, 0, x, 0, -gsd_m, y)
        coarse = np.zeros((4, 190, 230), np.uint8)
        nothing = {"src_nodata": 0, "dst_nodata": 0}
        source = {"src_transform": place, "src_crs": crs, "resampling": Resampling.average, **nothing}
        reproject(before, coarse, dst_transform=there, dst_crs="EPSG:32718", **source)
        earlier = make_raster("early.tif", coarse, crs="EPSG:32718", transform=there, nodata=0)
        return open_pair(str(earlier), str(later))

    return make


@pytest.mark.parametrize(("years", "alike", "off_px"), [((1995, 2005), 0.25, 0.5), ((2005, 2005), 0.995, 0.05)])
def test_a_real_awkward_pair(awkward, years: tuple[int, int], alike: float, off_px: float) -> None:
    """What is one date twice shows that the two ways onto the common grid lead to one place."""
    pair = awkward(*years)
    assert pair.grid.crs == CRS.from_epsg(32718)
    assert pair.grid.shape[0] > 180
    assert 95 < pair.grid.shape[1] < 115
    before, after = pair.read()
    held = np.isfinite(before[0])
    # 60 pixels of the finer date are 30 here; pixels on the rim hold something still.
    assert 26 * 26 < (~held[4:-4, 4:-4]).sum() < 33 * 33
    together = [np.corrcoef(one[held], other[held])[0, 1] for one, other in zip(before, after, strict=True)]
    assert min(together) > alike
    shift = estimate(pair)
    assert shift.reliability > 0.5
    assert shift.length_px < off_px
