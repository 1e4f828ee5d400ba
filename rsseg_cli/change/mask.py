"""What a person masks of a date, such as clouds: pixels that count as nothing there."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.windows import Window

from rsseg_cli.change.common import covered
from rsseg_cli.errors import RssegError
from rsseg_cli.raster.align import align
from rsseg_cli.raster.scene import Pixels, Scene
from rsseg_cli.raster.sources import open_scene

VALUES = re.compile(r"^\d+(-\d+)?(,\d+(-\d+)?)*$")

logger = logging.getLogger(__name__)

Ranges = tuple[tuple[int, int], ...]


def masked(scene: Scene, text: str) -> Scene:
    """The scene without what `FILE[:VALUES]` masks, brought on by nearest neighbour; without values, all but 0.

    It is taken out of the scene before anything is resampled, so that no cloud runs into its surroundings.
    """
    path, ranges = split_values(text)
    mask = open_scene(path)
    if len(mask.bands) != 1:
        raise RssegError(f"{path}: has {len(mask.bands)} bands, and a mask has one", "name a one-band mask", file=path)
    _check_place(mask, scene)
    pixels = MaskedPixels(scene.pixels, align(mask, scene.grid, Resampling.nearest), ranges)
    return replace(scene, pixels=pixels, files=scene.files + mask.files)


def split_values(text: str) -> tuple[str, Ranges]:
    """(file, ranges of values, ends included) of `clouds.tif:3,8-10`; no ranges where no values are given."""
    file, _, values = text.rpartition(":")
    if not file or Path(text).exists() or not (VALUES.match(values) or Path(file).is_file()):
        return text, ()
    ends = [item.split("-") for item in values.split(",")]
    ranges = tuple((int(each[0]), int(each[-1])) for each in ends) if VALUES.match(values) else ()
    if not ranges or any(first > last for first, last in ranges):
        raise RssegError(f"{text}: {values} are no values of a mask", f"list them, small ones first: {file}:3,8-10")
    return file, ranges


@dataclass(frozen=True)
class MaskedPixels:
    """Pixels with those of a mask taken out."""

    pixels: Pixels
    mask: Scene  # one band, on the grid of the pixels
    ranges: Ranges  # of masked values; none: all but 0

    def read(self, window: Window, bands: Sequence[int]) -> NDArray[np.float32]:
        values = self.pixels.read(window, bands)
        values[:, self._is_masked(self.mask.values(window)[0])] = np.nan
        return values

    def _is_masked(self, said: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Where the mask itself holds nothing, it masks nothing."""
        if not self.ranges:
            return np.asarray((said != 0) & np.isfinite(said))
        return np.asarray(np.any([(said >= first) & (said <= last) for first, last in self.ranges], axis=0))


def _check_place(mask: Scene, scene: Scene) -> None:
    if mask.grid.crs is None and scene.grid.crs is None and mask.grid.shape != scene.grid.shape:
        raise RssegError(
            f"{mask.path}: is {mask.grid.width} x {mask.grid.height} pixels, its image "
            f"{scene.path} {scene.grid.width} x {scene.grid.height}",
            "without a coordinate system both must have the same size",
            file=mask.path,
        )
    if covered(scene.grid, mask.grid) not in (None, scene.grid.window):
        logger.info("%s: covers a part of %s; elsewhere nothing is masked", mask.path, scene.path)
