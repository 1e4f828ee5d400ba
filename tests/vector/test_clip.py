"""Polygons cut along districts: nothing lost, nothing twice, and what is not cut stays as it is."""

import logging
from dataclasses import replace
from typing import Any

import geopandas
import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine
from coverages import Pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS

from rsseg_cli.classes import UNLABELLED, ClassScheme
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.labels import Labels
from rsseg_cli.vector import polygons
from rsseg_cli.vector.clip import split
from rsseg_cli.vector.coverage import Coverage, Lines, polygonize
from rsseg_cli.vector.districts import District
from rsseg_cli.vector.table import Features, attributes, features_of, to_frame

SCHEME = ClassScheme.of_values(range(4))
UTM = CRS.from_epsg(32633)
NORTH_UP = Affine(2, 0, 400_000, 0, -2, 5_400_000)
ROTATED = NORTH_UP @ Affine.rotation(33)
FEET = Affine(2, 0, 980_000, 0, -2, 200_000)
DEGREES = Affine(1e-4, 0, 11, 0, -1e-4, 48)
MASK = np.random.default_rng(7).choice(np.array([0, 1, 2, UNLABELLED], np.uint8), (12, 15)).repeat(3, 0).repeat(4, 1)


def coverage_of(mask: Any, crs: CRS | None, transform: Affine) -> Coverage:
    mask = np.asarray(mask, np.uint8)
    return polygonize(Labels("mask.tif", Grid(crs, transform, *mask.shape), SCHEME, Pixels(mask)))


def features(mask: Any, crs: CRS | None = UTM, transform: Affine = NORTH_UP) -> tuple[Features, Grid]:
    coverage = coverage_of(mask, crs, transform)
    return features_of(coverage, attributes(coverage, SCHEME), corners_only=True), coverage.grid


def bent(coverage: Coverage) -> Coverage:
    """As after smoothing: no point is a whole number any more."""
    x, y = coverage.lines.x, coverage.lines.y
    shift_x, shift_y = 0.2 * np.sin(x + 2.7 * y), 0.2 * np.cos(1.9 * x - y)
    return replace(coverage, lines=Lines(x + shift_x, y + shift_y, coverage.lines.offsets))


def on_grid(grid: Grid, *shapes: shapely.Geometry) -> list[District]:
    """Districts drawn in pixels."""
    a, b, c, d, e, f = grid.transform[:6]
    moved = shapely.transform(np.array(shapes), lambda xy: np.column_stack([xy @ (a, b) + c, xy @ (d, e) + f]))
    return [District(f"d{number}", shape) for number, shape in enumerate(moved)]


def cells(grid: Grid, count: int, seed: int = 1) -> list[District]:
    """Districts that tile the grid, with crooked borders."""
    points = np.random.default_rng(seed).uniform((0, 0), (grid.width, grid.height), (count, 2))
    around = shapely.box(-9, -9, grid.width + 9, grid.height + 9)
    tiles = shapely.get_parts(shapely.voronoi_polygons(shapely.multipoints(points), extend_to=around))
    return on_grid(grid, *shapely.intersection(tiles, around))


def rows_of(part: Features) -> list[dict[str, Any]]:
    return [row for batch in part.batches() for row in batch.to_pylist()]


def size(frame: geopandas.GeoDataFrame) -> str:
    (name,) = (name for name in frame.columns if name.startswith("area_"))
    return str(name)


@pytest.mark.parametrize("transform", [NORTH_UP, ROTATED])
@pytest.mark.parametrize("is_bent", [False, True])
def test_districts_that_tile_the_map_share_all_of_it(transform: Affine, is_bent: bool) -> None:
    exact = coverage_of(MASK, UTM, transform)
    coverage = bent(exact) if is_bent else exact
    found, grid = features_of(coverage, attributes(coverage, SCHEME), corners_only=not is_bent), coverage.grid
    districts = cells(grid, 9)
    parts = [to_frame(part) for part in split(found, districts, grid)]
    whole = to_frame(found)
    assert sum(part["area_m2"].sum() for part in parts) == pytest.approx(whole["area_m2"].sum(), rel=1e-9)
    everything = np.concatenate([part.geometry.to_numpy() for part in parts])
    assert shapely.area(everything).sum() == pytest.approx(shapely.union_all(everything).area, rel=1e-9)
    assert shapely.union_all(everything).area == pytest.approx(whole.area.sum(), rel=1e-9)
    for part, district in zip(parts, districts, strict=True):
        assert set(part.geom_type) == {"Polygon"}
        assert part.is_valid.all()
        assert shapely.area(shapely.difference(part.geometry.to_numpy(), district.geometry)).max() < 1e-6
        wanted = shapely.intersection(shapely.union_all(whole.geometry), district.geometry).area
        assert part.area.sum() == pytest.approx(wanted, rel=1e-9)


