"""Lines without staircases: the regions of the pixels, neither overlapping nor apart, and straight where they were."""

import numpy as np
import pytest
import shapely
from affine import Affine
from coverages import NORTH_UP, PIXEL_M2, drawn, geometries, in_pixels, labels_of, masks
from hypothesis import example, given, settings
from rasterio.features import rasterize

from rsseg_cli.classes import UNLABELLED
from rsseg_cli.vector.coverage import Coverage, polygonize
from rsseg_cli.vector.smoothing import smoothed


def smooth(mask: np.ndarray) -> tuple[Coverage, np.ndarray]:
    coverage = in_pixels(smoothed(polygonize(labels_of(mask))))
    return coverage, geometries(coverage)


def painted(shape: shapely.Geometry, height: int = 80, width: int = 80) -> np.ndarray:
    """A mask of what lies inside (1) and outside (0)."""
    return rasterize([(shape, 1)], (height, width), fill=0, transform=Affine.identity(), dtype="uint8")


def turned(shape: shapely.Geometry, degrees: float) -> shapely.Geometry:
    return shapely.affinity.rotate(shape, degrees, origin=(40, 40))


def check_coverage(coverage: Coverage, polygons: np.ndarray, mask: np.ndarray) -> None:
    assert shapely.is_valid(polygons).all()
    assert shapely.coverage_is_valid(polygons)
    frame = shapely.box(0, 0, mask.shape[1], mask.shape[0])
    land = shapely.union_all(polygons)
    pixels = shapely.union_all(geometries(in_pixels(polygonize(labels_of(mask)))))
    assert shapely.difference(land, frame.buffer(1e-9)).area == 0
    for one, other in ((land, pixels), (pixels, land)):  # half a pixel aside, and half a pixel along
        assert shapely.difference(one, other.buffer(0.75)).area == 0
    if not (mask == UNLABELLED).any():
        assert land.area == pytest.approx(frame.area)
        assert shapely.get_num_interior_rings(land) == 0


@settings(max_examples=200, deadline=None)
@given(masks())
@example(drawn("0000.", "00000", "....."))
def test_neither_gaps_nor_overlaps(mask: np.ndarray) -> None:
    coverage, polygons = smooth(mask)
    check_coverage(coverage, polygons, mask)
    assert len(polygons) == len(coverage)
    assert (shapely.area(polygons) >= 0.4).all()


@pytest.mark.parametrize("degrees", [0, 3, 11, 18.4, 26.6, 33, 45, 60, 77, 86.5])
def test_a_straight_edge_is_straight_again(degrees: float) -> None:
    half = turned(shapely.box(-200, 40.3, 280, 300), degrees)
    edge = turned(shapely.LineString([(-200, 40.3), (280, 40.3)]), degrees)
    _, polygons = smooth(painted(half))
    inner = shapely.box(4, 4, 76, 76)
    points = shapely.intersection(shapely.get_exterior_ring(polygons[0]), inner)
    away = shapely.distance(
        shapely.points(shapely.get_coordinates(points)), shapely.intersection(edge, shapely.box(0, 0, 80, 80))
    )
    assert away.max() < 0.4
    drawn_length = shapely.length(points)
    assert drawn_length == pytest.approx(shapely.length(shapely.intersection(edge, inner)), rel=0.01)


@pytest.mark.parametrize(("radius", "part_lost"), [(3, 0.1), (6, 0.05), (12, 0.03), (30, 0.01)])
def test_round_shapes_keep_their_size(radius: float, part_lost: float) -> None:
    disc = shapely.Point(40.3, 39.8).buffer(radius, quad_segs=64)
    _, polygons = smooth(painted(disc))
    blob = polygons[1]
    assert blob.area == pytest.approx(disc.area, rel=part_lost)
    assert blob.length == pytest.approx(disc.length, rel=0.08)
    assert shapely.hausdorff_distance(blob, disc) < 0.8


def test_classes_keep_their_areas() -> None:
    rng = np.random.default_rng(3)
    noise = sum(
        np.kron(rng.standard_normal((300 // px + 1,) * 2), np.ones((px, px)))[:300, :300] * px for px in (5, 12, 30)
    )
    mask = np.digitize(noise, np.quantile(noise, [0.3, 0.6, 0.8])).astype(np.uint8)
    coverage, polygons = smooth(mask)
    shares = np.bincount(coverage.ids, shapely.area(polygons)) / np.bincount(mask.ravel())
    assert np.abs(shares - 1).max() < 0.01


def test_rectangles_and_the_frame_stay_exact() -> None:
    mask = drawn("000000", "010000", "000110", "000110", "000000", "002222")
    coverage, polygons = smooth(mask)
    exact = geometries(in_pixels(polygonize(labels_of(mask))), corners_only=True)
    for number in (1, 2):
        for mine, theirs in zip(polygons[coverage.ids == number], exact[coverage.ids == number], strict=True):
            if theirs.bounds[3] < 6:
                assert shapely.equals(mine, theirs)
    assert shapely.union_all(polygons).equals(shapely.box(0, 0, 6, 6))


def test_drawn_corners_stay_and_few_points_are_left() -> None:
    mask = np.zeros((60, 60), np.uint8)
    mask[10:40, 10:30] = 1
    mask[20:30, 30:50] = 1
    _, polygons = smooth(mask)
    corners = {(10, 10), (30, 10), (30, 20), (50, 20), (50, 30), (30, 30), (30, 40), (10, 40)}
    assert {tuple(point) for point in shapely.get_coordinates(polygons[1])} == corners


@settings(max_examples=30, deadline=None)
@given(masks())
def test_a_mirrored_raster_gives_the_same_polygons(mask: np.ndarray) -> None:
    labels = labels_of(mask, NORTH_UP @ Affine.translation(0, mask.shape[0]) @ Affine.scale(1, -1))
    polygons = geometries(smoothed(polygonize(labels)))
    assert shapely.is_valid(polygons).all()
    assert shapely.is_ccw(shapely.get_exterior_ring(polygons)).all()
    assert shapely.area(polygons).sum() == pytest.approx((mask != UNLABELLED).sum() * PIXEL_M2, rel=0.6)


def test_nothing_comes_of_nothing() -> None:
    coverage, polygons = smooth(np.full((3, 3), UNLABELLED, np.uint8))
    assert len(coverage) == len(polygons) == 0


@pytest.mark.parametrize("strip_rows", [1, 7, 64])
def test_strips_do_not_show(strip_rows: int) -> None:
    mask = np.random.default_rng(0).integers(0, 3, (64, 50)).repeat(3, 0).repeat(3, 1)
    one, other = (smoothed(polygonize(labels_of(mask), rows)) for rows in (512, strip_rows))
    np.testing.assert_array_equal(one.lines.x, other.lines.x)
    np.testing.assert_array_equal(one.lines.y, other.lines.y)
