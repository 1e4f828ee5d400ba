"""What a mask says is not to be seen, such as clouds: pixels that count as nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.windows import Window

from rsseg_cli.errors import RssegError
from rsseg_cli.raster.align import align
from rsseg_cli.raster.scene import Pixels, Scene

Ranges = tuple[tuple[int, int], ...]


def without(scene: Scene, mask: Scene, ranges: Ranges = ()) -> Scene:
    """The scene without what a mask marks, brought on by nearest neighbour; without ranges of values, all but 0.

    It is taken out of the scene before anything is resampled, so that no cloud runs into its surroundings.
    """
    if len(mask.bands) != 1:
        raise RssegError(
            f"{mask.path}: has {len(mask.bands)} bands, and a mask has one", "name a one-band mask", file=mask.path
        )
    if mask.grid.crs is None and scene.grid.crs is None and mask.grid.shape != scene.grid.shape:
        raise RssegError(
            f"{mask.path}: is {mask.grid.width} x {mask.grid.height} pixels, its image "
            f"{scene.path} {scene.grid.width} x {scene.grid.height}",
            "without a coordinate system both must have the same size",
            file=mask.path,
        )
    pixels = MaskedPixels(scene.pixels, align(mask, scene.grid, Resampling.nearest), ranges)
    return replace(scene, pixels=pixels, files=scene.files + mask.files)


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