def test_pieces_keep_what_is_known_of_the_whole() -> None:
    found, grid = features(MASK)
    whole = to_frame(found).set_index("uid")
    for part in split(found, cells(grid, 5), grid):
        frame = to_frame(part)
        origin = whole.loc[frame["uid"].str.partition("-")[0]]
        assert frame["class_id"].tolist() == origin["class_id"].tolist()
        assert frame["class_name"].tolist() == origin["class_name"].tolist()
        outside = shapely.difference(frame.geometry.to_numpy(), origin.geometry.to_numpy())
        assert shapely.area(outside).max() < 1e-6


def test_what_lies_in_a_district_wholly_goes_there_byte_for_byte() -> None:
    found, grid = features(MASK)
    (left, right) = split(found, on_grid(grid, shapely.box(-1, -1, 21, 99), shapely.box(21, -1, 99, 99)), grid)
    rows = rows_of(found)
    border = grid.transform.c + 42
    for part, lies_in in ((left, lambda w, e: e <= border), (right, lambda w, e: w >= border)):
        bounds = [shapely.from_wkb(row["geom"]).bounds for row in rows]
        wanted = [row for row, (west, _, east, _) in zip(rows, bounds, strict=True) if lies_in(west, east)]
        got = rows_of(part)
        assert len(got) > len(wanted) > 5
        assert [row for row in got if row in rows] == wanted


def test_borders_along_pixels_cut_nothing_that_they_touch() -> None:
    found, grid = features([[0, 0, 1, 1], [0, 1, 1, 1], [0, 2, 1, 1]])
    step = shapely.Polygon([(0, 0), (2, 0), (2, 1), (1, 1), (1, 3), (0, 3)])
    parts = split(found, on_grid(grid, step, shapely.box(0, 0, 4, 3) - step), grid)
    assert [row for part in parts for row in rows_of(part)] == rows_of(found)
    assert [part.rows for part in parts] == [1, 2]


def test_several_pieces_are_numbered_from_north_to_south() -> None:
    mask = np.ones((7, 5))
    mask[1::2, 1:] = UNLABELLED  # a comb: with its spine cut off, four teeth
    mask[:, 4] = 2
    found, grid = features(mask)
    comb = to_frame(found).set_index("class_id")["uid"][1]
    (spine, teeth) = split(found, on_grid(grid, shapely.box(-1, -1, 1, 9), shapely.box(1, -1, 9, 9)), grid)
    assert to_frame(spine)["uid"].tolist() == [comb]
    frame = to_frame(teeth)
    frame = frame[frame["class_id"] == 1]
    assert frame["uid"].tolist() == [f"{comb}-{number}" for number in (1, 2, 3, 4)]
    assert frame.bounds["maxy"].tolist() == [5_400_000 - 4 * row for row in range(4)]
    assert frame["area_m2"].tolist() == [12.0] * 4
    assert frame["perimeter_m"].tolist() == [16.0] * 4


def test_holes_count_in_sizes() -> None:
    mask = np.ones((6, 6))
    mask[2:4, 2:4] = UNLABELLED
    found, grid = features(mask)
    (part,) = split(found, on_grid(grid, shapely.box(-1, 0.5, 9, 9)), grid)
    frame = to_frame(part)
    assert frame["area_m2"].tolist() == [(33 - 4) * 4]
    assert frame["perimeter_m"].tolist() == [(6 + 6 + 5.5 + 5.5 + 8) * 2]
    ring = frame.geometry[0]
    assert ring.exterior.is_ccw
    assert not ring.interiors[0].is_ccw


def test_districts_may_overlap_have_holes_and_lie_apart() -> None:
    found, grid = features(np.ones((10, 10)))
    ring = shapely.box(0, 0, 10, 10) - shapely.box(3, 3, 7, 7)
    islands = shapely.MultiPolygon([shapely.box(1, 1, 2, 2), shapely.box(8, 8, 9, 9)])
    parts = split(found, on_grid(grid, ring, islands), grid)
    assert [to_frame(part)["area_m2"].tolist() for part in parts] == [[84 * 4], [4.0, 4.0]]


