"""Buildings squared: what becomes of them, and that neighbours still fit whatever the map looks like."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.windows import Window
from scipy.ndimage import gaussian_filter
from shapely.affinity import rotate, translate

from rsseg_cli.classes import UNLABELLED, ClassScheme
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.labels import Labels
from rsseg_cli.vector import regularize as module
from rsseg_cli.vector.chains import offsets_of
from rsseg_cli.vector.coverage import Coverage, Lines, polygonize
from rsseg_cli.vector.polygons import outlines
from rsseg_cli.vector.regularize import regularize

FIELD, WOOD, ROAD, HOUSE, HALL = range(5)
PIXELS = Affine.identity()


class Pixels:
    def __init__(self, ids: np.ndarray) -> None:
        self.ids = ids

    def read(self, window: Window) -> np.ndarray:
        return self.ids[window.row_off : window.row_off + window.height]


def coverage_of(ids: np.ndarray, transform: Affine = PIXELS, crs: CRS | None = None) -> Coverage:
    ids = ids.astype(np.uint8)
    scheme = ClassScheme.of_values(set(ids.ravel().tolist()) - {UNLABELLED})
    return polygonize(Labels("mask.tif", Grid(crs, transform, *ids.shape), scheme, Pixels(ids)))


def polygons_of(coverage: Coverage) -> np.ndarray:
    """In pixels."""
    grid = replace(coverage.grid, transform=PIXELS)
    found = outlines(replace(coverage, grid=grid), 0, len(coverage), corners_only=False)
    return np.asarray(shapely.from_ragged_array(shapely.GeometryType.POLYGON, found.xy, (found.rings, found.polygons)))


def softened(coverage: Coverage) -> Coverage:
    """With lines through the middles of pixels' edges; ends and the raster's corners stay."""
    lines, (height, width) = coverage.lines, coverage.grid.shape
    parts = []
    for begin, end in pairwise(lines.offsets):
        points = lines.x[begin:end] + 1j * lines.y[begin:end]
        is_fixed = np.isin(points.real, (0, width)) & np.isin(points.imag, (0, height))
        is_fixed[[0, -1]] = True
        along = np.append(0, np.cumsum(np.abs(np.diff(points))))
        places = np.sort(np.concatenate([np.arange(0.5, along[-1]), along[is_fixed]]))
        parts.append(np.interp(places, along, points))
    points = np.concatenate(parts)
    sizes = np.array([len(part) for part in parts])
    return replace(coverage, lines=Lines(points.real.copy(), points.imag.copy(), offsets_of(sizes)))


def check_fit(coverage: Coverage, squared: Coverage) -> None:
    before, after = polygons_of(coverage), polygons_of(squared)
    assert shapely.is_valid(after).all()
    assert shapely.coverage_is_valid(after)
    assert (shapely.area(after) > 0).all()
    assert shapely.get_num_interior_rings(after).tolist() == shapely.get_num_interior_rings(before).tolist()
    if coverage.pixels.sum() == np.prod(coverage.grid.shape):
        assert shapely.area(after).sum() == pytest.approx(coverage.pixels.sum())
    assert shapely.hausdorff_distance(before, after).max(initial=0) < 5


def town(seed: int, size: int = 256, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """(a map of rotated houses with frayed edges, in fields and woods and by a road; the houses as built)."""
    rng = np.random.default_rng(seed)
    ids = np.where(gaussian_filter(rng.normal(size=(size, size)), 12) > 0, WOOD, FIELD).astype(np.uint8)
    ids[100:110] = ROAD
    houses: list[shapely.Polygon] = []
    for _ in range(60):
        w, h = rng.uniform(10, 28, 2)
        house = shapely.box(-w / 2, -h / 2, w / 2, h / 2)
        house = house - shapely.box(0, 0, w, h) if min(w, h) > 16 else house
        house = translate(rotate(house, rng.uniform(0, 90), (0, 0)), *rng.uniform(20, size - 20, 2))
        if not houses or shapely.distance(house, houses).min() > 4:
            houses.append(house)
    fine = rasterize(houses, (4 * size, 4 * size), transform=Affine.scale(1 / 4)).astype(np.float64)
    seen = gaussian_filter(fine.reshape(size, 4, size, 4).mean(axis=(1, 3)), 1)
    seen += noise * gaussian_filter(rng.normal(size=seen.shape), 1.5)
    return np.where(seen > 0.5, HOUSE, ids), np.array(houses)


def iou(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.asarray(shapely.area(shapely.intersection(one, other)) / shapely.area(shapely.union(one, other)))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("soft", [True, False])
def test_houses_get_few_corners_and_come_closer_to_what_was_built(seed: int, soft: bool) -> None:
    ids, houses = town(seed)
    coverage = coverage_of(ids)
    coverage = softened(coverage) if soft else coverage
    squared, left = regularize(coverage, {HOUSE})
    check_fit(coverage, squared)
    large = np.flatnonzero((coverage.ids == HOUSE) & (coverage.pixels > 30))
    before, after = polygons_of(coverage)[large], polygons_of(squared)[large]
    changed = ~shapely.equals_exact(before, after, 1e-9)
    assert changed.mean() > 0.85
    assert left == np.count_nonzero(coverage.ids == HOUSE) - changed.sum()
    house, built = shapely.STRtree(houses).query(after[changed], "intersects")
    before, after, built = before[changed][house], after[changed][house], houses[built]
    corners = shapely.get_num_coordinates(shapely.simplify(shapely.get_exterior_ring(after), 1e-6))
    assert (corners == shapely.get_num_coordinates(built)).mean() > 0.9
    assert iou(after, built).mean() > iou(before, built).mean() + 0.01
    assert np.abs(shapely.area(after) / shapely.area(before) - 1).max() < 0.06
    assert shapely.distance(shapely.centroid(after), shapely.centroid(before)).max() < 1


@st.composite
def maps(draw: st.DrawFn) -> np.ndarray:
    """Blobs or boxes at any angle, some with courtyards, and some salt."""
    height, width = draw(st.integers(3, 60)), draw(st.integers(3, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ids = np.array(draw(st.sampled_from([(FIELD, HOUSE), (FIELD, ROAD, HOUSE, HALL), (UNLABELLED, HOUSE, HALL)])))
    grain = draw(st.floats(0.5, 5))
    blobs = gaussian_filter(rng.normal(size=(len(ids), height, width)), (0, grain, grain))
    mask = ids[blobs.argmax(axis=0)].astype(np.uint8)
    for _ in range(draw(st.integers(0, 20))):
        box = shapely.box(0, 0, *rng.uniform(2, 25, 2))
        box = box - box.buffer(-3, join_style="mitre") if rng.random() < 0.2 else box
        box = translate(rotate(box, rng.uniform(0, 90)), rng.uniform(-9, width), rng.uniform(-9, height))
        rasterize([(box, int(rng.choice(ids)))], out=mask)
    salt = draw(st.sampled_from([0, 0.01, 0.2]))
    return np.where(rng.random(mask.shape) < salt, rng.choice(ids, mask.shape), mask)


@settings(max_examples=80, deadline=None)
@given(maps(), st.booleans(), st.sampled_from([{HOUSE}, {HOUSE, HALL}, {FIELD, ROAD, HOUSE, HALL}]))
def test_no_map_tears_or_overlaps(ids: np.ndarray, soft: bool, chosen: set[int]) -> None:
    coverage = coverage_of(ids)
    coverage = softened(coverage) if soft and len(coverage) else coverage
    squared, left = regularize(coverage, chosen)
    assert 0 <= left <= np.isin(coverage.ids, list(chosen)).sum()
    check_fit(coverage, squared)


def test_without_the_search_for_collisions_maps_would_tear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shows that the maps above are crowded enough for the test to fail."""
    monkeypatch.setattr(module, "colliding", lambda *_: set())
    torn = [
        not shapely.is_valid(polygons_of(regularize(coverage_of(town(seed)[0]), {HOUSE})[0])).all() for seed in range(4)
    ]
    assert any(torn)


