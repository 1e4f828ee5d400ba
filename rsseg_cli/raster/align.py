"""A scene brought onto another grid.

GDAL's warper gives slightly different values for a window than for the same crop of the whole: it estimates
the kernel's scale and approximates the transformation for each call anew. Here every read is put together from
fixed blocks of the target grid, each warped in one call with the scale stated, so a window *is* the crop.
The scene's own reader feeds the warp, so that nodata, masks and alpha mean the same before and after.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import reproject
from rasterio.windows import Window

from rsseg_cli.errors import RssegError
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.scene import Pixels, Scene

BLOCK_PX = 256
# A block may need no more source pixels than about this a side, however much it coarsens.
SOURCE_PX = 2048
# Kernel half width in source pixels, at full resolution.
REACH_PX = {Resampling.nearest: 1, Resampling.bilinear: 1, Resampling.cubic: 2, Resampling.average: 1}
# Resolutions closer than this count as equal, so that the kernel is not widened by a hair.
EQUAL_SCALE = 0.01
# Two rasters without a CRS share their pixel coordinates; GDAL wants some projection all the same.
ANY_PLANE = CRS.from_epsg(32631)


def align(scene: Scene, grid: Grid, resampling: Resampling = Resampling.bilinear) -> Scene:
    """The scene on `grid`: read in place where the pixels coincide, resampled where they do not."""
    if scene.grid == grid:
        return scene
    if (scene.grid.crs is None) != (grid.crs is None):
        raise RssegError(
            f"{scene.path}: {'has no' if scene.grid.crs is None else 'has a'} coordinate system, unlike the other",
            "give it one first: gdal_edit.py -a_srs EPSG:32633 -a_ullr WEST NORTH EAST SOUTH FILE",
            file=scene.path,
        )
    if not grid.overlaps(scene.grid):
        raise RssegError(
            f"{scene.path}: shares no ground with the grid it is needed on",
            "check with `rsseg info` that both lie in the same place and have the right coordinate system",
            file=scene.path,
        )
    offset = scene.grid.offset_of(grid)
    pixels: Pixels
    if offset is not None:
        pixels = ShiftedPixels(scene.pixels, scene.grid, *offset)
    else:
        pixels = WarpedPixels(scene.pixels, scene.grid, grid, resampling, _kernel_scale(scene.grid, grid))
    return replace(scene, grid=grid, pixels=pixels)


@dataclass(frozen=True)
class ShiftedPixels:
    """Pixels of the same lattice, read in place; nothing outside the file."""

    pixels: Pixels
    source: Grid
    row: int  # of the target's first pixel in the source
    col: int

    def read(self, window: Window, bands: Sequence[int]) -> NDArray[np.float32]:
        shape = (len(bands), window.height, window.width)
        values = np.full(shape, np.nan, np.float32)
        moved = Window(window.col_off + self.col, window.row_off + self.row, window.width, window.height)
        common = _common(moved, self.source.window)
        if common is not None:
            top, left = common.row_off - moved.row_off, common.col_off - moved.col_off
            values[:, top : top + common.height, left : left + common.width] = self.pixels.read(common, bands)
        return values


@dataclass(frozen=True)
class WarpedPixels:
    """Pixels resampled from another grid, block by anchored block."""

    pixels: Pixels
    source: Grid
    target: Grid
    resampling: Resampling
    scale: tuple[float, float]  # target pixels a source pixel, along x and y; below 1 when coarsening

    @property
    def block_px(self) -> int:
        """Side of the blocks that are warped in one call; the same for every read."""
        return max(1, min(BLOCK_PX, int(SOURCE_PX * min(self.scale))))

    def read(self, window: Window, bands: Sequence[int]) -> NDArray[np.float32]:
        values = np.empty((len(bands), window.height, window.width), np.float32)
        for block in _anchored_blocks(window, self.target, self.block_px):
            common = _common(block, window)
            if common is None:
                continue
            part = self._read_block(block, bands)
            row, col = common.row_off - block.row_off, common.col_off - block.col_off
            top, left = common.row_off - window.row_off, common.col_off - window.col_off
            values[:, top : top + common.height, left : left + common.width] = part[
                :, row : row + common.height, col : col + common.width
            ]
        return values

    def _read_block(self, block: Window, bands: Sequence[int]) -> NDArray[np.float32]:
        values = np.full((len(bands), block.height, block.width), np.nan, np.float32)
        needed = self._source_window(block)
        if needed is None:
            return values
        read = self.pixels.read(needed, bands)
        if np.isnan(read).all():
            return values
        if self.resampling == Resampling.nearest:
            return self._nearest(block, needed, read)
        reproject(
            read,
            values,
            src_transform=self.source.crop(needed).transform,
            src_crs=self.source.crs or ANY_PLANE,
            src_nodata=np.nan,
            dst_transform=self.target.crop(block).transform,
            dst_crs=self.target.crs or ANY_PLANE,
            dst_nodata=np.nan,
            resampling=self.resampling,
            XSCALE=self.scale[0],
            YSCALE=self.scale[1],
            UNIFIED_SRC_NODATA="NO",
        )
        return values

    def _nearest(self, block: Window, needed: Window, read: NDArray[np.float32]) -> NDArray[np.float32]:
        """The pixel in which each centre lies. GDAL's approximation of the way there would be off by a hair."""
        col, row = np.meshgrid(
            np.arange(block.width) + block.col_off + 0.5, np.arange(block.height) + block.row_off + 0.5
        )
        col, row = self.source.pixels_of(self.target, col, row)
        with np.errstate(invalid="ignore"):
            col, row = np.floor(col) - needed.col_off, np.floor(row) - needed.row_off
            inside = (col >= 0) & (row >= 0) & (col < needed.width) & (row < needed.height)
        values = np.full((len(read), block.height, block.width), np.nan, np.float32)
        values[:, inside] = read[:, row[inside].astype(int), col[inside].astype(int)]
        return values

    def _source_window(self, block: Window) -> Window | None:
        """The source pixels that a block's values may come from."""
        col, row = np.meshgrid(
            np.linspace(block.col_off, block.col_off + block.width, 9),
            np.linspace(block.row_off, block.row_off + block.height, 9),
        )
        col, row = self.source.pixels_of(self.target, col, row)
        seen = np.isfinite(col) & np.isfinite(row)
        if not seen.any():
            return None
        # Two more pixels cover what edges bulge between the nine points, and the warper's own rounding.
        reach_x, reach_y = (REACH_PX[self.resampling] / min(1.0, scale) + 2 for scale in self.scale)
        left, right = col[seen].min() - reach_x, col[seen].max() + reach_x
        top, bottom = row[seen].min() - reach_y, row[seen].max() + reach_y
        if right <= 0 or bottom <= 0 or left >= self.source.width or top >= self.source.height:
            return None
        left, top = max(0, math.floor(left)), max(0, math.floor(top))
        right, bottom = min(self.source.width, math.ceil(right)), min(self.source.height, math.ceil(bottom))
        return Window(left, top, right - left, bottom - top)


