from collections import Counter

import numpy as np
from coverages import Pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.transform import from_origin
from scipy import ndimage

from rsseg_cli.classes import UNLABELLED, ClassScheme
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.labels import Labels
from rsseg_cli.vector.coverage import Coverage, polygonize
from rsseg_cli.vector.regions import boxes, neighbours


def coverage_of(mask: np.ndarray) -> Coverage:
    grid = Grid(CRS.from_epsg(32633), from_origin(0, 0, 1, 1), *mask.shape)
    return polygonize(Labels("mask.tif", grid, ClassScheme.of_values(range(9)), Pixels(mask)))


def numbered(mask: np.ndarray) -> np.ndarray:
    """The region of each pixel, by first pixels; -1 for nothing."""
    parts = np.full(mask.shape, -1)
    count = 0
    for value in set(mask.ravel().tolist()) - {UNLABELLED}:
        found, more = ndimage.label(mask == value)
        parts = np.where(found > 0, found + count - 1, parts)
        count += more
    order = list(dict.fromkeys(parts.ravel().tolist()))
    order = [part for part in order if part >= 0]
    return np.array([order.index(part) if part >= 0 else -1 for part in parts.ravel()]).reshape(mask.shape)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_tables_are_what_counting_pixels_gives(height: int, width: int, grain: int, seed: int) -> None:
    choice = np.random.default_rng(seed).choice(np.array([0, 1, 2, UNLABELLED], np.uint8), (height, width))
    mask = choice.repeat(grain, 0).repeat(grain, 1)
    coverage, region = coverage_of(mask), numbered(mask)
    framed = np.pad(region, 1, constant_values=-1)
    borders: Counter[tuple[int, int, int]] = Counter()
    for along, (one, other) in enumerate([(framed[:-1], framed[1:]), (framed[:, :-1], framed[:, 1:])]):
        for a, b in zip(one.ravel().tolist(), other.ravel().tolist(), strict=True):
            if a != b and min(a, b) >= 0:
                borders[min(a, b), max(a, b), along] += 1
    found = neighbours(coverage)
    pairs = [tuple(pair) for pair in found.pairs.tolist()]
    assert pairs == sorted({(a, b) for a, b, _ in borders})
    assert found.lengths.tolist() == [[borders[a, b, 0], borders[a, b, 1]] for a, b in pairs]
    ends = [(s[1].start, s[0].start, s[1].stop, s[0].stop) for s in ndimage.find_objects(region + 1)]
    assert [tuple(box) for box in boxes(coverage).tolist()] == ends
    assert coverage.pixels.tolist() == np.bincount(region[region >= 0], minlength=len(coverage)).tolist()


def test_a_region_alone_has_no_neighbours() -> None:
    alone = coverage_of(np.full((2, 5), 3, np.uint8))
    assert neighbours(alone).pairs.shape == neighbours(alone).lengths.shape == (0, 2)


def test_nothing_has_empty_tables() -> None:
    nothing = coverage_of(np.full((4, 4), UNLABELLED, np.uint8))
    assert len(nothing) == len(neighbours(nothing).pairs) == len(boxes(nothing)) == 0
