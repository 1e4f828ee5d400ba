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