def _kernel_scale(source: Grid, target: Grid) -> tuple[float, float]:
    """Target pixels a source pixel along x and y, at the target's centre."""
    col, row = target.width / 2, target.height / 2
    cols, rows = np.array([col, col + 1, col]), np.array([row, row, row + 1])
    cols, rows = source.pixels_of(target, cols, rows)
    scales = [1 / math.hypot(cols[i] - cols[0], rows[i] - rows[0]) for i in (1, 2)]
    x, y = (1.0 if not math.isfinite(s) or abs(s - 1) < EQUAL_SCALE else s for s in scales)
    return x, y


def _anchored_blocks(window: Window, grid: Grid, size_px: int) -> Iterator[Window]:
    """The blocks of a grid's fixed division that touch a window."""
    for row in range(window.row_off // size_px * size_px, window.row_off + window.height, size_px):
        for col in range(window.col_off // size_px * size_px, window.col_off + window.width, size_px):
            yield Window(col, row, min(size_px, grid.width - col), min(size_px, grid.height - row))


def _common(one: Window, other: Window) -> Window | None:
    """The window two windows share, in whole pixels; None if they share none."""
    top, left = max(one.row_off, other.row_off), max(one.col_off, other.col_off)
    bottom = min(one.row_off + one.height, other.row_off + other.height)
    right = min(one.col_off + one.width, other.col_off + other.width)
    return Window(left, top, right - left, bottom - top) if bottom > top and right > left else None
