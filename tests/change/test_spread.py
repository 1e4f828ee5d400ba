"""Windows spread over a grid: inside it, all over it, never too many."""

from itertools import pairwise

import pytest
from affine import Affine

from rsseg_cli.change.spread import spread
from rsseg_cli.raster.grid import Grid


@pytest.mark.parametrize("shape", [(16, 16), (40, 700), (100, 100), (260, 260), (1180, 1070), (10_980, 10_980)])
def test_windows_lie_all_over_a_grid(shape: tuple[int, int]) -> None:
    windows = spread(Grid(None, Affine.identity(), *shape), 256, 64)
    assert 1 <= len(windows) <= 64
    for window in windows:
        assert window.height == window.width == windows[0].width <= 256
        assert min(window.col_off, window.row_off) >= 0
        assert window.row_off + window.height <= shape[0]
        assert window.col_off + window.width <= shape[1]
    rows, cols = (sorted({w.row_off for w in windows}), sorted({w.col_off for w in windows}))
    for starts in (rows, cols):
        assert all(2 * (b - a) >= windows[0].width - 1 for a, b in pairwise(starts))  # half over one another at most
    # From edge to edge.
    if len(rows) > 1:
        assert rows[0] == 0
        assert rows[-1] + windows[0].height == shape[0]


def test_small_grids_still_have_several_windows() -> None:
    for length, count, side in ((300, 9, 100), (120, 4, 64), (100, 4, 64), (20, 1, 20)):
        windows = spread(Grid(None, Affine.identity(), length, length), 256, 64)
        assert (len(windows), windows[0].width) == (count, side)
