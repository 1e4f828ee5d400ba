"""Flips between dates."""

import numpy as np

from rsseg_cli.consistency import Flips


def test_flips_are_between_dates_that_show_a_pixel() -> None:
    flips = Flips()
    assert flips.to_json() == {"flips": None, "flips_before_fusion": None, "compared": 0}
    alone = np.array([[[0, 1, 255, 2]], [[1, 255, 255, 2]], [[0, 1, 3, 255]]], np.uint8)
    fused = np.where(alone == 255, alone, 1).astype(np.uint8)
    flips.add(np.stack([alone, fused]))
    # The first pixel flips twice; the second is compared past the date between, and the last once, both without a flip.
    assert flips.to_json() == {"flips": 0.0, "flips_before_fusion": 0.5, "compared": 4}
    flips.add(np.stack([alone, alone]))
    assert flips.to_json() == {"flips": 0.25, "flips_before_fusion": 0.5, "compared": 8}
