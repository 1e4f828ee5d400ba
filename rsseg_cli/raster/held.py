"""Pixels and labels held in memory: what is read many times, and small enough, is read once."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from rsseg_cli.environment import free_memory
from rsseg_cli.raster.labels import Labels
from rsseg_cli.raster.scene import Scene

Values = NDArray[np.float32]

# Formats that are unpacked from the first row on, whichever window is wanted.
FROM_THE_TOP = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp")
# So much is held: 4,700 x 4,700 pixels in three bands.
MOST_BYTES = 1 << 28
# Of what is free; learning itself takes more than what it learns from.
PART_OF_FREE = 1 / 8

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class HeldPixels:
    """A window of some scene; nothing beyond it can be read."""

    values: Values  # (band, y, x)
    row: int
    col: int

    def read(self, window: Window, bands: Sequence[int]) -> Values:
        top, left = int(window.row_off) - self.row, int(window.col_off) - self.col
        return self.values[list(bands), top : top + int(window.height), left : left + int(window.width)]


@dataclass(frozen=True, eq=False)
class HeldIds:
    """Class ids of a whole label map."""

    ids: NDArray[np.uint8]  # (y, x)

    def read(self, window: Window) -> NDArray[np.uint8]:
        return np.array(self.ids[window.toslices()])


def held(scene: Scene, values: Values, window: Window) -> Scene:
    """The scene with the values of a window at hand."""
    return replace(scene, pixels=HeldPixels(values, window.row_off, window.col_off), chosen=None)


def held_whole(scene: Scene) -> Scene:
    """The scene with all its values at hand."""
    return held(scene, scene.values(), scene.grid.window)


def held_labels(labels: Labels) -> Labels:
    """The label map with all its ids at hand."""
    return replace(labels, source=HeldIds(labels.read()))


def fit_in_memory(scenes: Iterable[Scene]) -> bool:
    """Whether scenes that are read again and again may all be held."""
    return sum(map(bytes_of, scenes)) <= min(MOST_BYTES, PART_OF_FREE * free_memory())


def held_if_slow(scene: Scene) -> Scene:
    """The scene, in memory if windows of its files cannot be read without all that is above them."""
    slow = [name for name in scene.files if Path(name).suffix.lower() in FROM_THE_TOP]
    if not slow:
        return scene
    if bytes_of(scene) > MOST_BYTES:
        logger.warning(
            "%s: is too large to be held in memory, and slow to read in parts; as a GeoTIFF it is quicker: "
            "gdal_translate -co TILED=YES -co COMPRESS=DEFLATE %s %s",
            slow[0],
            slow[0],
            Path(slow[0]).with_suffix(".tif").name,
        )
        return scene
    return held_whole(scene)


def bytes_of(scene: Scene) -> int:
    return scene.grid.width * scene.grid.height * len(scene.bands) * np.dtype(np.float32).itemsize
