import numpy as np
import pytest
import shapely
from affine import Affine
from coverages import geometries, in_pixels, labels_of
from rasterio.features import rasterize

from rsseg_cli.vector import smoothing
from rsseg_cli.vector.coverage import polygonize
from rsseg_cli.vector.smoothing import smoothed

RNG = np.random.default_rng(2)
DISCS = shapely.buffer(shapely.points(np.mgrid[10:200:20, 10:200:20].reshape(2, -1).T + RNG.random((100, 2))), 4)


def islands() -> np.ndarray:
    mask = rasterize([(disc, 1) for disc in DISCS], (200, 200), transform=Affine.identity(), dtype="uint8")
    return np.asarray(mask)


def areas(mask: np.ndarray) -> np.ndarray:
    coverage = in_pixels(smoothed(polygonize(labels_of(mask))))
    polygons = geometries(coverage)
    assert shapely.coverage_is_valid(polygons)
    return np.asarray(shapely.area(polygons)[coverage.ids == 1])


def test_islands_keep_the_ground_that_their_pixels_had(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = islands()
    widened = areas(mask).sum() / mask.sum()
    monkeypatch.setattr(smoothing, "widen", lambda *_: None)
    assert areas(mask).sum() / mask.sum() < 0.92
    assert 0.97 < widened < 1.01


def test_holes_keep_theirs_too() -> None:
    mask = 1 - islands()
    assert areas(mask).sum() == pytest.approx(mask.sum(), rel=0.005)
