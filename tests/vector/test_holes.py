import numpy as np
import pytest
from coverages import labels_of, masks
from hypothesis import given, settings

from rsseg_cli.vector import holes as module
from rsseg_cli.vector.coverage import polygonize


@settings(max_examples=50, deadline=None)
@given(masks())
def test_looking_at_few_edges_at_a_time_finds_the_same_shells(mask: np.ndarray) -> None:
    expected = polygonize(labels_of(mask))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SLICE_EDGES", 7)
        found = polygonize(labels_of(mask))
    np.testing.assert_array_equal(found.rings.sides, expected.rings.sides)
    np.testing.assert_array_equal(found.region, expected.region)
    np.testing.assert_array_equal(found.pixels, expected.pixels)


def test_edges_that_pass_no_hole_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []
    before = module._before

    def watched(first: np.ndarray, last: np.ndarray, asked: np.ndarray) -> np.ndarray:
        looked_at.append((last - first).sum())
        return before(first, last, asked)

    monkeypatch.setattr(module, "_before", watched)
    stripes = np.tile(np.arange(500, dtype=np.uint8) % 2, (400, 1))
    polygonize(labels_of(stripes))
    assert looked_at == []
    stripes[200, 250] = 7  # in a stripe of one pixel: no hole
    stripes[100:103, 100:103] = 1
    stripes[101, 101] = 5
    coverage = polygonize(labels_of(stripes))
    assert np.diff(coverage.parts).max() == 2
    assert sum(looked_at) < 2 * 500
