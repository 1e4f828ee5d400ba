"""Windows that cover a grid."""

from collections.abc import Iterator
from math import ceil

from rasterio.windows import Window

from rsseg_cli.raster.grid import Grid


def blocks(grid: Grid, size_px: int) -> Iterator[Window]:
    """Square windows from the upper left corner on, row by row; the last ones are cut off."""
    for row in range(0, grid.height, size_px):
        for col in range(0, grid.width, size_px):
            yield Window(col, row, min(size_px, grid.width - col), min(size_px, grid.height - row))


def block_count(grid: Grid, size_px: int) -> int:
    return ceil(grid.height / size_px) * ceil(grid.width / size_px)
