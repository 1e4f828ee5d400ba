"""What is held back: whole polygons, blocks of what is labelled everywhere, and never a class as a whole."""

from dataclasses import dataclass
from math import prod

import numpy as np
import pytest
from affine import Affine
from numpy.typing import NDArray
from rasterio.windows import Window

from rsseg_cli import holdout
from rsseg_cli.classes import UNLABELLED, ClassScheme
from rsseg_cli.holdout import BUFFER_PX, HeldBack, block_size, cell_size, count_cells, hold_back
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.labels import Labels

SHARE = 0.2


@dataclass
class Drawn:
    """Labels in memory, and the largest window that was read."""

    ids: NDArray[np.uint8]
    largest: int = 0

    def read(self, window: Window) -> NDArray[np.uint8]:
        self.largest = max(self.largest, window.height * window.width)
        return self.ids[window.toslices()]


def grid_of(height: int, width: int) -> Grid:
    return Grid(None, Affine.identity(), height, width)


def counted(ids: NDArray[np.uint8], classes: int, cell_px: int = 4) -> NDArray[np.uint16]:
    labels = Labels("drawn", grid_of(*ids.shape), ClassScheme.of_values(range(classes)), Drawn(ids))
    return count_cells(labels, np.arange(256, dtype=np.uint8), classes, cell_px)


def held(ids: NDArray[np.uint8], classes: int, block_px: int, seed: int = 0) -> HeldBack:
    (found,) = hold_back([counted(ids, classes)], 4, block_px, SHARE, seed)
    return found


def mask_of(found: HeldBack, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """All held-back pixels, each in one patch only."""
    total = np.zeros(shape, int)
    for number, window in found.windows():
        here = window.intersection(Window(0, 0, shape[1], shape[0]))
        total[here.toslices()] += found.holds(number, here)
    assert total.max() <= 1
    return total == 1


@pytest.fixture
def polygons() -> tuple[NDArray[np.uint8], list[tuple[slice, slice]]]:
    """Twenty rectangles of three classes, some across the borders of any blocks, none touching another."""
    ids = np.full((500, 500), UNLABELLED, np.uint8)
    places = [
        (slice(y, y + 30 + 3 * (n % 5)), slice(x, x + 60 - 7 * (n % 4)))
        for n, (y, x) in enumerate((y, x) for y in range(11, 480, 120) for x in range(7, 480, 101))
    ]
    for number, place in enumerate(places):
        ids[place] = number % 3
    return ids, places


@pytest.mark.parametrize("seed", range(5))
def test_polygons_are_held_back_whole(polygons, seed: int) -> None:
    ids, places = polygons
    found = mask_of(held(ids, 3, 128, seed), ids.shape)
    shares = [found[place].mean() for place in places]
    assert set(shares) == {0.0, 1.0}
    for number in range(3):
        assert 0.1 < found[ids == number].mean() <= 0.5


def test_near_ground_is_left_out_too(polygons) -> None:
    ids, _ = polygons
    found = held(ids, 3, 128)
    whole = Window(0, 0, 500, 500)
    near = found.nears(whole)
    rows, cols = np.nonzero(mask_of(found, ids.shape))
    for dy, dx in ((0, BUFFER_PX), (BUFFER_PX, 0), (-BUFFER_PX, 0), (0, -BUFFER_PX)):
        y, x = np.clip(rows + dy, 0, 499), np.clip(cols + dx, 0, 499)
        assert near[y, x].all()
    assert not near.all()
    part = Window(100, 30, 77, 51)
    np.testing.assert_array_equal(found.nears(part), near[part.toslices()])


def test_what_is_labelled_everywhere_is_cut_into_blocks_larger_than_a_crop() -> None:
    ids = np.random.default_rng(0).integers(0, 3, (1024, 1024), dtype=np.uint8)
    crop_px = 96
    block_px = block_size([grid_of(1024, 1024)], crop_px)
    found = held(ids, 3, block_px)
    sides = [(window.height, window.width) for _, window in found.windows()]
    assert min(min(side) for side in sides) > crop_px
    assert sum(map(prod, sides)) / ids.size == pytest.approx(SHARE, abs=0.05)


def test_blocks_shrink_where_scenes_are_small() -> None:
    assert block_size([grid_of(4000, 4000)], 128) == 192
    assert block_size([grid_of(256, 256)] * 3, 128) == 90
    assert block_size([grid_of(40, 40)], 128) == 32


def test_a_class_in_one_place_stays_in_training() -> None:
    ids = np.full((400, 400), UNLABELLED, np.uint8)
    for n, y in enumerate(range(10, 390, 60)):
        ids[y : y + 30, 10:50] = 0
        ids[y : y + 30, 100:140] = 1 if n < 2 else 0
    ids[200:240, 300:340] = 2
    for seed in range(10):
        found = mask_of(held(ids, 3, 128, seed), ids.shape)
        assert not found[ids == 2].any()
        assert found[ids == 1].mean() == 0.5  # one of the two


def test_classes_in_one_block_each_are_not_held_back_whatever_else_is() -> None:
    ids = np.zeros((256, 256), np.uint8)
    ids[10:20, 10:20] = 1
    for seed in range(10):
        found = mask_of(held(ids, 2, 64, seed), ids.shape)
        assert not found[10:20, 10:20].any()
        assert found[ids == 0].mean() > 0.1


def test_nothing_can_be_held_back_of_a_single_patch() -> None:
    ids = np.full((64, 64), UNLABELLED, np.uint8)
    ids[10:20, 10:20] = 0
    assert not mask_of(held(ids, 1, 64), ids.shape).any()


def test_cells_are_counted_window_by_window() -> None:
    ids = np.random.default_rng(1).integers(0, 4, (1300, 700), dtype=np.uint8)
    ids[ids == 3] = UNLABELLED
    source = Drawn(ids)
    labels = Labels("drawn", grid_of(1300, 700), ClassScheme.of_values(range(3)), source)
    counts = count_cells(labels, np.arange(256, dtype=np.uint8), 3, 8)
    assert source.largest <= holdout.READ_PX**2
    assert counts.shape == (163, 88, 3)
    np.testing.assert_array_equal(counts.sum(axis=(0, 1)), [(ids == k).sum() for k in range(3)])
    np.testing.assert_array_equal(counts[-1, -1], [(ids[1296:, 696:] == k).sum() for k in range(3)])


def test_cells_grow_with_the_ground_so_that_memory_does_not() -> None:
    small, large, huge = grid_of(512, 512), grid_of(32_768, 32_768), grid_of(100_000, 100_000)
    assert cell_size([small], 6) == 4
    assert cell_size([large], 6) == 16
    assert cell_size([huge], 6) == 64


def test_specks_are_taken_together() -> None:
    ids = np.full((800, 800), UNLABELLED, np.uint8)
    ids[::8, ::8] = np.random.default_rng(0).integers(0, 2, (100, 100))
    found = held(ids, 2, 160)
    assert len(list(found.windows())) < 10
    assert mask_of(found, ids.shape)[ids != UNLABELLED].mean() == pytest.approx(SHARE, abs=0.05)


def test_more_ground_than_a_sure_score_needs_is_not_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holdout, "MOST_SCORED_PX", 20_000)
    ids = np.random.default_rng(0).integers(0, 2, (1024, 1024), dtype=np.uint8)
    assert mask_of(held(ids, 2, 64), ids.shape).sum() < 30_000
