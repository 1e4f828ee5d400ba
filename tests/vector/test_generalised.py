"""All that generalises, one after another, on maps of all kinds."""

import numpy as np
import pytest
import shapely
from affine import Affine
from coverages import NORTH_UP, geometries, in_pixels, labels_of, masks
from hypothesis import given, settings
from hypothesis import strategies as st

from rsseg_cli.classes import UNLABELLED
from rsseg_cli.vector.coverage import chosen
from rsseg_cli.vector.merging import Least, merged
from rsseg_cli.vector.regularize import regularize
from rsseg_cli.vector.simplify import simplified
from rsseg_cli.vector.smoothing import smoothed

TRANSFORMS = [NORTH_UP, NORTH_UP @ Affine.scale(1, -1), NORTH_UP @ Affine.rotation(33), NORTH_UP @ Affine.scale(1, 0.6)]


@settings(max_examples=200, deadline=None)
@given(
    masks(),
    st.sampled_from(TRANSFORMS),
    st.sampled_from([0, 0.6, 5]),
    st.sampled_from([0, 2]),
    st.sampled_from([0, 0.7, 3]),
    st.booleans(),
)
def test_neither_gaps_nor_overlaps(
    mask: np.ndarray, transform: Affine, least_m2: float, holes_m2: float, tolerance_m: float, square: bool
) -> None:
    coverage = smoothed(merged(labels_of(mask, transform), Least.of(least_m2, holes=holes_m2)))
    coverage = simplified(coverage, tolerance_m) if tolerance_m else coverage
    coverage = regularize(coverage, {1, 7})[0] if square else coverage
    polygons = geometries(in_pixels(coverage))
    assert shapely.is_valid(polygons).all()
    assert shapely.is_valid(geometries(coverage)).all()
    assert shapely.coverage_is_valid(polygons)
    assert (shapely.area(polygons) > 0).all()
    if not (mask == UNLABELLED).any() and len(polygons):
        assert shapely.area(polygons).sum() == pytest.approx(mask.size)
    some = np.flatnonzero(coverage.ids == 1)
    assert shapely.equals_identical(geometries(in_pixels(chosen(coverage, some))), polygons[some]).all()
