"""The shift between two dates: found to a part of a pixel, through light, season and change, or not claimed at all."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS
from rasterio.windows import Window
from scipy import ndimage

from rsseg_cli.change.common import put_on
from rsseg_cli.change.pair import Pair
from rsseg_cli.change.shift import Shift, estimate, register
from rsseg_cli.errors import RssegError
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.scene import Band, Scene
from rsseg_cli.raster.sources import open_scene

SHIFTS = [(0.3, -0.45), (-1.62, 2.37), (3.4, -2.8)]


@dataclass(frozen=True, eq=False)
class Held:
    values: np.ndarray

    def read(self, window: Window, bands) -> np.ndarray:
        return self.values[list(bands)][:, *window.toslices()].copy()


def pair_of(before: np.ndarray, after: np.ndarray) -> Pair:
    grid = Grid(CRS.from_epsg(32633), Affine(10, 0, 500_000, 0, -10, 5_000_000), *before.shape[1:])
    bands = tuple(Band(str(n), "float32") for n in range(len(before)))
    one, other = (Scene(name, grid, bands, Held(v)) for name, v in (("before.tif", before), ("after.tif", after)))
    return Pair(one, other, grid, True, one)


def fields(seed: int = 0, size_px: int = 360) -> np.ndarray:
    """Three bands of fields of many sizes, each with its own colour."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, size_px, (400, 2))
    nearest = ndimage.distance_transform_edt(
        ~np.isin(np.arange(size_px**2).reshape(size_px, -1), corners @ (size_px, 1)), return_indices=True
    )[1]
    plots = np.unique(nearest[0] * size_px + nearest[1], return_inverse=True)[1].reshape(size_px, size_px)
    colours = rng.uniform(50, 200, (3, plots.max() + 1))
    return ndimage.gaussian_filter(colours[:, plots], (0, 0.8, 0.8)).astype(np.float32)


def moved(values: np.ndarray, dx: float, dy: float) -> np.ndarray:
    return ndimage.shift(values, (0, dy, dx), order=3, mode="mirror").astype(np.float32)


def other_season(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """Another gain and offset in each band, one band turned over, noise, and 30 % of the ground replaced."""
    rng = np.random.default_rng(seed)
    later = np.array([1.3, 0.7, -0.8])[:, None, None] * values + np.array([40, -20, 190])[:, None, None]
    later += rng.normal(0, 6, values.shape)
    patches = ndimage.gaussian_filter(rng.normal(size=values.shape[1:]), 12)
    return np.where(patches > np.quantile(patches, 0.7), later[:, ::-1, ::-1], later).astype(np.float32)


def off_by(found: Shift, true: tuple[float, float]) -> float:
    return max(abs(found.dx - true[0]), abs(found.dy - true[1]))


@pytest.mark.parametrize("true", SHIFTS)
def test_a_shift_is_found_through_light_season_and_change(true: tuple[float, float]) -> None:
    ground = fields()
    found = estimate(pair_of(ground, other_season(moved(ground, *true))))
    assert off_by(found, true) < 0.15
    assert found.reliability > 0.7


def test_nodata_does_not_draw_the_shift_to_zero() -> None:
    ground = fields()
    later = moved(ground, 2.3, -1.4)
    ground[:, 60:110, 250:300] = later[:, 290:330, 30:80] = np.nan
    ground[:, :, ::97] = np.nan
    found = estimate(pair_of(ground, later))
    assert off_by(found, (2.3, -1.4)) < 0.15
    assert found.reliability > 0.7


def test_without_texture_nothing_is_claimed() -> None:
    rng = np.random.default_rng(0)
    flat = np.full((2, 300, 300), 7, np.float32)
    noise = [rng.normal(100, 3, (2, 300, 300)).astype(np.float32) for _ in range(2)]
    for before, after in ((flat, flat), noise, (fields(1), fields(2)), (flat, flat * np.nan)):
        pair = pair_of(before, after)
        assert estimate(pair).reliability < 0.3
        unchanged, _ = register(pair)
        assert unchanged is pair


def test_a_coast_is_enough() -> None:
    """Windows on the open sea have no say, so those on land need not outvote them."""
    rng = np.random.default_rng(0)
    ground = fields()
    ground[:, :, 150:] = 60
    later = moved(ground, 1.3, 0.6)
    found = estimate(pair_of(*(v + rng.normal(0, 2, v.shape).astype(np.float32) for v in (ground, later))))
    assert off_by(found, (1.3, 0.6)) < 0.15
    assert found.reliability >= 0.5


def test_registering_takes_the_shift_out(caplog) -> None:
    caplog.set_level("INFO")
    ground = fields()
    pair = pair_of(ground, moved(ground, -1.62, 2.37))
    registered, shift = register(pair)
    assert off_by(shift, (-1.62, 2.37)) < 0.1
    assert "taken out" in caplog.text
    before, after = (v[:, 8:-8, 8:-8] for v in registered.read())
    as_it_was = np.abs(np.subtract(*pair.read())).mean()
    assert np.abs(before - after).mean() < 0.1 * as_it_was
    assert estimate(registered).length_px < 0.08


def test_dates_that_lie_upon_one_another_are_not_resampled(caplog) -> None:
    caplog.set_level("INFO")
    ground = fields()
    pair = pair_of(ground, other_season(ground))
    registered, shift = register(pair)
    assert shift.length_px < 0.1
    assert registered is pair
    assert "is left as it is" in caplog.text


def test_more_than_is_accepted_is_refused_with_the_figure() -> None:
    ground = fields()
    pair = pair_of(ground, moved(ground, 6, -4))
    with pytest.raises(RssegError, match=r"shift of \+6\.0\d, -[34]\.[90]\d pixels .* more than 5") as refused:
        register(pair)
    assert "--max-shift-px 8" in refused.value.hint
    with pytest.raises(RssegError, match="--max-shift-px nan: not from 0 to 32"):
        register(pair, float("nan"))
    registered, _ = register(pair, 8)
    assert np.abs(np.subtract(*(v[:, 12:-12, 12:-12] for v in registered.read()))).mean() < 1


@pytest.mark.parametrize(
    "name",
    [
        "landsat_taizhou/t{}.tif",
        "oscd_cupertino/t{}.png",
        "sardinia_nir/t{}.tif",
        "sztaki_szada_03/t{}.png",
        "vhr_beijing_a/t{}.jpg",
    ],
)
def test_known_shifts_of_real_pairs_are_recovered(real_data: Path, name: str) -> None:
    """The pairs are not perfectly registered: what counts is by how much the answer moves."""
    paths = (real_data / "change" / name.format(n) for n in (1, 2))
    before, after = (open_scene(path).values()[:, :640, :640] for path in paths)
    start = estimate(pair_of(before, after))
    for true in SHIFTS[1:]:
        found = estimate(pair_of(before, moved(after, *true)))
        assert off_by(found, (true[0] + start.dx, true[1] + start.dy)) < 0.15
        assert found.reliability > 0.5


def test_a_shift_across_coordinate_systems_is_one_in_pixels_of_the_common_grid() -> None:
    """Turned by 30 degrees, the moving date's own columns are not those of the grid."""
    ground = fields()
    pair = pair_of(ground, ground)
    turned = Grid(pair.grid.crs, pair.grid.transform @ Affine.rotation(30, (180, 180)), 360, 360)
    loose = replace(put_on(pair.before, turned), grid=turned)
    before = replace(pair, loose=loose).shifted(2.0, 0.0).before
    still = put_on(loose, pair.grid).values()[:, 130:230, 130:230]
    np.testing.assert_allclose(before.values()[:, 130:230, 132:232], still, atol=0.02)
