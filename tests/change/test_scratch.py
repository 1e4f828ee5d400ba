"""Blocks come back from the disk as any windows, and a full disk is said."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from rasterio.windows import Window

from rsseg_cli.change.scratch import Scratch
from rsseg_cli.errors import RssegError
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.tiles import blocks


def scratch(folder: Path, height: int, width: int, block_px: int) -> Scratch:
    return Scratch(
        folder / "distances", Grid(None, Affine.identity(), height, width), 2, block_px, folder / "change.tif"
    )


@pytest.mark.parametrize(("height", "width", "block_px"), [(50, 70, 16), (16, 16, 16), (5, 90, 64), (33, 17, 16)])
def test_any_window_of_any_layer_comes_back(tmp_path: Path, height: int, width: int, block_px: int) -> None:
    values = np.random.default_rng(0).random((2, height, width)).astype(np.float32)
    values[0, 3] = np.nan
    kept = scratch(tmp_path, height, width, block_px)
    for window in reversed(list(blocks(kept.grid, block_px))):
        kept.write(values[:, *window.toslices()], window)
    assert kept.path.stat().st_size == values.nbytes
    windows = [
        kept.grid.window,
        Window(1, 2, width - 2, height - 3),
        Window(width - 1, 0, 1, height),
        Window(0, 4, 5, 1),
    ]
    for window in windows:
        for layer in range(2):
            np.testing.assert_array_equal(kept.read(window, layer), values[layer, *window.toslices()])


def test_a_full_disk_is_said_of_what_was_to_be_written(disk: Callable[..., Path]) -> None:
    kept = scratch(disk(64), 200, 200, 200)
    with pytest.raises(RssegError, match=r"change\.tif: could not be written") as error:
        kept.write(np.zeros((2, 200, 200), np.float32), kept.grid.window)
    assert error.value.kind == "space"


def test_finished_blocks_are_listed_and_known_again_when_they_are_whole(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((2, 50, 70)).astype(np.float32)
    kept = scratch(tmp_path, 50, 70, 16)
    windows = list(blocks(kept.grid, 16))
    for window in windows[:5]:
        kept.write(values[:, *window.toslices()], window)
    again = scratch(tmp_path, 50, 70, 16)
    listed = again.listed()
    assert list(listed) == [(window.row_off, window.col_off) for window in windows[:5]]
    for window in windows[:5]:
        found = again.block(window, listed[window.row_off, window.col_off])
        np.testing.assert_array_equal(found, values[:, *window.toslices()])
    assert again.block(windows[1], listed[0, 0]) is None
    again.path.write_bytes(again.path.read_bytes()[:100])
    assert [again.block(window, listed[window.row_off, window.col_off]) for window in windows[:5]] == [None] * 5
    again.forget()
    assert again.listed() == {}


def test_an_entry_that_was_cut_short_is_none(tmp_path: Path) -> None:
    kept = scratch(tmp_path, 40, 40, 16)
    one, other, *_ = blocks(kept.grid, 16)
    kept.write(np.ones((2, 16, 16), np.float32), one)
    with (tmp_path / "distances.finished").open("ab") as file:
        file.write(b"cut")
    again = scratch(tmp_path, 40, 40, 16)
    again.write(np.zeros((2, 16, 16), np.float32), other)
    assert list(again.listed()) == [(0, 0), (0, 16)]