def house_in(field: np.ndarray, *corners: tuple[float, float], turn: float = 0.0, number: int = HOUSE) -> np.ndarray:
    return np.asarray(rasterize([(rotate(shapely.Polygon(corners), turn), number)], out=field.copy()))


BOX = ((20, 20), (44, 20), (44, 34), (20, 34))


def test_lines_that_do_not_end_at_houses_stay() -> None:
    ids = np.zeros((60, 120), np.uint8)
    ids[:, 70:] = WOOD
    ids[30:40, 90:110] = ROAD
    coverage = softened(coverage_of(house_in(ids, *BOX, turn=25)))
    squared, left = regularize(coverage, {HOUSE})
    assert left == 0
    changed = shapely.symmetric_difference(polygons_of(coverage), polygons_of(squared))
    assert shapely.area(changed)[coverage.ids == WOOD].sum() == 0
    assert shapely.area(changed)[coverage.ids == ROAD].sum() == 0
    assert shapely.area(changed)[coverage.ids == HOUSE].sum() > 1
    assert shapely.get_num_coordinates(polygons_of(squared)[coverage.ids == HOUSE]).tolist() == [5]


def test_borders_that_end_at_a_house_follow_it() -> None:
    ids = np.full((60, 64), FIELD, np.uint8)
    ids[25:] = WOOD
    coverage = softened(coverage_of(house_in(ids, *BOX, turn=25)))
    squared, left = regularize(coverage, {HOUSE})
    assert left == 0
    check_fit(coverage, squared)
    house = polygons_of(squared)[coverage.ids == HOUSE][0]
    assert len(shapely.simplify(house, 1e-9).exterior.coords) == 5
    assert len(house.exterior.coords) == 7  # and the two nodes


