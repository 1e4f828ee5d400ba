import numpy as np
import pyarrow
import pytest
import shapely
from affine import Affine
from coverages import Pixels
from rasterio.crs import CRS

from rsseg_cli.classes import UNLABELLED, ClassScheme
from rsseg_cli.errors import RssegError
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.labels import Labels
from rsseg_cli.vector import polygons
from rsseg_cli.vector.coverage import Coverage, polygonize
from rsseg_cli.vector.table import attributes, features_of, projected, to_frame
from rsseg_cli.vector.uids import uids

SCHEME = ClassScheme.of_names([("water", (0,), None), ("forêt", (2,), None)])
MASK = np.random.default_rng(5).choice(np.array([0, 2, UNLABELLED], np.uint8), (20, 30))


def coverage_of(mask: np.ndarray, crs: CRS | None) -> Coverage:
    grid = Grid(crs, Affine(2, 0, 400_000, 0, -2, 5_400_000), *mask.shape)
    return polygonize(Labels("mask.tif", grid, SCHEME, Pixels(mask)))


def test_every_polygon_has_its_uid_class_and_size() -> None:
    coverage = coverage_of(MASK, CRS.from_epsg(32633))
    found = attributes(coverage, SCHEME)
    assert list(found) == ["uid", "class_id", "class_name", "area_m2", "perimeter_m"]
    assert [int(text, 16) for text in found["uid"].to_pylist()] == uids(coverage, coverage.ids).tolist()
    assert found["class_id"].to_pylist() == coverage.ids.tolist()
    assert found["class_name"].to_pylist() == [{0: "water", 2: "forêt"}[number] for number in coverage.ids.tolist()]
    assert found["area_m2"].to_pylist() == (coverage.pixels * 4).tolist()


def test_without_a_crs_units_are_pixels() -> None:
    found = attributes(coverage_of(np.zeros((3, 2), np.uint8), None), SCHEME)
    assert found["area_px"].to_pylist() == [6]
    assert found["perimeter_px"].to_pylist() == [10]


def test_rows_keep_together_over_batches_however_often_they_are_read(monkeypatch) -> None:
    monkeypatch.setattr(polygons, "BATCH", 7)
    coverage = coverage_of(MASK, CRS.from_epsg(32633))
    features = features_of(coverage, attributes(coverage, SCHEME), corners_only=True)
    first, again = (pyarrow.Table.from_batches(features.batches()) for _ in range(2))
    assert first == again
    assert first.schema == features.schema
    assert len(first) == len(coverage) == features.rows
    outlines = shapely.from_wkb(first["geom"].to_pylist())
    assert shapely.area(outlines).tolist() == first["area_m2"].to_pylist()
    assert first["uid"].to_pylist() == attributes(coverage, SCHEME)["uid"].to_pylist()
    assert shapely.get_num_coordinates(outlines).sum() <= features.vertices + 2 * len(coverage)


def test_nothing_has_columns_of_the_same_types() -> None:
    some, none = (coverage_of(mask, None) for mask in (MASK, np.full_like(MASK, UNLABELLED)))
    schemas = [features_of(c, attributes(c, SCHEME), corners_only=True).schema for c in (some, none)]
    assert isinstance(schemas[0], pyarrow.Schema)
    assert schemas[0] == schemas[1]


@pytest.mark.parametrize("crs", [CRS.from_epsg(32633), None])
@pytest.mark.parametrize("mask", [MASK, np.full_like(MASK, UNLABELLED)])
def test_a_frame_holds_all_that_is_known(mask: np.ndarray, crs: CRS | None) -> None:
    coverage = coverage_of(mask, crs)
    columns = attributes(coverage, SCHEME)
    frame = to_frame(features_of(coverage, columns, corners_only=True))
    assert frame.columns.tolist() == [*columns, "geometry"]
    assert frame.crs == crs
    assert frame["uid"].tolist() == columns["uid"].to_pylist()
    assert frame["class_id"].dtype == np.int32
    np.testing.assert_array_equal(frame.area, coverage.pixels * 4)


def test_points_where_neighbours_meet_are_kept_on_demand() -> None:
    coverage = coverage_of(np.array([[1, 1], [2, 3]], np.uint8), None)
    for corners_only, points in ((False, [6, 5, 5]), (True, [5, 5, 5])):
        frame = to_frame(features_of(coverage, {}, corners_only=corners_only))
        assert frame.geometry.count_coordinates().tolist() == points


def test_classes_have_the_numbers_that_the_map_had() -> None:
    scheme = ClassScheme.of_values([111, 211, 70_000])
    assert scheme.ids == (0, 1, 2)
    coverage = coverage_of(np.array([[0, 0, 1, 2]], np.uint8), None)
    found = attributes(coverage, scheme)
    assert found["class_id"].to_pylist() == [111, 211, 70_000]
    # A part of the map in which other classes occur gives its polygons the same names.
    part = attributes(coverage_of(np.full((1, 4), 111, np.uint8), None), ClassScheme.of_values([111]))
    assert part["uid"].to_pylist() == found["uid"].to_pylist()[:1]


def test_in_another_crs_neighbours_still_fit(monkeypatch) -> None:
    monkeypatch.setattr(polygons, "BATCH", 7)
    coverage = coverage_of(MASK, CRS.from_epsg(32633))
    columns = attributes(coverage, SCHEME)
    at_home = to_frame(features_of(coverage, columns, corners_only=False))
    features = projected(features_of(coverage, columns, corners_only=False), CRS.from_epsg(4326))
    moved = to_frame(features)
    assert features.crs == moved.crs == CRS.from_epsg(4326)
    assert shapely.coverage_is_valid(moved.geometry.to_numpy())
    assert moved.is_valid.all()
    assert moved.geometry.count_coordinates().tolist() == at_home.geometry.count_coordinates().tolist()
    assert moved.to_crs(32633).geometry.geom_equals_exact(at_home.geometry, 1e-6).all()
    assert moved["area_m2"].tolist() == at_home["area_m2"].tolist()


def test_the_own_crs_is_no_other_one() -> None:
    coverage = coverage_of(MASK, CRS.from_epsg(32633))
    features = features_of(coverage, {}, corners_only=True)
    assert projected(features, CRS.from_epsg(32633)) is features


def test_without_a_crs_there_is_no_other_one() -> None:
    coverage = coverage_of(MASK, None)
    with pytest.raises(RssegError, match="no CRS cannot be brought to EPSG:4326"):
        projected(features_of(coverage, {}, corners_only=True), CRS.from_epsg(4326))
