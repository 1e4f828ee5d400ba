import numpy as np
import pytest
import shapely
from affine import Affine
from coverages import NORTH_UP, drawn, geometries, in_pixels, labels_of, masks
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS

from rsseg_cli.classes import UNLABELLED
from rsseg_cli.raster.grid import Grid
from rsseg_cli.vector.coverage import polygonize
from rsseg_cli.vector.simplify import simplified
from rsseg_cli.vector.smoothing import smoothed

TRANSFORMS = [
    NORTH_UP,
    NORTH_UP @ Affine.scale(1, 0.6),
    NORTH_UP @ Affine.scale(0.3, 1),
    NORTH_UP @ Affine.rotation(33) @ Affine.shear(5),
]


@settings(max_examples=200, deadline=None)
@given(masks(), st.sampled_from(TRANSFORMS), st.sampled_from([0.2, 1, 4, 50]), st.booleans())
@example(drawn("......11.", "......10.", "......11."), TRANSFORMS[1], 20, False)
def test_neither_gaps_nor_overlaps(mask: np.ndarray, transform: Affine, tolerance_m: float, smooth_first: bool) -> None:
    coverage = polygonize(labels_of(mask, transform))
    coverage = simplified(smoothed(coverage) if smooth_first else coverage, tolerance_m)
    polygons = geometries(in_pixels(coverage))
    assert shapely.is_valid(polygons).all()
    assert shapely.is_valid(geometries(coverage)).all()
    assert shapely.coverage_is_valid(polygons)
    assert (shapely.area(polygons) > 0).all()
    if not (mask == UNLABELLED).any():
        assert shapely.union_all(polygons).equals(shapely.box(0, 0, mask.shape[1], mask.shape[0]))


def test_the_coarser_the_fewer_points() -> None:
    row, col = np.mgrid[:200, :200]
    mask = (np.sin(row / 9) + np.cos(col / 7 + row / 31) > 0.3).astype(np.uint8)
    coverage = smoothed(polygonize(labels_of(mask)))
    points = [len(simplified(coverage, tolerance_m).lines.x) for tolerance_m in (0.01, 0.5, 2, 8)]
    assert points == sorted(points, reverse=True)
    assert points[3] < points[0] / 2


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:2263", None])
def test_metres_are_metres_in_degrees_and_feet_too(crs: str | None) -> None:
    """A notch of 2 x 2 m stays at 1 m and goes at 4 m, whatever the coordinates count."""
    metre = {"EPSG:4326": 1 / 111_320, "EPSG:2263": 1 / 0.3048006096, None: 1.0}[crs]
    across = metre / np.cos(np.radians(60)) if crs == "EPSG:4326" else metre
    top = 60.0 if crs == "EPSG:4326" else 60_000.0
    mask = np.zeros((40, 40), np.uint8)
    mask[:20] = 1
    mask[20:22, 19:21] = 1
    labels = labels_of(mask)
    grid = Grid(crs and CRS.from_string(crs), Affine(across, 0, 10, 0, -metre, top), *mask.shape)
    coverage = polygonize(type(labels)(labels.path, grid, labels.scheme, labels.source))
    sizes = [len(shapely.get_coordinates(geometries(simplified(coverage, m))[0])) for m in (1, 4)]
    assert sizes == [9, 5]
