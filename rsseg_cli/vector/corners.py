"""Corners: the points between pixels where a border turns, ends or forks.

Of a raster nothing but its corners is kept, so that memory goes with the length of borders and not with pixels.
Borders run between pixels of different ids. Where nothing is labelled, and beyond the raster, is *nothing*, and its
border counts too. From a corner, edges lead north, east, south and west (0 to 3), each straight to the next corner.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from rsseg_cli.classes import UNLABELLED
from rsseg_cli.raster.labels import Ids
from rsseg_cli.vector.chains import Indices

NORTH, EAST, SOUTH, WEST = range(4)
STRIP_ROWS = 512
# Pixels looked at together: few enough for the processor's cache, enough for few calls of numpy.
SLICE_PX = 1 << 19


@dataclass(frozen=True)
class Corners:
    """Corners in raster order: row by row, from west to east."""

    x: Indices  # columns of pixels to the west
    y: Indices  # rows of pixels to the north
    around: NDArray[np.uint8]  # (4, corner) ids of the pixels around, clockwise from north-west

    def __len__(self) -> int:
        return len(self.x)

    def has_edge(self, way: int) -> NDArray[np.bool_]:
        """Where an edge leads that way: the two pixels that it parts differ."""
        return np.asarray(self.around[way] != self.around[(way + 1) % 4])

    def leads(self, way: int) -> NDArray[np.bool_]:
        """Where an edge is walked that way: the smaller id is kept on the left, and nothing on the right."""
        return np.asarray(self.around[way] < self.around[(way + 1) % 4])

    @cached_property
    def is_node(self) -> NDArray[np.bool_]:
        """Where more than two edges meet: not a border that turns, but several that end."""
        edges = np.sum([self.has_edge(way) for way in range(4)], axis=0, dtype=np.uint8)
        return np.asarray(edges > 2)

    @cached_property
    def upright(self) -> tuple[Indices, Indices]:
        """(upper, lower) corners of the edges along columns, column by column and downwards."""
        order = stable_order(self.x)
        # Edges of a column never overlap: their upper corners and their lower corners come in the same order.
        return order[self.has_edge(SOUTH)[order]], order[self.has_edge(NORTH)[order]]


class CornersError(ValueError):
    """More than there is room for."""


def find_corners(ids: Ids, height: int, width: int, strip_rows: int = STRIP_ROWS, most: int | None = None) -> Corners:
    """All corners of a raster, read in strips of its full width."""
    found, count = [], 0
    for top, rows in _slices(ids, height, width, strip_rows):
        found.append(_corners_in(rows, top))
        count += len(found[-1][0])
        if most is not None and count > most:
            raise CornersError
    x, y, around = (np.concatenate(parts, axis=-1) for parts in zip(*found, strict=True))
    return Corners(x, y, around)


def _slices(ids: Ids, height: int, width: int, strip_rows: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """(y of the second row, rows of pixels) down the raster; each slice begins with the last row of the one before."""
    above = nothing = np.full((1, width), UNLABELLED, np.uint8)
    step = max(1, SLICE_PX // width)
    for top in range(0, height, strip_rows):
        strip = ids.read(Window(0, top, width, min(strip_rows, height - top)))
        for first in range(0, len(strip), step):
            rows = np.concatenate([above, strip[first : first + step]])
            yield top + first, rows
            above = rows[-1:]
    yield height, np.concatenate([above, nothing])


def _corners_in(rows: NDArray[np.uint8], top: int) -> tuple[Indices, Indices, NDArray[np.uint8]]:
    """The corners between neighbouring rows; those between the first two lie at y = top."""
    stride = rows.shape[1] + 1
    # All rows in one line, with nothing before each of them and after the last: every pixel has neighbours.
    line = np.full(len(rows) * stride + 1, UNLABELLED, np.uint8)
    line[:-1].reshape(-1, stride)[:, 1:] = rows
    upright = line[1:] != line[:-1]
    level = line[stride:] != line[:-stride]
    at = np.flatnonzero((upright[:-stride] | upright[stride:]) & (level[:-1] | level[1:]))
    around = np.stack([line[at], line[at + 1], line[at + stride + 1], line[at + stride]])
    at32 = at.astype(np.int32)
    y = at32 // np.int32(stride)
    return at32 - y * np.int32(stride), y + np.int32(top), around


def stable_order(keys: Indices) -> Indices:
    """What sorts whole numbers from 0 on; equal ones stay in the order they have."""
    # numpy counts numbers of 16 bits, which is several times quicker than comparing; two rounds do for 32.
    order = np.argsort((keys & 0xFFFF).astype(np.uint16), kind="stable").astype(np.int32)
    high = (keys >> 16).astype(np.uint16)
    return order[np.argsort(high[order], kind="stable")] if high.any() else order