def test_houses_at_the_frame_are_left() -> None:
    ids = house_in(np.zeros((60, 64), np.uint8), *((x - 22, y) for x, y in BOX), turn=25)
    coverage = coverage_of(ids)
    squared, left = regularize(coverage, {HOUSE})
    assert left == 1
    assert squared.lines is coverage.lines


def test_of_houses_that_touch_the_larger_one_is_squared() -> None:
    ids = house_in(np.zeros((90, 90), np.uint8), (20, 20), (60, 20), (60, 50), (20, 50), turn=20)
    ids = house_in(ids, (42, 44), (64, 44), (64, 66), (42, 66), turn=20, number=HALL)
    coverage = softened(coverage_of(ids))
    squared, left = regularize(coverage, {HOUSE, HALL})
    assert left == 1
    check_fit(coverage, squared)
    larger = polygons_of(squared)[np.argsort(-coverage.pixels)[1]]
    assert len(shapely.simplify(larger, 1e-9).exterior.coords) <= 7


def test_courtyards_lie_like_the_house_around() -> None:
    ids = house_in(np.zeros((90, 90), np.uint8), (15, 25), (75, 25), (75, 65), (15, 65), turn=30)
    ids = house_in(ids, (33, 37), (57, 37), (57, 53), (33, 53), turn=30, number=WOOD)
    coverage = softened(coverage_of(ids))
    squared, left = regularize(coverage, {HOUSE})
    assert left == 0
    check_fit(coverage, squared)
    house = polygons_of(squared)[coverage.ids == HOUSE][0]
    court = polygons_of(squared)[coverage.ids == WOOD][0]
    assert [len(ring.coords) for ring in (house.exterior, *house.interiors, court.exterior)] == [5, 5, 5]
    angles = [
        np.angle(complex(*np.subtract(*ring.coords[:2])), deg=True) % 90 for ring in (house.exterior, court.exterior)
    ]
    assert angles[0] == pytest.approx(angles[1], abs=1e-6)


@pytest.mark.parametrize(
    ("transform", "crs"),
    [
        (Affine(1, 0, 400_000, 0, -0.5, 5_400_000), CRS.from_epsg(32633)),
        (Affine(1, 0, 400_000, 0, 0.5, 5_400_000) @ Affine.rotation(20), CRS.from_epsg(32633)),
        (Affine.translation(11, 60) @ Affine.scale(2e-5, -1e-5), CRS.from_epsg(4326)),
        (Affine.translation(11, 60) @ Affine.scale(1e-5, -1e-5), CRS.from_epsg(4326)),
    ],
)
def test_angles_are_right_on_the_ground(transform: Affine, crs: CRS) -> None:
    # Degrees of longitude are half as long at 60 degrees.
    to_ground = (Affine.scale(0.5, 1) if crs.is_geographic else PIXELS) @ transform
    to_ground = Affine.scale(abs(to_ground.determinant) ** -0.5) @ to_ground
    a, b, _, d, e, _ = to_ground[:6]
    house = rotate(shapely.box(-20, -11, 20, 11), 25)
    in_pixels = shapely.affinity.affine_transform(
        house, [*(~Affine(a, b, 0, d, e, 0))[:2], *(~Affine(a, b, 0, d, e, 0))[3:5], 50, 50]
    )
    ids = np.asarray(rasterize([(in_pixels, HOUSE)], (100, 100)))
    coverage = softened(coverage_of(ids, transform, crs))
    squared, left = regularize(coverage, {HOUSE})
    assert left == 0
    ring = shapely.affinity.affine_transform(
        polygons_of(squared)[coverage.ids == HOUSE][0], [a, b, d, e, 0, 0]
    ).exterior
    sides = np.diff(shapely.get_coordinates(ring) @ (1, 1j))
    assert len(sides) == 4
    assert np.abs(sides.real * np.roll(sides, 1).real + sides.imag * np.roll(sides, 1).imag).max() < 1e-2
    assert np.sort(np.abs(sides)) == pytest.approx([22, 22, 40, 40], rel=0.05)


@pytest.mark.parametrize("ids", [np.full((4, 5), UNLABELLED), np.full((4, 5), FIELD), np.full((1, 1), HOUSE)])
def test_nothing_to_square(ids: np.ndarray) -> None:
    coverage = coverage_of(ids)
    squared, left = regularize(coverage, {HOUSE})
    assert squared.lines is coverage.lines
    assert left == np.count_nonzero(coverage.ids == HOUSE)
