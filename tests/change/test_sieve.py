"""Small patches leave the mask, whatever strips it is read in; held against a flood of the whole."""

from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from affine import Affine
from coverages import Pixels
from rasterio.crs import CRS
from rasterio.windows import Window
from scipy import ndimage

from rsseg_cli.change.scheme import CHANGE_SCHEME
from rsseg_cli.change.sieve import sieved
from rsseg_cli.classes import UNLABELLED
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.labels import Labels
from rsseg_cli.vector.coverage import polygonize
from rsseg_cli.vector.measure import measure

UTM33 = CRS.from_epsg(32633)


def grid_of(mask: np.ndarray, crs: CRS | None = UTM33, pixel: float = 0.8) -> Grid:
    return Grid(crs, Affine(pixel, 0, 0, 0, -pixel, 0), *mask.shape)


def speckled(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    patches = ndimage.gaussian_filter(rng.standard_normal((90, 70)), 1.2) > 0.15
    return np.where(rng.random(patches.shape) < 0.05, UNLABELLED, patches).astype(np.uint8)


def of_the_whole(mask: np.ndarray, least_px: int) -> np.ndarray:
    parts, _ = ndimage.label(mask == 1)
    is_small = np.bincount(parts.ravel()) < least_px
    return np.where((mask == 1) & is_small[parts], 0, mask)


@pytest.mark.parametrize("strip_rows", [1, 7, 64, 128])
@pytest.mark.parametrize("least_px", [2, 12, 150])
def test_strips_do_not_show(strip_rows: int, least_px: int) -> None:
    mask = speckled()
    found = sieved(Pixels(mask), grid_of(mask), least_px * 0.64, strip_rows)
    wanted = of_the_whole(mask, least_px)
    assert (wanted != mask).any()
    assert (wanted == 1).any()
    np.testing.assert_array_equal(found.read(grid_of(mask).window), wanted)
    np.testing.assert_array_equal(found.read(Window(11, 5, 30, 61)), wanted[5:66, 11:41])


def test_a_patch_that_winds_through_many_strips_is_one() -> None:
    mask = np.zeros((40, 9), np.uint8)
    mask[::2] = 1
    mask[1::4, -1] = mask[3::4, 0] = 1
    found = sieved(Pixels(mask), grid_of(mask, None, 1), float(mask.sum()), 3)
    np.testing.assert_array_equal(found.read(grid_of(mask).window), mask)
    assert not sieved(Pixels(mask), grid_of(mask, None, 1), mask.sum() + 1.0, 3).read(grid_of(mask).window).any()


def test_what_touches_at_a_corner_alone_is_apart_as_polygons_are() -> None:
    mask = np.eye(6, dtype=np.uint8)
    labels = Labels("m.tif", grid_of(mask), CHANGE_SCHEME, Pixels(mask))
    assert len(polygonize(labels)) == 6 + 2
    assert not sieved(Pixels(mask), grid_of(mask), 0.65).read(grid_of(mask).window).any()


@pytest.mark.parametrize("crs", [UTM33, None, CRS.from_epsg(3857)])
def test_sizes_are_those_of_polygons_and_just_the_least_stays(crs: CRS | None) -> None:
    mask = speckled(3)
    labels = Labels("m.tif", grid_of(mask, crs), CHANGE_SCHEME, Pixels(mask))
    coverage = polygonize(labels)
    for least in np.unique(measure(coverage).areas[coverage.ids == 1])[:5]:
        found = sieved(Pixels(mask), labels.grid, float(least), 16)
        kept = polygonize(Labels("m.tif", labels.grid, CHANGE_SCHEME, found))
        areas = measure(kept).areas[kept.ids == 1]
        assert areas.min() == pytest.approx(least)


@pytest.mark.parametrize("value", [0, UNLABELLED])
def test_where_nothing_changed_nothing_changes(value: int) -> None:
    mask = np.full((20, 30), value, np.uint8)
    np.testing.assert_array_equal(sieved(Pixels(mask), grid_of(mask), 5).read(grid_of(mask).window), mask)


def test_measuring_is_seen() -> None:
    mask, seen = speckled(), []

    def track(steps: Iterable, label: str, total: int) -> Iterator:
        for done, step in enumerate(steps, 1):
            seen.append((done, total))
            yield step

    sieved(Pixels(mask), grid_of(mask), 5, 30, track)
    assert seen == [(1, 3), (2, 3), (3, 3)]
