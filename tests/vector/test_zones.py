"""What other rasters hold within regions, held against counting pixels region by region."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from coverages import Pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from scipy import ndimage

from rsseg_cli.classes import UNLABELLED, ClassScheme
from rsseg_cli.errors import RssegError
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.labels import Labels
from rsseg_cli.vector import zones
from rsseg_cli.vector.coverage import NOTHING, Coverage, polygonize
from rsseg_cli.vector.masks import open_masks
from rsseg_cli.vector.zones import blocks_of_regions, confidence_columns, find_edges, source_column

UTM33 = CRS.from_epsg(32633)
HALF_METRE = Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)
PATCHES = np.random.default_rng(3).choice(np.array([0, 1, 2, UNLABELLED], np.uint8), (23, 31)).repeat(4, 0).repeat(4, 1)


def coverage_of(mask: np.ndarray, transform: Affine = HALF_METRE) -> Coverage:
    return polygonize(
        Labels("m.tif", Grid(UTM33, transform, *mask.shape), ClassScheme.of_values(range(9)), Pixels(mask))
    )


def flooded(mask: np.ndarray) -> np.ndarray:
    """The region of each pixel, by first pixels."""
    parts, count = np.full(mask.shape, NOTHING), 0
    for value in sorted(set(mask.ravel().tolist()) - {UNLABELLED}):
        found, more = ndimage.label(mask == value)
        parts, count = np.where(found > 0, found + count - 1, parts), count + more
    order = [part for part in dict.fromkeys(parts.ravel().tolist()) if part >= 0]
    table = np.full(count + 1, NOTHING)
    table[order] = np.arange(count)
    return table[parts]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 90), st.integers(1, 30), st.integers(1, 5), st.floats(0, 0.3), st.integers(0, 2**32 - 1), st.data()
)
def test_regions_of_pixels_are_those_of_a_flood(
    height: int, width: int, grain: int, salt: float, seed: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    ids = np.array([0, 1, 2, UNLABELLED], np.uint8)
    mask = rng.choice(ids, (height, width)).repeat(grain, 0).repeat(grain, 1)
    mask = np.where(rng.random(mask.shape) < salt, rng.choice(ids, mask.shape), mask)
    edges, wanted = find_edges(coverage_of(mask)), flooded(mask)
    np.testing.assert_array_equal(edges.regions(0, len(mask)), wanted)
    first = data.draw(st.integers(0, len(mask) - 1))
    rows = data.draw(st.integers(1, len(mask) - first))
    np.testing.assert_array_equal(edges.regions(first, rows), wanted[first : first + rows])


@pytest.mark.parametrize("strip_rows", [1, 50, 512])
def test_blocks_of_regions_cover_all_once(monkeypatch, strip_rows: int) -> None:
    monkeypatch.setattr(zones, "STRIP_ROWS", strip_rows)
    found = np.full(PATCHES.shape, -2)
    for window, regions in blocks_of_regions(coverage_of(PATCHES)):
        assert (found[window.toslices()] == -2).all()
        found[window.toslices()] = regions
    np.testing.assert_array_equal(found, flooded(PATCHES))


def test_borders_within_a_region_do_not_matter() -> None:
    apart = coverage_of(np.array([[0, 1, 2], [0, 1, 1]], np.uint8))
    joined = replace(apart, region=np.where(apart.region == 1, 0, apart.region))
    assert find_edges(joined).regions(0, 2).tolist() == [[0, 0, 2], [0, 0, 0]]


def confidence(make_raster, values: np.ndarray, scale: float = 1, offset: float = 0, **profile: object) -> str:
    path = make_raster("confidence.tif", values, **profile)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (scale,), (offset,)
    return str(path)


def expected(mask: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(mean, minimum, 10th percentile) of each region, NaN not counted."""
    region = flooded(mask)
    rows = []
    for number in range(region.max() + 1):
        held = values[(region == number) & ~np.isnan(values)]
        rows.append((held.mean(), held.min(), np.percentile(held, 10)) if len(held) else (np.nan,) * 3)
    return np.array(rows).T


