"""Dated scenes of one place: brought onto one grid, in order, with gaps and clouds as nothing."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import calculate_default_transform
from rasterio.windows import Window
from scipy import ndimage

from rsseg_cli.errors import RssegError
from rsseg_cli.raster.scene import Scene
from rsseg_cli.raster.series import Series, find_series, open_series

UTM33, UTM32 = CRS.from_epsg(32633), CRS.from_epsg(32632)


def at(col: float, row: float, pixel_m: float = 10.0) -> Affine:
    return Affine(pixel_m, 0, 500_000 + col * 10.0, 0, -pixel_m, 5_000_000 - row * 10.0)


def ground(transform: Affine, height: int = 40, width: int = 60) -> np.ndarray:
    """Values that depend on the place on the Earth alone, smooth over many pixels."""
    col, row = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    x, y = transform.a * col + transform.c - 500_000, 5_000_000 - (transform.e * row + transform.f)
    return (100 + 30 * np.sin(x / 150) + 20 * np.cos(y / 120)).astype(np.float32)


@pytest.fixture
def dates(make_raster, tmp_path: Path) -> Path:
    """Three dates: one shifted by whole pixels, one by a part of one."""
    for name, place in (("2021-05-01", at(0, 0)), ("2021-03-01", at(7, -3)), ("2021-09-10", at(2.4, 1.3))):
        make_raster(f"town/town_{name}.tif", ground(place), transform=place)
    return tmp_path / "town"


def test_dates_come_in_order_and_reach_as_far_as_any(dates: Path) -> None:
    series = open_series(dates)
    assert series.path == str(dates)
    assert series.dates == ("2021-03-01", "2021-05-01", "2021-09-10")
    assert series.days.tolist() == [0, 61, 193]
    assert series.grid.transform == at(0, -3)
    assert series.grid.shape == (45, 67)
    assert {scene.grid for scene in series.scenes} == {series.grid}
    assert len(series.files) == 3


def test_a_shifted_origin_aligns(dates: Path) -> None:
    values = open_series(dates).values()
    assert values.shape == (3, 1, 45, 67)
    assert values.dtype == np.float32
    expected = ground(at(0, -3), 45, 67)
    whole, part = values[:2, 0], values[2, 0]
    seen = np.isfinite(whole)
    assert seen.sum(axis=(1, 2)).tolist() == [40 * 60, 40 * 60]
    np.testing.assert_allclose(whole[seen], np.broadcast_to(expected, whole.shape)[seen], atol=1e-3)
    # What is resampled loses its outermost pixels.
    assert 38 * 58 <= np.isfinite(part).sum() <= 41 * 61
    inside = (slice(7, 42), slice(5, 60))
    np.testing.assert_allclose(part[inside], expected[inside], atol=0.4)
    # Taken as they lie in their files, the dates would differ.
    assert np.abs(ground(at(2.4, 1.3)) - ground(at(0, 0))).max() > 4


def test_windows_are_crops_of_the_whole(dates: Path) -> None:
    series = open_series(dates)
    window = Window(11, 9, 30, 22)
    whole = series.values()[:, :, 9:31, 11:41]
    np.testing.assert_array_equal(series.values(window), whole)
    cropped = series.crop(window)
    assert cropped.grid == series.grid.crop(window)
    np.testing.assert_array_equal(cropped.values(), whole)


def test_other_coordinates_and_pixels_give_way_to_those_of_most_dates(make_raster, tmp_path: Path) -> None:
    coarse, most = at(0, 0, 20.0), at(0, 0)
    make_raster("p/2020-01-01.tif", ground(coarse, 20, 30), transform=coarse)
    for name in ("2020-02-01", "2020-03-01"):
        make_raster(f"p/{name}.tif", ground(most), transform=most)
    series = open_series(tmp_path / "p")
    assert (series.grid.transform, series.grid.shape) == (most, (40, 60))
    np.testing.assert_allclose(series.values()[0, 0, 4:-4, 4:-4], ground(most)[4:-4, 4:-4], atol=1.5)
    place, width, height = calculate_default_transform(UTM33, UTM32, 60, 40, 500_000, 4_999_600, 500_600, 5_000_000)
    make_raster("p/2020-04-01.tif", np.full((height, width), 9.0, np.float32), transform=place, crs=UTM32)
    last = open_series(tmp_path / "p").values()[3, 0]
    assert np.nanmax(np.abs(last - 9)) < 1e-4
    assert np.isfinite(last[10:30, 10:50]).all()


def test_clouds_of_a_mask_beside_a_date_and_gaps_are_nothing(make_raster, tmp_path: Path) -> None:
    values = np.full((2, 8, 8), 50, np.uint8)
    values[:, 0] = 0
    for name in ("a_2020-01-01", "a_2020-02-01"):
        make_raster(f"p/{name}.tif", values, nodata=0, photometric="minisblack")
    clouds = np.zeros((4, 4), np.uint8)
    clouds[1:3, 2] = (1, 200)
    make_raster("p/a_2020-02-01_clouds.tif", clouds, transform=Affine(1, 0, 500_000, 0, -1, 5_000_000))
    series = open_series(tmp_path / "p")
    nothing = np.isnan(series.values()).all(axis=1)
    gap = np.zeros((8, 8), bool)
    gap[0] = True
    np.testing.assert_array_equal(nothing[0], gap)
    gap[2:6, 4:6] = True
    np.testing.assert_array_equal(nothing[1], gap)
    assert series.scenes[1].files == tuple(str(tmp_path / "p" / f"a_2020-02-01{end}.tif") for end in ("", "_clouds"))


def test_a_year_is_its_middle(make_raster, tmp_path: Path) -> None:
    for name in ("1985", "1986-07", "1987-07-02"):
        make_raster(f"p/{name}.tif", np.ones((4, 4), np.uint8))
    assert open_series(tmp_path / "p").days.tolist() == [0, 378, 730]


def test_pieces_of_a_date_may_have_their_bands_in_another_order(make_raster, tmp_path: Path) -> None:
    for name, col, order in (("w_2020-01-01", 0, "ab"), ("e_2020-01-01", 4, "ba"), ("w_2020-02-01", 0, "ab")):
        path = make_raster(
            f"p/{name}.tif", np.stack([np.full((4, 4), ord(b), np.uint8) for b in order]), transform=at(col, 0)
        )
        with rasterio.open(path, "r+") as dataset:
            dataset.descriptions = tuple(order)
    first = open_series(tmp_path / "p", bands="b").values()[0]
    np.testing.assert_array_equal(first, np.full((1, 4, 8), ord("b")))


def test_pieces_of_one_date_are_joined_and_two_pictures_refused(make_raster, tmp_path: Path) -> None:
    one = np.ones((10, 10), np.float32)
    for name, place in (("w_2020-01-01", at(0, 0)), ("e_2020-01-01", at(9, 0)), ("w_2020-02-01", at(0, 0))):
        make_raster(f"p/{name}.tif", one, transform=place)
    series = open_series(tmp_path / "p")
    assert (len(series.scenes), series.grid.shape) == (2, (10, 19))
    assert np.isfinite(series.values()).sum(axis=(1, 2, 3)).tolist() == [190, 100]
    make_raster("p/again_2020-01-01.tif", one, transform=at(1, 0))
    with pytest.raises(RssegError, match="same ground on the same date, 2020-01-01"):
        open_series(tmp_path / "p")


@pytest.mark.parametrize(
    ("name", "count", "place", "match"),
    [
        ("town", 1, at(0, 0), r"town\.tif: neither its tags nor its name"),
        ("2020-03-01", 1, at(500, 0), "share no ground"),
        ("2020-03-01", 3, at(0, 0), r"has the bands 1, 2, 3; .*2020-01-01\.tif has 1"),
    ],
)
def test_what_does_not_belong_is_refused(make_raster, tmp_path, name: str, count: int, place: Affine, match) -> None:
    for date in ("2020-01-01", "2020-02-01"):
        make_raster(f"p/{date}.tif", np.ones((9, 9), np.uint16), transform=at(0, 0))
    make_raster(f"p/{name}.tif", np.ones((count, 9, 9), np.uint16), transform=place)
    with pytest.raises(RssegError, match=match):
        open_series(tmp_path / "p")


def test_folders_and_files_give_series_and_scenes(make_raster, tmp_path: Path) -> None:
    one = np.ones((10, 10), np.float32)
    for name, place in (
        ("all/a/2020-01-01", at(0, 0)),
        ("all/a/2020-02-01", at(1, 0)),
        ("all/a/2020-02-01_labels", at(1, 0)),
        ("all/b/2020-01-01", at(0, 0)),
        ("all/b/2020-02-01", at(100, 0)),
        ("all/b/2020-03-01", at(100, 0)),
        ("all/b/undated", at(100, 0)),
    ):
        make_raster(f"{name}.tif", one, transform=place)
    found = find_series([tmp_path / "all"])
    assert [type(each) for each in found] == [Series, Scene, Series, Scene]
    assert [Path(each.path).name for each in found] == [
        "a",
        "2020-01-01.tif",
        "2020-02-01.tif and 1 more",
        "undated.tif",
    ]
    assert found[0].dates == ("2020-01-01", "2020-02-01")
    files = sorted((tmp_path / "all" / "a").glob("2020*1.tif"))
    (series,) = find_series(files)
    assert (series.dates, len(files)) == (found[0].dates, 2)


def test_neighbouring_tiles_are_no_series(make_raster, tmp_path: Path) -> None:
    """They overlap by a tenth, and were taken on different days."""
    for number, name in enumerate(("2020-01-01", "2020-02-01", "2020-03-01")):
        make_raster(f"p/{name}.tif", np.ones((10, 10), np.uint8), transform=at(9 * number, 0))
    assert [type(each) for each in find_series([tmp_path / "p"])] == [Scene] * 3


def test_bands_are_chosen_and_brought_into_one_order(make_raster, tmp_path: Path) -> None:
    for name, order in (("2020-01-01", ("red", "nir")), ("2020-02-01", ("nir", "red"))):
        path = make_raster(f"p/{name}.tif", np.stack([np.full((4, 4), len(band), np.uint8) for band in order]))
        with rasterio.open(path, "r+") as dataset:
            dataset.descriptions = order
    series = open_series(tmp_path / "p", alpha="no")
    assert series.names == ("red", "nir")
    assert len(np.unique(series.values()[:, 0])) == 1
    assert series.select("nir").values().shape == (2, 1, 4, 4)


def textured(off_px: float, rng_seed: int = 4) -> np.ndarray:
    """The same ground, seen so many pixels to the right of where it is."""
    rng = np.random.default_rng(rng_seed)
    ground = ndimage.gaussian_filter(rng.normal(size=(192, 192)), 1.5)
    blocks = np.kron(rng.uniform(-1, 1, (16, 16)), np.ones((12, 12)))
    moved = ndimage.shift(ground * 2 + blocks, (0, off_px), order=3, mode="nearest")
    return (1000 + 200 * moved).astype(np.float32)


def test_shifts_that_remain_are_estimated_once(make_raster, tmp_path: Path, caplog) -> None:
    away = np.full((192, 192), np.nan, np.float32)
    away[::2] = 5
    dates = [textured(0), textured(1.3), textured(0.3), textured(5), textured(0, 5), away]
    dates[1][:90, :80] = np.nan
    for month, values in enumerate(dates, 1):
        make_raster(f"p/2020-0{month}-01.tif", values)
    series = open_series(tmp_path / "p")
    # Too little, too much, other ground, and nothing to compare: left where they are.
    expected = np.zeros((6, 2), np.float32)
    expected[1] = (0, 1.3)
    np.testing.assert_allclose(series.shifts, expected, atol=0.1)
    assert not series.shifts[[0, 2, 3, 4, 5]].any()
    assert "2020-04-01.tif: lies 5.0 pixels off" in caplog.text
    assert caplog.text.count("too far to be allowed for") == 1
    assert series.crop(Window(10, 10, 80, 80)).shifts is series.shifts


def test_a_shift_of_two_pixels_is_found(make_raster, tmp_path: Path) -> None:
    for month, off in ((1, 0), (2, 2.1)):
        make_raster(f"p/2020-0{month}-01.tif", textured(off))
    np.testing.assert_allclose(open_series(tmp_path / "p").shifts, [(0, 0), (0, 2.1)], atol=0.1)


def test_too_little_ground_tells_no_shift(dates: Path) -> None:
    assert not open_series(dates).shifts.any()
