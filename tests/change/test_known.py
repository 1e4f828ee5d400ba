"""Known changes: where they are said to be, as much as is asked, and nothing else."""

import numpy as np
import pytest
from pairs import ground

from rsseg_cli.change.known import CHIPS_A_WINDOW, Chips, with_changes

SIDE = 64
# A piece is at most a quarter of the image in each direction.
LARGEST = 1 / 16


def image(bands: int = 3, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    return ground(height, width, bands)


def dice(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def chips_of(*windows: np.ndarray) -> Chips:
    return Chips.of(windows, dice(7))


def vectors(values: np.ndarray) -> set[bytes]:
    """Of all pixels."""
    return {pixel.tobytes() for pixel in np.moveaxis(values, 1 if values.ndim == 4 else 0, -1).reshape(-1, 3)}


@pytest.mark.parametrize("seed", range(4))
def test_they_lie_where_they_are_said_to_and_nowhere_else(seed: int) -> None:
    before = image()
    untouched = before.copy()
    found, where = with_changes(before, chips_of(before), 0.2, dice(seed))
    np.testing.assert_array_equal((found != before).any(axis=0), where)
    np.testing.assert_array_equal(before, untouched)
    assert found.dtype == np.float32


@pytest.mark.parametrize("share", [0.02, 0.1, 0.4])
def test_they_cover_what_is_asked(share: float) -> None:
    for seed in range(5):
        _, where = with_changes(image(), chips_of(image()), share, dice(seed))
        assert share <= where.mean() <= share + LARGEST


def test_they_are_pieces_of_the_same_date() -> None:
    other = ground(seed=5)
    found, where = with_changes(image(), chips_of(other), 0.1, dice())
    assert vectors(found[:, where]) <= vectors(chips_of(other).values)


def test_they_differ_from_what_they_cover() -> None:
    before = image()
    chips = Chips(chips_of(before).values, np.full(3, 1e4))
    found, where = with_changes(before, chips, 0.1, dice())
    assert not where.any()
    np.testing.assert_array_equal(found, before)


def test_gaps_stay_gaps() -> None:
    before = image()
    before[:, 20:30, :50] = np.nan
    chips = chips_of(before, image())
    assert np.isfinite(chips.values).all()
    found, where = with_changes(before, chips, 0.2, dice())
    np.testing.assert_array_equal(np.isnan(found), np.isnan(before))
    assert where.any()
    assert not where[20:30, :50].any()


def test_no_chip_is_cut_where_there_are_gaps() -> None:
    full, empty = image(), np.full_like(image(), np.nan)
    assert len(chips_of(full, empty).values) == CHIPS_A_WINDOW
    chips = chips_of(empty)
    assert len(chips.values) == 0
    found, where = with_changes(full, chips, 0.1, dice())
    np.testing.assert_array_equal(found, full)
    assert not where.any()


def test_uniform_ground_shows_no_change() -> None:
    flat = np.full((3, SIDE, SIDE), 7, np.float32)
    found, where = with_changes(flat, chips_of(flat), 0.1, dice())
    np.testing.assert_array_equal(found, flat)
    assert not where.any()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 2), (5, 40), (16, 16)])
@pytest.mark.parametrize("bands", [1, 7])
def test_small_images_are_no_trouble(height: int, width: int, bands: int) -> None:
    before = image(bands, height, width)
    found, where = with_changes(before, chips_of(before, before), 0.1, dice())
    np.testing.assert_array_equal((found != before).any(axis=0), where)


def test_the_seed_decides() -> None:
    one, same, other = (with_changes(image(), chips_of(image()), 0.1, dice(seed))[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_pieces_are_long_and_round() -> None:
    """Rectangles fill the box around them, ellipses do not."""
    fill = []
    for seed in range(30):
        _, where = with_changes(image(), chips_of(image()), 0.001, dice(seed))
        rows, cols = where.any(axis=1).sum(), where.any(axis=0).sum()
        assert max(rows, cols) <= SIDE // 4
        fill.append(where.sum() / (rows * cols))
    assert min(fill) < 0.9
    assert max(fill) == 1