@pytest.mark.parametrize("strip_rows", [1, 7, 64, 512])
@pytest.mark.parametrize("slice_px", [100, 1 << 19])
def test_probabilities_in_bytes_are_exact(make_raster, monkeypatch, strip_rows: int, slice_px: int) -> None:
    monkeypatch.setattr(zones, "SLICE_PX", slice_px)
    steps = np.random.default_rng(1).integers(0, 251, PATCHES.shape, dtype=np.uint8)
    steps[::5, ::3] = 255
    path = confidence(make_raster, steps, 0.004, nodata=255)
    found = confidence_columns(coverage_of(PATCHES), path, strip_rows)
    assert list(found) == ["confidence_mean", "confidence_min", "confidence_p10"]
    wanted = expected(PATCHES, np.where(steps == 255, np.nan, steps * 0.004))
    np.testing.assert_allclose(list(found.values()), wanted, rtol=0, atol=6e-7)
    assert found["confidence_min"][0] == round(wanted[1, 0], 3)  # no noise of floats behind it


@pytest.mark.parametrize(("dtype", "scale", "offset"), [("int16", 0.001, -3.5), ("int16", -1, 0), ("uint16", 1, 0)])
def test_whole_numbers_are_exact(make_raster, dtype: str, scale: float, offset: float) -> None:
    stored = np.random.default_rng(2).integers(np.iinfo(dtype).min, np.iinfo(dtype).max, PATCHES.shape).astype(dtype)
    found = confidence_columns(coverage_of(PATCHES), confidence(make_raster, stored, scale, offset))
    np.testing.assert_allclose(list(found.values()), expected(PATCHES, stored * scale + offset), atol=1e-4)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-40, 100), (1000, 1001)])
def test_fractions_are_good_to_a_thousandth_of_their_range(make_raster, low: float, high: float) -> None:
    values = np.random.default_rng(2).uniform(low, high, PATCHES.shape).astype(np.float32)
    values[PATCHES == 1] = np.nan
    found = confidence_columns(coverage_of(PATCHES), confidence(make_raster, values))
    np.testing.assert_allclose(list(found.values()), expected(PATCHES, values), rtol=0, atol=(high - low) / 5000)


@pytest.mark.parametrize("value", [0, 0.7, 1, -3])
def test_one_fraction_everywhere_comes_back(make_raster, value: float) -> None:
    path = confidence(make_raster, np.full(PATCHES.shape, value, np.float32))
    for column in confidence_columns(coverage_of(PATCHES), path).values():
        assert set(column.tolist()) == {value}


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_polygons_without_a_value_have_none_and_are_counted(make_raster, caplog, dtype: str) -> None:
    mask = np.array([[0, 0, 1, 1]], np.uint8)
    found = confidence_columns(coverage_of(mask), confidence(make_raster, np.array([[9, 9, 3, 5]], dtype), nodata=9))
    np.testing.assert_array_equal(found["confidence_mean"], [np.nan, 4])
    assert "has no value in 1 of 2 polygons" in caplog.text
    nothing = confidence_columns(coverage_of(mask), confidence(make_raster, np.full((1, 4), 9, dtype), nodata=9))
    assert np.isnan(list(nothing.values())).all()


def test_nothing_has_empty_columns(make_raster) -> None:
    nothing = coverage_of(np.full((5, 6), UNLABELLED, np.uint8))
    found = confidence_columns(nothing, confidence(make_raster, np.ones((5, 6), np.uint8)))
    assert [len(column) for column in found.values()] == [0, 0, 0]
    assert find_edges(nothing).regions(0, 5).tolist() == [[NOTHING] * 6] * 5


def test_another_grid_is_said_and_the_nearest_pixel_counts(make_raster, caplog) -> None:
    mask = np.zeros((6, 6), np.uint8)
    mask[:, 3:] = 1
    coarse = confidence(
        make_raster, np.array([[10, 20], [30, 40]], np.uint8), transform=HALF_METRE @ Affine.scale(3), nodata=0
    )
    with caplog.at_level("INFO"):
        found = confidence_columns(coverage_of(mask), coarse)
    assert found["confidence_mean"].tolist() == [20, 30]
    assert "other pixels than the masks" in caplog.text


