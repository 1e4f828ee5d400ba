"""Label maps as polygons, held against GDAL's and against the pixels they came from."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import shapely
from affine import Affine
from coverages import NORTH_UP, drawn, geometries, labels_of, masks
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize, shapes
from shapely.geometry import shape

from rsseg_cli.classes import UNLABELLED
from rsseg_cli.errors import RssegError
from rsseg_cli.raster.grid import apply
from rsseg_cli.vector import coverage as module
from rsseg_cli.vector import polygons
from rsseg_cli.vector.coverage import Coverage, polygonize
from rsseg_cli.vector.polygons import from_wkb, outline_batches, outlines, to_wkb

SOUTH_UP = Affine(0.5, 0, 400_000, 0, 0.5, 5_400_000)
ROTATED = NORTH_UP @ Affine.rotation(33) @ Affine.shear(5)
TURNED_OVER = Affine(0, 3, 7, 3, 0, -7)
TRANSFORMS = [NORTH_UP, SOUTH_UP, ROTATED, TURNED_OVER]


AWKWARD = {
    "one pixel": drawn("0"),
    "nothing": drawn("..", ".."),
    "nothing around": drawn("...", ".5.", "..."),
    "chessboard": drawn("0101", "1010", "0101"),
    "a hole that touches the shell": drawn("1110", "1011", "0111"),
    "holes that touch": drawn("00000", "01000", "00100", "00010", "00000"),
    "holes that touch around an island": drawn("0000000", "0001000", "0010100", "0001000", "0000000"),
    "tips of two regions": drawn("011", "101", "110"),
    "hole in an island in a hole": drawn("0000000", "0111110", "0100010", "0101010", "0100010", "0111110", "0000000"),
    "holes side by side": drawn("00000000", "01011010", "00000010", "01101000", "00000000"),
    "spiral": drawn("0000000", "0111110", "0100010", "0101010", "0101110", "0100000", "0111111"),
    "four in a corner": drawn("01", "23"),
    "nothing meets at its tips": drawn("0.", ".0"),
}


def normalised(polygons: Sequence[shapely.Geometry], ids: Sequence[int]) -> set[tuple[int, bytes]]:
    wkb = shapely.to_wkb(shapely.normalize(np.asarray(polygons, object)))
    return set(zip([int(v) for v in ids], wkb.tolist(), strict=True))


def check_against_pixels(mask: np.ndarray) -> None:
    coverage = polygonize(labels_of(mask))
    found = geometries(coverage, corners_only=True)
    theirs = list(shapes(mask, mask=mask != UNLABELLED, connectivity=4, transform=NORTH_UP))
    assert len(found) == len(theirs)
    assert normalised(found, coverage.ids.tolist()) == normalised(
        [shape(outline) for outline, _ in theirs], [value for _, value in theirs]
    )
    assert shapely.is_valid(found).all()
    assert shapely.is_ccw(shapely.get_exterior_ring(found)).all()
    assert (shapely.area(found) / 0.25 == coverage.pixels).all()
    if len(found):
        burnt = rasterize(
            zip(found, coverage.ids.tolist(), strict=True), mask.shape, UNLABELLED, transform=NORTH_UP, dtype="uint8"
        )
        np.testing.assert_array_equal(burnt, mask)


@settings(max_examples=200, deadline=None)
@given(masks())
def test_polygons_are_those_of_gdal_and_give_the_pixels_back(mask: np.ndarray) -> None:
    check_against_pixels(mask)


@pytest.mark.parametrize("mask", AWKWARD.values(), ids=AWKWARD.keys())
def test_awkward_masks(mask: np.ndarray) -> None:
    check_against_pixels(mask)


def test_large_regions_wound_into_one_another() -> None:
    y, x = np.mgrid[-300:300, -300:300]
    arms = (np.arctan2(y, x) * 3 / np.pi + np.hypot(x, y) / 20).astype(int) % 3
    check_against_pixels(arms.astype(np.uint8))


@settings(max_examples=40, deadline=None)
@given(masks(), st.integers(1, 70))
def test_any_strips_give_the_same(mask: np.ndarray, strip_rows: int) -> None:
    whole, stripped = polygonize(labels_of(mask)), polygonize(labels_of(mask), strip_rows)
    assert all(np.array_equal(one, other) for one, other in zip(arrays(whole), arrays(stripped), strict=True))


def arrays(coverage: Coverage) -> Iterator[np.ndarray]:
    for part in (coverage, coverage.lines, coverage.rings):
        yield from (value for value in vars(part).values() if isinstance(value, np.ndarray))


@settings(max_examples=30, deadline=None)
@given(masks(), st.sampled_from(TRANSFORMS))
def test_every_grid_is_followed_exactly(mask: np.ndarray, transform: Affine) -> None:
    placed = geometries(polygonize(labels_of(mask, transform)), corners_only=True)
    in_pixels = geometries(polygonize(labels_of(mask, Affine.identity())), corners_only=True)
    moved = shapely.transform(in_pixels, lambda xy: np.stack(apply(transform, *xy.T), axis=1))
    assert normalised(placed, range(len(placed))) == normalised(moved, range(len(moved)))
    assert shapely.is_ccw(shapely.get_exterior_ring(placed)).all()


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("mask", AWKWARD.values(), ids=AWKWARD.keys())
def test_with_all_nodes_neighbours_share_their_points(mask: np.ndarray, transform: Affine) -> None:
    found = geometries(polygonize(labels_of(mask, transform)), corners_only=False)
    assert shapely.coverage_is_valid(found)
    assert shapely.is_valid(found).all()


def test_neighbours_still_fit_after_the_points_of_arcs_were_moved() -> None:
    rng = np.random.default_rng(5)
    mask = rng.integers(0, 3, (12, 12)).astype(np.uint8).repeat(3, 0).repeat(3, 1)
    exact = polygonize(labels_of(mask))
    lines = exact.lines
    is_end = np.zeros(len(lines.x), bool)
    is_end[lines.offsets[:-1]] = is_end[lines.offsets[1:] - 1] = True
    x, y = (np.where(is_end, points, points + rng.uniform(-0.3, 0.3, len(points))) for points in (lines.x, lines.y))
    moved = geometries(replace(exact, lines=replace(lines, x=x, y=y)), corners_only=False)
    assert shapely.is_valid(moved).all()
    assert shapely.coverage_is_valid(moved)
    assert np.mean(shapely.area(moved) != exact.pixels / 4) > 0.5
    assert len(shapely.coverage_union_all(moved).interiors) == 0


def test_regions_come_in_the_order_of_their_first_pixels() -> None:
    coverage = polygonize(labels_of(drawn("2211", "2001", "3301")))
    assert coverage.ids.tolist() == [2, 1, 0, 3]
    assert coverage.pixels.tolist() == [3, 4, 3, 2]


def test_wkb_is_shapelys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polygons, "BATCH", 5)
    mask = np.random.default_rng(2).choice(np.array([0, 0, 0, 1], np.uint8), (30, 30))
    for batch in outline_batches(polygonize(labels_of(mask)), corners_only=True):
        kind, parts = shapely.GeometryType.POLYGON, (batch.rings, batch.polygons)
        assert to_wkb(batch)[1].tobytes() == b"".join(shapely.to_wkb(shapely.from_ragged_array(kind, batch.xy, parts)))


def test_what_was_written_as_wkb_is_read_again() -> None:
    for mask in (AWKWARD["holes that touch"], AWKWARD["four in a corner"]):
        (batch,) = outline_batches(polygonize(labels_of(mask)), corners_only=True)
        offsets, data = to_wkb(batch)
        again = from_wkb([data[begin:end].tobytes() for begin, end in pairwise(offsets)])
        for one, other in zip(vars(batch).values(), vars(again).values(), strict=True):
            np.testing.assert_array_equal(one, other)


def test_some_regions_alone() -> None:
    coverage = polygonize(labels_of(AWKWARD["hole in an island in a hole"]))
    assert len(coverage) == 4
    for region, wanted in enumerate(geometries(coverage, corners_only=True)):
        only = outlines(coverage, region, region + 1, corners_only=True)
        offsets, data = to_wkb(only)
        assert data[: offsets[-1]].tobytes() == shapely.to_wkb(wanted)


def test_more_corners_than_can_be_counted_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CORNERS", 8)
    with pytest.raises(RssegError, match=r"mask\.tif: .* more than 8 corners") as refused:
        polygonize(labels_of(drawn("01", "23")))
    assert "filter" in refused.value.hint


def test_more_corners_than_memory_holds_are_refused_before_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "free_memory", lambda: 8 * module.BYTES_A_CORNER)
    with pytest.raises(RssegError, match="memory"):
        polygonize(labels_of(drawn("01", "23")))
    assert len(polygonize(labels_of(drawn("0")))) == 1
