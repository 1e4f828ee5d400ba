"""The walk: every pixel once, blended without a seam, whatever the tiles, and the same when it goes on later."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from affine import Affine
from rasterio.crs import CRS
from rasterio.windows import Window

from rsseg_cli.normalisation import Normalisation
from rsseg_cli.predict import Cell, Walk
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.scene import Band, Scene
from rsseg_cli.tiling import Tiling

PLAIN = Normalisation("fixed", (0.0, 0.0), (1.0, 1.0))
SHAPE = (333, 471)


class Held:
    """Pixels in memory."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def read(self, window: Window, bands: Sequence[int]) -> np.ndarray:
        rows, cols = window.toslices()
        return self.values[list(bands), rows, cols]


def scene(shape: tuple[int, int] = SHAPE) -> Scene:
    values = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    values[:, :40, :200] = np.nan
    grid = Grid(CRS.from_epsg(32633), Affine(1, 0, 0, 0, -1, 0), *shape)
    return Scene("held.tif", grid, (Band("1", "float32"), Band("2", "float32")), Held(values))


def each_pixel(bands: torch.Tensor) -> torch.Tensor:
    """A network that looks at single pixels: its tiles agree in the overlaps."""
    return torch.stack([bands[:, 0], bands[:, 1], bands.sum(dim=1)], dim=1)


def by_place(bands: torch.Tensor) -> torch.Tensor:
    """A network whose answer depends on the place in the tile, as those of real ones do near the edge."""
    ramp = torch.linspace(-1, 1, bands.shape[-1]) + torch.linspace(0, 3, bands.shape[-2])[:, None]
    return each_pixel(bands) + ramp


def mapped(walk: Walk, first_row: int = 0, strip: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(logits, how often each pixel was given)."""
    shape = walk.scene.grid.shape
    logits, times = np.full((3, *shape), np.nan, np.float32), np.zeros(shape, int)
    for cell, _ in walk.cells(first_row, strip):
        place = cell.window.toslices()
        logits[(slice(None), *place)] = cell.logits
        times[place] += 1
    return logits, times


@pytest.mark.parametrize("tiling", [Tiling(192, 64, 2), Tiling(96, 32, 3), Tiling(1024, 64, 2), Tiling(128, 0, 5)])
def test_every_pixel_is_given_once_and_weights_add_up_to_one(tiling: Tiling) -> None:
    held = scene()
    logits, times = mapped(Walk(held, PLAIN, each_pixel, 3, tiling))
    assert (times == 1).all()
    values = torch.from_numpy(PLAIN.apply(held.read().values))
    np.testing.assert_allclose(logits, each_pixel(values[None])[0].numpy(), rtol=1e-3, atol=1e-3)


def test_the_number_of_workers_does_not_matter() -> None:
    one, three = (mapped(Walk(scene(), PLAIN, by_place, 3, Tiling(192, 64, 2), workers))[0] for workers in (1, 3))
    np.testing.assert_array_equal(one, three)


@pytest.mark.parametrize("row", [1, 2])
def test_a_walk_that_goes_on_later_ends_the_same(row: int) -> None:
    walk = Walk(scene(), PLAIN, by_place, 3, Tiling(160, 48, 4))
    whole, _ = mapped(walk)
    strips = [strip.copy() for _, strip in walk.cells() if strip is not None]
    later, times = mapped(walk, row, strips[row - 1])
    assert 0 < times.mean() < 1
    np.testing.assert_array_equal(later[:, times == 1], whole[:, times == 1])


@pytest.mark.parametrize("side", [64, 150, 1000])
def test_blocks_of_any_size_by_themselves_are_those_of_the_walk(side: int) -> None:
    walk = Walk(scene(), PLAIN, by_place, 3, Tiling(160, 48, 4))
    whole, _ = mapped(walk)
    height, width = SHAPE
    for top in range(0, height, side):
        for left in range(0, width, side):
            window = Window(left, top, min(side, width - left), min(side, height - top))
            block = walk.block(window)
            place = window.toslices()
            np.testing.assert_array_equal(block.logits, whole[(slice(None), *place)])
            np.testing.assert_array_equal(block.valid, np.isfinite(walk.scene.read(window).values).all(axis=0))


def test_the_network_sees_one_shape_and_only_tiles_with_something() -> None:
    seen = []

    def forward(bands: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(bands.shape))
        return each_pixel(bands)

    held = scene()
    held.pixels.values[:, :200] = np.nan
    walk = Walk(held, PLAIN, forward, 3, Tiling(96, 32, 4))
    cells = [cell for cell, _ in walk.cells()]
    assert len(set(seen)) == 1
    assert len(seen) < len(list(walk.layout.batches(0)))
    assert not any(cell.valid.any() for cell in cells if cell.window.row_off + cell.window.height <= 200)


def test_of_equal_scores_the_first_class_wins() -> None:
    cell = Cell(Window(0, 0, 700, 500), np.zeros((5, 500, 700), np.float32), np.ones((500, 700), bool))
    assert not cell.places.any()
    cell.logits[3:] = 1
    assert (cell.places == 3).all()
