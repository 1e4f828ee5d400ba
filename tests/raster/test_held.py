"""What is held in memory is what the files hold, read once."""

import logging
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from rasterio.windows import Window

from rsseg_cli.change import pair
from rsseg_cli.change.pair import PairOptions, open_pair
from rsseg_cli.raster import held, scene


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files whose pixels were unpacked."""
    names: list[str] = []
    read = scene.read_window

    def noted(dataset, indexes, window, **options):
        names.append(Path(dataset.name).name)
        return read(dataset, indexes, window, **options)

    monkeypatch.setattr(scene, "read_window", noted)
    return names


@pytest.fixture
def dates(make_raster) -> dict[str, tuple[str, str]]:
    """The same two dates as GeoTIFF and as PNG."""
    values = np.random.default_rng(0).integers(1, 255, (2, 3, 150, 170), np.uint8)
    plain = {"photometric": "RGB", "nodata": 0}
    values[0, :, :30] = 0
    return {
        driver: tuple(
            str(make_raster(f"{name}.{driver}", each, driver=kind, **(plain if kind == "GTiff" else {"nodata": 0})))
            for name, each in zip(("before", "after"), values, strict=True)
        )
        for driver, kind in (("tif", "GTiff"), ("png", "PNG"))
    }


def test_a_png_is_read_once_and_says_what_a_geotiff_says(dates, reads: list[str]) -> None:
    pairs = [open_pair(*dates[kind], PairOptions("3,1", "3,1")) for kind in ("tif", "png")]
    windows = [pairs[0].grid.window, Window(3, 20, 60, 50), Window(169, 149, 1, 1)]
    for window in windows:
        for one, other in zip(pairs[0].read(window), pairs[1].read(window), strict=True):
            np.testing.assert_array_equal(one, other)
            assert np.isnan(one[:, : max(0, 30 - window.row_off)]).all()
    assert [reads.count(f"{name}.png") for name in ("before", "after")] == [1, 1]
    assert reads.count("before.tif") > 1


def test_a_png_too_large_to_be_held_is_said(dates, monkeypatch: pytest.MonkeyPatch, caplog, reads: list[str]) -> None:
    monkeypatch.setattr(held, "MOST_BYTES", 150 * 170 * 3 * 4 - 1)
    with caplog.at_level(logging.WARNING):
        found = open_pair(*dates["png"])
    assert "before.png: is too large" in caplog.text
    found.read(Window(0, 0, 20, 20))
    assert reads.count("before.png") > 1


def test_a_small_pair_is_resampled_once(make_raster, dates, reads: list[str]) -> None:
    values = np.random.default_rng(1).integers(1, 255, (3, 150, 170), np.uint8)
    moved = make_raster("moved.tif", values, transform=Affine(0.5, 0, 500_000.2, 0, -0.5, 4_999_999.9))
    found = open_pair(dates["tif"][0], str(moved))
    assert found.is_resampled
    whole, small = found.read(), found.held_if_small()
    reads.clear()
    for window in (small.grid.window, Window(5, 40, 70, 33), Window(0, 0, 1, 1)):
        for one, other in zip(whole, small.read(window), strict=True):
            np.testing.assert_array_equal(one[:, *window.toslices()], other)
    assert reads == []
    assert small.files == found.files
    assert small.is_resampled


def test_a_large_pair_is_left_on_disk(dates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair, "SMALL_BYTES", 2 * 150 * 170 * 3 * 4 - 1)
    found = open_pair(*dates["tif"])
    assert found.held_if_small() is found


def test_what_is_read_of_held_pixels_is_a_copy(dates) -> None:
    small = open_pair(*dates["tif"]).held_if_small()
    before, _ = small.read()
    before[:] = -1
    assert not (small.read()[0] == -1).any()
