from dataclasses import replace

import numpy as np
from coverages import burnt, labels_of, masks
from hypothesis import given, settings
from hypothesis import strategies as st

from rsseg_cli.vector.coverage import polygonize
from rsseg_cli.vector.reclass import reclass


@settings(max_examples=100, deadline=None)
@given(masks(), st.integers(0, 2**32 - 1))
def test_regions_of_new_ids_are_those_of_a_mask_painted_anew(mask: np.ndarray, seed: int) -> None:
    coverage = polygonize(labels_of(mask))
    ids = np.random.default_rng(seed).choice(np.array([0, 1, 5, 255], np.uint8), len(coverage))
    expected, found = polygonize(labels_of(burnt(replace(coverage, ids=ids)))), reclass(coverage, ids)
    for mine, theirs in (
        (found.ids, expected.ids),
        (found.pixels, expected.pixels),
        (found.region, expected.region),
        (found.lines.x, expected.lines.x),
        (found.lines.y, expected.lines.y),
        (found.rings.sides, expected.rings.sides),
        (found.parts, expected.parts),
    ):
        np.testing.assert_array_equal(mine, theirs)
