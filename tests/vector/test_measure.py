"""Sizes of polygons, held against pyproj's and shapely's of outlines with a point at every pixel."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine
from coverages import Pixels
from rasterio.crs import CRS

from rsseg_cli.classes import UNLABELLED, ClassScheme
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.labels import Labels
from rsseg_cli.vector import measure as module
from rsseg_cli.vector.coverage import Coverage, Lines, polygonize
from rsseg_cli.vector.measure import measure, measure_polygons
from rsseg_cli.vector.polygons import Outlines, outlines

UTM = CRS.from_epsg(32633)
US_FEET = CRS.from_epsg(2263)
FOOT_M = 1200 / 3937
NORTH_UP = Affine(0.3, 0, 400_000, 0, -0.3, 5_400_000)
ROTATED = NORTH_UP @ Affine.rotation(33) @ Affine.shear(5)
SOUTH_UP = Affine(0.5, 0, 400_000, 0, 0.5, 5_400_000)
MASK = np.random.default_rng(3).choice(np.array([0, 1, 2, UNLABELLED], np.uint8), (20, 30)).repeat(2, 0).repeat(3, 1)


def coverage_of(mask: Any, crs: CRS | None, transform: Affine) -> Coverage:
    mask = np.asarray(mask, np.uint8)
    return polygonize(
        Labels("mask.tif", Grid(crs, transform, *mask.shape), ClassScheme.of_values(range(9)), Pixels(mask))
    )


def polygons_of(coverage: Coverage, *, corners_only: bool = True) -> np.ndarray:
    found = outlines(coverage, 0, len(coverage), corners_only=corners_only)
    return np.asarray(shapely.from_ragged_array(shapely.GeometryType.POLYGON, found.xy, (found.rings, found.polygons)))


@pytest.mark.parametrize("transform", [NORTH_UP, ROTATED, SOUTH_UP])
@pytest.mark.parametrize(("crs", "unit_m"), [(UTM, 1), (US_FEET, FOOT_M)])
def test_projected_sizes_are_those_of_the_coordinates_in_metres(transform: Affine, crs: CRS, unit_m: float) -> None:
    coverage = coverage_of(MASK, crs, at_home(crs, transform))
    sizes, found = measure(coverage), polygons_of(coverage)
    assert sizes.unit == "m"
    np.testing.assert_allclose(sizes.areas, shapely.area(found) * unit_m**2, rtol=1e-6)
    np.testing.assert_allclose(sizes.perimeters, shapely.length(found) * unit_m, rtol=1e-6)


def at_home(crs: CRS | None, transform: Affine) -> Affine:
    """Moved to where the CRS is true to scale."""
    return Affine.translation(580_000, -5_200_000) @ transform if crs == US_FEET else transform


@pytest.mark.parametrize(("top", "off"), [(0, 0.01), (6_000_000, 1e-3), (-9_000_000, 1e-3)])
def test_where_a_projection_stretches_the_ground_counts(top: float, off: float) -> None:
    """As `segment` counts it, and as pyproj measures it."""
    mask = np.kron(np.random.default_rng(0).integers(0, 3, (20, 15), np.uint8), np.ones((40, 40), np.uint8))
    coverage = coverage_of(mask, CRS.from_epsg(3857), Affine(100, 0, 1_000_000, 0, -100, top))
    sizes = measure(coverage)
    by_row = coverage.grid.row_areas()
    for number in range(3):
        assert sizes.areas[coverage.ids == number].sum() == pytest.approx((mask == number).sum(axis=1) @ by_row)
    to_lonlat = pyproj.Transformer.from_crs(3857, 4326, always_xy=True)
    geod = pyproj.Geod(ellps="WGS84")
    for region in np.argsort(-sizes.areas)[:5]:
        dense = shapely.segmentize(polygons_of(coverage)[region], 100)
        on_earth = shapely.transform(dense, to_lonlat.transform, interleaved=False)
        area, _ = geod.geometry_area_perimeter(on_earth)
        assert sizes.areas[region] == pytest.approx(abs(area), rel=off)
        assert sizes.perimeters[region] == pytest.approx(geod.geometry_length(on_earth.boundary), rel=off)


@pytest.mark.parametrize("transform", [NORTH_UP, ROTATED])
def test_projected_areas_are_pixels_counted(transform: Affine) -> None:
    coverage = coverage_of(MASK, UTM, transform)
    np.testing.assert_allclose(measure(coverage).areas, coverage.pixels * abs(transform.determinant), rtol=1e-14)


def test_without_a_crs_pixels_count() -> None:
    sizes = measure(coverage_of([[1, 1, 1], [1, 2, 1], [1, 1, 1]], None, NORTH_UP))
    assert (sizes.areas.tolist(), sizes.perimeters.tolist(), sizes.unit) == ([8, 1], [16, 4], "px")


# Near the equator, middle latitudes, the south, not far from a pole; on WGS 84, in grads on Clarke's, and on a sphere.
@pytest.mark.parametrize("lat", [0.01, 48.0, -33.0, 89.0])
@pytest.mark.parametrize(("epsg", "to_degrees"), [(4326, 1.0), (4807, 0.9), (4047, 1.0)])
@pytest.mark.parametrize("turn", [0, 25])
def test_geographic_sizes_are_those_on_the_ellipsoid(lat: float, epsg: int, to_degrees: float, turn: float) -> None:
    crs = CRS.from_epsg(epsg)
    transform = (
        Affine.translation(11 / to_degrees, lat / to_degrees) @ Affine.rotation(turn) @ Affine.scale(2e-4, -1e-4)
    )
    coverage = coverage_of(MASK, crs, transform)
    sizes = measure(coverage)
    geod = pyproj.CRS(crs.to_wkt()).get_geod()
    # Geodesics leave parallels: with a point at each half pixel, by nothing that counts.
    dense = shapely.segmentize(polygons_of(coverage), 1e-4)
    in_degrees = shapely.transform(dense, lambda xy: xy * to_degrees)
    theirs = np.array([geod.geometry_area_perimeter(polygon) for polygon in in_degrees])
    np.testing.assert_allclose(sizes.areas, np.abs(theirs[:, 0]), rtol=1e-6)
    np.testing.assert_allclose(sizes.perimeters, theirs[:, 1], rtol=1e-6)


def test_small_pixels_keep_their_digits() -> None:
    step = 1e-7  # about a centimetre
    coverage = coverage_of([[1, 2], [2, 1]], CRS.from_epsg(4326), Affine(step, 0, 11, 0, -step, 48))
    geod = pyproj.Geod(ellps="WGS84")
    across, down = (
        geod.line_length([11, 11 + 1e-3], [48, 48]) * 1e-4,
        geod.line_length([11, 11], [48, 48 - 1e-3]) * 1e-4,
    )
    np.testing.assert_allclose(measure(coverage).areas, across * down, rtol=1e-5)


@pytest.mark.parametrize("beyond", [0, 0.5])
def test_the_whole_earth(beyond: float) -> None:
    """Also where the first and the last pixels have their centres on the poles."""
    coverage = coverage_of(
        np.ones((180, 360)), CRS.from_epsg(4326), Affine(1, 0, -180, 0, -1 - beyond / 90, 90 + beyond)
    )
    geod = pyproj.Geod(ellps="WGS84")
    assert measure(coverage).areas == pytest.approx([510_065_621.724e6], rel=1e-9)
    meridian_m = geod.line_length([0, 0], [-90, 90])
    assert measure(coverage).perimeters == pytest.approx([2 * meridian_m], rel=1e-9)


@pytest.mark.parametrize(
    ("crs", "transform"), [(UTM, ROTATED), (CRS.from_epsg(4326), Affine(1e-4, 0, 11, 0, -1e-4, 48))]
)
def test_lines_that_were_moved_are_measured_where_they_are(crs: CRS, transform: Affine) -> None:
    coverage = coverage_of(MASK, crs, transform)
    inner = np.ones(len(coverage.lines.x), bool)
    inner[coverage.lines.offsets[:-1]] = inner[coverage.lines.offsets[1:] - 1] = False
    x, y = coverage.lines.x + 0.21 * inner, coverage.lines.y - 0.13 * inner
    moved = replace(coverage, lines=Lines(x, y, coverage.lines.offsets))
    sizes, found = measure(moved), polygons_of(moved, corners_only=False)
    if crs.is_projected:
        wanted = np.array([shapely.area(found), shapely.length(found)]).T
    else:
        dense = shapely.segmentize(found, 1e-5)
        wanted = np.array([pyproj.Geod(ellps="WGS84").geometry_area_perimeter(polygon) for polygon in dense])
    np.testing.assert_allclose(np.array([sizes.areas, sizes.perimeters]).T, wanted, rtol=1e-6)


@pytest.mark.parametrize("points", [1, 7, 64])
def test_slices_change_nothing(points: int, monkeypatch: pytest.MonkeyPatch) -> None:
    coverage = coverage_of(MASK, UTM, NORTH_UP)
    wanted = measure(coverage)
    monkeypatch.setattr(module, "SLICE_POINTS", points)
    found = measure(coverage)
    assert found.areas.tolist() == wanted.areas.tolist()
    assert found.perimeters.tolist() == wanted.perimeters.tolist()


@pytest.mark.parametrize("crs", [UTM, CRS.from_epsg(4326), None])
def test_nothing_has_no_sizes(crs: CRS | None) -> None:
    sizes = measure(coverage_of(np.full((4, 5), UNLABELLED), crs, NORTH_UP))
    assert len(sizes.areas) == len(sizes.perimeters) == 0


# --- polygons that are no coverage


@pytest.mark.parametrize("transform", [NORTH_UP, ROTATED, SOUTH_UP])
@pytest.mark.parametrize("crs", [UTM, US_FEET, None])
def test_polygons_of_a_coverage_measure_the_same_without_it(crs: CRS | None, transform: Affine) -> None:
    coverage = coverage_of(MASK, crs, at_home(crs, transform))
    wanted = measure(coverage)
    found = measure_polygons(outlines(coverage, 0, len(coverage), corners_only=True), coverage.grid)
    np.testing.assert_allclose(found.areas, wanted.areas, rtol=1e-6)
    np.testing.assert_allclose(found.perimeters, wanted.perimeters, rtol=1e-6)
    assert found.unit == wanted.unit


@pytest.mark.parametrize("lat", [0.01, 48.0, -33.0])
def test_any_polygon_is_measured_on_the_ellipsoid(lat: float) -> None:
    rng = np.random.default_rng(8)
    discs = shapely.buffer(shapely.points(rng.uniform((11, lat), (11.1, lat + 0.1), (20, 2))), 0.01)
    rings = shapely.orient_polygons(shapely.difference(discs, shapely.buffer(shapely.centroid(discs), 0.004)))
    _, xy, (ends, parts) = shapely.to_ragged_array(rings)
    grid = Grid(CRS.from_epsg(4326), Affine(1e-4, 0, 11, 0, -1e-4, lat + 0.1), 1000, 1000)
    found = measure_polygons(Outlines(xy, ends, parts), grid)
    geod = pyproj.Geod(ellps="WGS84")
    dense = shapely.segmentize(rings, 1e-4)
    areas, lengths = (
        [geod.geometry_area_perimeter(ring)[0] for ring in dense],
        [geod.geometry_length(ring.boundary) for ring in dense],
    )
    np.testing.assert_allclose(found.areas, areas, rtol=1e-6)
    np.testing.assert_allclose(found.perimeters, lengths, rtol=1e-6)
