"""Windows spread evenly over a grid: a fixed sample, however large the raster is."""

from math import isqrt

import numpy as np
from rasterio.windows import Window

from rsseg_cli.raster.grid import Grid

# A small raster is cut into about this many windows a side, so that they can be compared with one another;
FEWEST_A_SIDE = 3
# but smaller windows than this show too little: they overlap instead.
SMALLEST_PX = 64


def spread(grid: Grid, side_px: int, most: int) -> list[Window]:
    """At most so many square windows, row by row; smaller ones where the grid is small."""
    shorter = min(grid.shape)
    side = min(side_px, shorter, max(SMALLEST_PX, shorter // FEWEST_A_SIDE))
    rows, cols = (_starts(length, side, isqrt(most)) for length in grid.shape)
    return [Window(col, row, side, side) for row in rows for col in cols]


def _starts(length: int, side: int, most: int) -> list[int]:
    half_over = 2 * length // side - 1
    count = min(most, max(length // side, min(FEWEST_A_SIDE, half_over)))
    free = length - side
    return [free // 2] if count == 1 else np.linspace(0, free, count).round().astype(int).tolist()
