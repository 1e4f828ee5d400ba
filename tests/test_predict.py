"""The walk: every pixel once, blended without a seam, whatever the tiles, and the same when it goes on later."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from affine import Affine
from rasterio.crs import CRS
from rasterio.windows import Window
from rsseg_models.fusion import Fusion

from rsseg_cli.fusing import Fusing
from rsseg_cli.normalisation import Normalisation
from rsseg_cli.predict import Cell, Walk
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.scene import Band, Scene
from rsseg_cli.raster.series import Series
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


DATES = ("2020-01-01", "2020-02-15", "2020-03-31")
SMALL = (170, 230)


def series() -> Series:
    """Three dates: one with a gap, one with nothing in its upper half, one whole."""
    first, second, third = (replace(scene(SMALL), date=date) for date in DATES)
    rng = np.random.default_rng(1)
    for number, each in enumerate((second, third)):
        each.pixels.values[:] = rng.normal(size=each.pixels.values.shape)
        each.pixels.values[:, : SMALL[0] // 2 * (1 - number)] = np.nan
    first.pixels.values[:, -20:] = second.pixels.values[:, -20:] = third.pixels.values[:, -20:] = np.nan
    return Series("held", first.grid, (first, second, third))


def fused_walk(tiling: Tiling, as_place: bool = False, others: float = 0.0, forward=each_pixel) -> Walk:
    held, fusion = series(), Fusion(3)
    fusion.others.data = others * torch.eye(3)
    channels = 3 if as_place else 3 * len(DATES)
    return Walk(held, PLAIN, forward, channels, tiling, 2, Fusing(fusion, held.days, as_place, 2.0))


def seen_by_itself(held: Series) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of all dates at once (1, date, class, y, x), and where they show something."""
    values = torch.from_numpy(PLAIN.apply(held.values()))
    return each_pixel(values)[None], torch.from_numpy(np.isfinite(held.values()).all(axis=1))[None]


@pytest.mark.parametrize("tiling", [Tiling(96, 32, 2), Tiling(512, 64, 1)])
def test_dates_help_each_other_pixel_by_pixel(tiling: Tiling) -> None:
    walk = fused_walk(tiling, others=0.5)
    alone, valid = seen_by_itself(walk.scene)
    with torch.inference_mode():
        fused, known = walk.fusing.fusion.fuse(alone, valid, torch.tensor([0.0, 45.0, 90.0]))
    times = np.zeros(SMALL, int)
    for cell, _ in walk.cells():
        place = cell.window.toslices()
        times[place] += 1
        assert cell.valid.shape == (3, cell.window.height, cell.window.width)
        np.testing.assert_array_equal(cell.valid, known[0, :, *place])
        np.testing.assert_array_equal(cell.told[0], torch.where(valid, alone.argmax(2), 255)[0, :, *place])
        np.testing.assert_array_equal(cell.told[1], torch.where(valid, fused.argmax(2), 255)[0, :, *place])
        for date, one in enumerate(cell.split()):
            expected = torch.where(known[:, :, None], fused, 0)[0, date][:, *place]
            np.testing.assert_allclose(one.logits, expected, rtol=1e-3, atol=1e-2)
    assert (times == 1).all()


def test_a_date_that_shows_nothing_takes_what_the_others_say() -> None:
    walk = fused_walk(Tiling(512, 0, 1))
    alone, valid = seen_by_itself(walk.scene)
    ((cell, _),) = walk.cells()
    dates = cell.split()
    for date, one in enumerate(dates):
        own = valid[0, date].numpy()
        np.testing.assert_array_equal(one.logits[:, own], alone[0, date].numpy()[:, own])
        assert one.valid[:-20].all()
        assert not one.valid[-20:].any()
    # In its upper half, which it does not show, and where the first date has a gap, the second has only the third.
    np.testing.assert_allclose(dates[1].logits[:, :40, :200], alone[0, 2, :, :40, :200], atol=1e-5)


def test_a_place_has_the_mean_of_what_its_dates_show() -> None:
    walk = fused_walk(Tiling(512, 0, 1), as_place=True, others=0.5)
    alone, valid = seen_by_itself(walk.scene)
    with torch.inference_mode():
        fused, _ = walk.fusing.fusion.fuse(alone, valid, torch.tensor([0.0, 45.0, 90.0]))
    told = (fused / 2.0).softmax(2).numpy()[0]
    weights = valid[0].numpy()[:, None] / np.maximum(1, valid[0].numpy().sum(axis=0))
    ((cell, _),) = walk.cells()
    assert cell.logits.shape == (3, *SMALL)
    np.testing.assert_array_equal(cell.valid, valid[0].any(0))
    expected = (told * weights).sum(axis=0)
    np.testing.assert_allclose(cell.probabilities(2.0)[:, cell.valid], expected[:, cell.valid], atol=1e-5)
    np.testing.assert_array_equal(cell.told, next(fused_walk(Tiling(512, 0, 1), others=0.5).cells())[0].told)


def test_dates_that_lie_off_each_other_are_brought_together() -> None:
    held = series()
    for each in held.scenes:
        each.pixels.values[:] = held.scenes[2].pixels.values
    held.scenes[1].pixels.values[:] = np.roll(held.scenes[2].pixels.values, (0, -1, 2), axis=(0, 1, 2))
    off = np.array([[0, 0], [-1, 2], [0, 0]], np.float32)
    fusion, inner = Fusion(3), (slice(5, -25), slice(5, -5))
    fusion.others.data = torch.eye(3)
    expected = each_pixel(torch.from_numpy(PLAIN.apply(held.scenes[2].values()))[None])[0].numpy()
    for shifts, is_met in ((off, True), (None, False)):
        fusing = Fusing(fusion, held.days, True, 2.0, shifts)
        ((cell, _),) = Walk(held, PLAIN, each_pixel, 3, Tiling(512, 0, 1), 1, fusing).cells()
        # All say the same of the ground, twice as loud with the others.
        told = Cell(cell.window, 2 * expected, cell.valid).probabilities(2.0)
        assert np.allclose(cell.probabilities(2.0)[:, *inner], told[:, *inner], atol=1e-4) == is_met


@pytest.mark.parametrize("as_place", [False, True])
def test_blocks_batches_and_workers_do_not_matter_to_a_series(as_place: bool) -> None:
    walk = fused_walk(Tiling(96, 32, 1), as_place, 0.5, by_place)
    logits, valid = np.zeros((walk.classes, *SMALL), np.float32), None
    for other in (walk, replace(walk, tiling=Tiling(96, 32, 4), workers=3)):
        for cell, _ in other.cells():
            place = cell.window.toslices()
            if other is walk:
                logits[:, *place] = cell.logits
            np.testing.assert_array_equal(cell.logits, logits[:, *place])
    window = Window(61, 50, 120, 110)
    block = walk.block(window)
    np.testing.assert_array_equal(block.logits, logits[:, 50:160, 61:181])
    valid = np.isfinite(walk.scene.values(window)).all(axis=1).any(axis=0)
    np.testing.assert_array_equal(block.valid, valid if as_place else np.broadcast_to(valid, (3, *valid.shape)))


def test_a_series_goes_on_later_and_ends_the_same() -> None:
    walk = fused_walk(Tiling(96, 32, 4), others=0.5, forward=by_place)
    cells = list(walk.cells())
    strip = next(strip.copy() for _, strip in walk.cells() if strip is not None)
    later = list(walk.cells(1, strip))
    for (cell, _), (again, _) in zip(cells[-len(later) :], later, strict=True):
        np.testing.assert_array_equal(cell.logits, again.logits)