def test_a_larger_raster_of_the_same_lattice_is_read_in_place(make_raster, caplog) -> None:
    values = np.arange(100, dtype=np.uint8).reshape(10, 10)
    path = confidence(make_raster, values, transform=HALF_METRE @ Affine.translation(-3, -2))
    with caplog.at_level("INFO"):
        found = confidence_columns(coverage_of(np.zeros((2, 2), np.uint8)), path)
    assert found["confidence_min"].tolist() == [23]
    assert not caplog.text


def test_several_rasters_are_one_confidence(make_raster, tmp_path: Path) -> None:
    make_raster("c/a.tif", np.full((2, 2), 5, np.uint8))
    make_raster("c/b.tif", np.full((2, 2), 7, np.uint8), transform=HALF_METRE @ Affine.translation(2, 0))
    found = confidence_columns(coverage_of(np.array([[0, 0, 1, 1]] * 2, np.uint8)), str(tmp_path / "c"))
    assert found["confidence_mean"].tolist() == [5, 7]


def test_rasters_of_different_scales_are_one_confidence(make_raster, tmp_path: Path) -> None:
    for name, scale, col in (("a", 0.004, 0), ("b", 40, 2)):
        path = make_raster(
            f"c/{name}.tif", np.full((2, 2), 250, np.uint8), transform=HALF_METRE @ Affine.translation(col, 0)
        )
        with rasterio.open(path, "r+") as dataset:
            dataset.scales = (scale,)
    found = confidence_columns(coverage_of(np.array([[0, 0, 1, 1]] * 2, np.uint8)), str(tmp_path / "c"))
    assert found["confidence_mean"].tolist() == [1, 10_000]


def test_rasters_that_are_no_confidence_are_refused(make_raster) -> None:
    coverage = coverage_of(np.zeros((4, 4), np.uint8))
    ones = np.ones((4, 4), np.uint8)
    far = make_raster("far.tif", ones, transform=Affine.translation(9000, 0) @ HALF_METRE)
    with pytest.raises(RssegError, match=r"far\.tif: shares no ground"):
        confidence_columns(coverage, str(far))
    with pytest.raises(RssegError, match=r"rgb\.tif: has 3 bands; a confidence has one"):
        confidence_columns(coverage, str(make_raster("rgb.tif", np.stack([ones] * 3))))
    labels = make_raster("labels.tif", ones)
    with rasterio.open(labels, "r+") as dataset:
        dataset.write_colormap(1, {1: (1, 2, 3, 255)})
    with pytest.raises(RssegError, match=r"labels\.tif: is a label map"):
        confidence_columns(coverage, str(labels))
    with pytest.raises(RssegError, match="no coordinate system"):
        confidence_columns(coverage, str(make_raster("bare.tif", ones, crs=None, transform=None)))


@pytest.mark.parametrize("strip_rows", [1, 3, 512])
def test_each_region_names_the_masks_it_comes_from(make_raster, strip_rows: int) -> None:
    west = make_raster("west.tif", np.array([[1, 1, 1], [2, 2, 2], [1, 2, 255]], np.uint8), nodata=255)
    east = make_raster(
        "east.tif", np.array([[1, 2], [1, 1], [2, 1]], np.uint8), transform=HALF_METRE @ Affine.translation(2, 0)
    )
    masks = open_masks([str(west), str(east)])
    coverage = polygonize(masks.labels)
    # 1 1 1 2
    # 2 2 1 1
    # 1 2 2 1
    assert source_column(coverage, masks, strip_rows).to_pylist() == ["west, east", "east", "west, east", "west"]


def test_of_one_mask_all_regions_come(make_raster) -> None:
    masks = open_masks([str(make_raster("only.tif", PATCHES, nodata=255))])
    found = source_column(polygonize(masks.labels), masks)
    assert set(found.to_pylist()) == {"only"}
    assert len(found) == flooded(PATCHES).max() + 1
