"""Small drawn pairs, held in memory: ground at one date, and later in another light."""

from dataclasses import dataclass

import numpy as np
from affine import Affine
from rasterio.crs import CRS
from rasterio.windows import Window
from scipy.ndimage import gaussian_filter, shift

from rsseg_cli.change.pair import Pair
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.scene import Band, Scene


@dataclass(frozen=True, eq=False)
class Held:
    values: np.ndarray

    def read(self, window: Window, bands: object) -> np.ndarray:
        rows, cols = window.toslices()
        return self.values[:, rows, cols].astype(np.float32)


def pair_of(before: np.ndarray, after: np.ndarray) -> Pair:
    grid = Grid(CRS.from_epsg(32633), Affine(1, 0, 0, 0, -1, 0), *before.shape[1:])
    scenes = [
        Scene(name, grid, tuple(Band(str(n), "float32") for n in range(len(values))), Held(values))
        for name, values in (("before", before), ("after", after))
    ]
    return Pair(scenes[0], scenes[1], grid, keeps_after=True, loose=scenes[0])


def ground(height: int = 96, width: int = 96, bands: int = 3, seed: int = 0) -> np.ndarray:
    """Fields of 12 pixels and texture, alike in all bands but not the same."""
    rng = np.random.default_rng(seed)
    fields = np.kron(rng.random((bands, height // 12 + 1, width // 12 + 1)), np.ones((12, 12)))[:, :height, :width]
    texture = gaussian_filter(rng.standard_normal((bands, height, width)), (0, 1.5, 1.5))
    return (80 + 60 * fields + 15 * texture).astype(np.float32)


def later(before: np.ndarray, noise: float = 2.0, seed: int = 9) -> np.ndarray:
    """The same ground half a pixel aside, in another light."""
    rng = np.random.default_rng(seed)
    moved = np.stack([shift(band, (0.3, 0.4), mode="nearest") for band in before])
    gains, offsets = rng.uniform(0.8, 1.2, (2, len(before), 1, 1))
    return (moved * gains + 10 * offsets + noise * rng.standard_normal(before.shape)).astype(np.float32)


def changed(after: np.ndarray, patches: int = 5, side_px: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """(with squares of other ground in it, where they are)."""
    truth = np.zeros(after.shape[1:], bool)
    rng = np.random.default_rng(3)
    for _ in range(patches):
        row, col = (rng.integers(0, length - side_px) for length in truth.shape)
        truth[row : row + side_px, col : col + side_px] = True
    return np.where(truth, np.roll(after, (37, 41), axis=(1, 2)), after), truth
