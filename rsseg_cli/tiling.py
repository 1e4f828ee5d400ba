"""How a scene is cut into overlapping tiles: anchored to its first pixel, in batches of fixed members."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from rsseg_cli.errors import RssegError
from rsseg_cli.raster.grid import Grid

# Networks halve the resolution five times.
STEP_PX = 32
# Shared with the next tile unless the person wants otherwise. A mix transformer sees its whole tile in any case: with
# 64 px its labels were no nearer to those of one pass over a scene than with 32, and took a tenth longer.
OVERLAP_PX = 64
OVERLAP_OF_MIT_PX = 32
# A CPU has several passes at work at the same time; a GPU one, which must fill it.
BATCH, BATCH_OF_GPU = 1, 8


@dataclass(frozen=True)
class Tiling:
    """How scenes are cut. A map depends on these three, and on nothing else about the walk."""

    tile_px: int  # a tile's side at most; scenes are cut into equal tiles
    overlap_px: int  # shared with the next tile, faded over
    batch: int  # tiles that go through the network together

    @classmethod
    def of(
        cls, encoder: str, device: str, tile_px: int, overlap_px: int | None = None, batch: int | None = None
    ) -> "Tiling":
        """With what suits the encoder and the device where nothing is given."""
        usual = min(OVERLAP_OF_MIT_PX if encoder.startswith("mit-") else OVERLAP_PX, tile_px // 3)
        together = BATCH if device == "cpu" else BATCH_OF_GPU
        return cls(tile_px, usual if overlap_px is None else overlap_px, together if batch is None else batch)

    def __post_init__(self) -> None:
        # A pixel must not lie in the overlaps of three tiles: their ramps would not add up to one.
        if self.tile_px < 3 * self.overlap_px or self.overlap_px < 0 or self.batch < 1:
            raise RssegError(
                f"tiles of {self.tile_px} pixels with an overlap of {self.overlap_px} cannot be blended",
                f"give --tile-px {max(3 * self.overlap_px, 128)} or more, or a smaller --overlap-px",
            )


@dataclass(frozen=True)
class Side:
    """The tiles along one side of a scene."""

    length_px: int  # of the scene
    count: int
    tile_px: int
    overlap_px: int

    @classmethod
    def of(cls, length_px: int, tiling: Tiling) -> "Side":
        """As few tiles as the limit allows, and those as small as they can be: what sticks out is wasted."""
        overlap = tiling.overlap_px
        count = max(1, math.ceil((length_px - overlap) / (tiling.tile_px - overlap)))
        tile = math.ceil(((length_px - overlap) / count + overlap) / STEP_PX) * STEP_PX
        return cls(length_px, count, max(tile, overlap + STEP_PX), overlap)

    @property
    def stride_px(self) -> int:
        return self.tile_px - self.overlap_px

    def cells(self, first_px: int, length_px: int) -> range:
        """The tiles whose finished part touches a stretch of the side; the last tile finishes all that is left."""
        last_px = first_px + length_px - 1
        first, last = (min(at // self.stride_px, self.count - 1) for at in (first_px, last_px))
        return range(first, last + 1)

    def weights(self, number: int) -> NDArray[np.float32]:
        """Ramps into the neighbours; a ramp and its mirror image add up to one. None at the scene's edge."""
        weights = np.ones(self.tile_px, np.float32)
        # Half-pixel centres: whole steps would count the seam itself twice.
        ramp = (np.arange(self.overlap_px, dtype=np.float32) + 0.5) / max(1, self.overlap_px)
        if number > 0:
            weights[: self.overlap_px] = ramp
        if number < self.count - 1:
            weights[self.stride_px :] = ramp[::-1]
        return weights


@dataclass(frozen=True)
class Layout:
    """All tiles of a scene, numbered row by row."""

    down: Side
    across: Side
    batch: int

    @classmethod
    def of(cls, grid: Grid, tiling: Tiling) -> "Layout":
        return cls(Side.of(grid.height, tiling), Side.of(grid.width, tiling), tiling.batch)

    @property
    def count(self) -> int:
        return self.down.count * self.across.count

    def place(self, number: int) -> tuple[int, int]:
        """Row and column of a tile."""
        return divmod(number, self.across.count)

    def number(self, row: int, col: int) -> int:
        return row * self.across.count + col

    def window(self, number: int) -> Window:
        """What a tile covers of the scene."""
        row, col = self.place(number)
        top, left = row * self.down.stride_px, col * self.across.stride_px
        height = min(self.down.tile_px, self.down.length_px - top)
        width = min(self.across.tile_px, self.across.length_px - left)
        return Window(left, top, width, height)

    def batch_of(self, number: int) -> range:
        """The tiles that go through the network together with this one; always the same."""
        first = number // self.batch * self.batch
        return range(first, min(first + self.batch, self.count))

    def batches(self, first_row: int) -> Iterator[range]:
        """Tile numbers of each batch, from the one that holds the row's first tile."""
        number = first_row * self.across.count
        while number < self.count:
            batch = self.batch_of(number)
            yield batch
            number = batch.stop