@pytest.mark.parametrize(("crs", "unit"), [(CRS.from_epsg(2263), "m"), (None, "px")])
def test_units_are_those_of_the_whole(crs: CRS | None, unit: str) -> None:
    found, grid = features(MASK, crs, *([FEET] if crs else []))
    parts = [to_frame(part) for part in split(found, cells(grid, 4), grid)]
    whole = to_frame(found)
    per_unit = whole[size(whole)].sum() / whole.area.sum()
    for part in parts:
        np.testing.assert_allclose(part[size(part)], part.area * per_unit, rtol=1e-6)
        np.testing.assert_allclose(part[f"perimeter_{unit}"], part.length * per_unit**0.5, rtol=1e-6)


def test_sizes_on_the_ellipsoid() -> None:
    found, grid = features(MASK, CRS.from_epsg(4326), DEGREES)
    parts = [to_frame(part) for part in split(found, cells(grid, 6), grid)]
    geod = pyproj.Geod(ellps="WGS84")
    for part in parts:
        dense = shapely.segmentize(part.geometry.to_numpy(), 1e-4)
        np.testing.assert_allclose(part["area_m2"], [geod.geometry_area_perimeter(p)[0] for p in dense], rtol=1e-6)
        np.testing.assert_allclose(part["perimeter_m"], [geod.geometry_length(p.boundary) for p in dense], rtol=1e-6)
    assert sum(p["area_m2"].sum() for p in parts) == pytest.approx(to_frame(found)["area_m2"].sum(), rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_map_and_any_districts(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    ids = st.lists(st.sampled_from([0, 1, UNLABELLED]), min_size=height * width, max_size=height * width)
    found, grid = features(np.reshape(data.draw(ids), (height, width)))
    parts = split(found, cells(grid, data.draw(st.integers(2, 8)), data.draw(st.integers(0, 99))), grid)
    frames = [to_frame(part) for part in parts]
    total = sum(frame["area_m2"].sum() for frame in frames)
    # What is smaller than a millionth of a pixel was dropped.
    assert total == pytest.approx(to_frame(found)["area_m2"].sum(), rel=1e-9, abs=1e-4)
    for part, frame in zip(parts, frames, strict=True):
        assert len(frame) == part.rows
        assert frame.is_valid.all()
        assert frame["uid"].is_unique
        assert frame.count_coordinates().sum() == part.vertices
        np.testing.assert_allclose(frame["area_m2"], frame.area, rtol=1e-6)


def test_batches_and_repeated_reading_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found, grid = features(MASK)
    districts = cells(grid, 5)
    wanted = [sorted(map(str, to_frame(part).to_wkb().to_numpy().tolist())) for part in split(found, districts, grid)]
    monkeypatch.setattr(polygons, "BATCH", 3)
    for _ in range(2):
        parts = split(found, districts, grid)
        for part, rows in zip(parts, wanted, strict=True):
            assert sorted(map(str, to_frame(part).to_wkb().to_numpy().tolist())) == rows
            assert sorted(map(str, to_frame(part).to_wkb().to_numpy().tolist())) == rows


def test_districts_and_polygons_that_miss_each_other_are_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    found, grid = features([[0, 1, 2, UNLABELLED]])
    here, there = split(found, on_grid(grid, shapely.box(0, 0, 1.5, 1), shapely.box(3, 0, 4, 1)), grid)
    assert (here.rows, there.rows) == (2, 0)
    assert list(there.batches()) == []
    assert there.schema == here.schema == found.schema
    assert caplog.messages == [
        "1 of 3 polygons lie in no district and go to no file",
        "no file for d1: the masks show nothing there",
    ]


def test_an_empty_map_has_nothing_for_any_district() -> None:
    found, grid = features(np.full((4, 4), UNLABELLED))
    assert [part.rows for part in split(found, cells(grid, 3), grid)] == [0, 0, 0]


def test_slivers_of_rounding_are_dropped() -> None:
    found, grid = features([[0, 1]])
    (part,) = split(found, on_grid(grid, shapely.box(-1, -1, 1 + 1e-8, 2)), grid)
    assert to_frame(part)["class_id"].tolist() == [0]
