"""What was found of each block, on disk until all of it is known: it may be larger than memory, and is seen twice.

A plain file, not a raster: nobody opens it, and what the system says of a full disk reaches us at once. Beside it a
list says which blocks are finished, with their checksums: another run can take them as they are.
"""

import math
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window, intersection

from rsseg_cli.delivery import system_errors
from rsseg_cli.raster.grid import Grid

BYTES = np.dtype(np.float32).itemsize
ENTRY = np.dtype([("row", "<i8"), ("col", "<i8"), ("checksum", "<i8")])

Values = NDArray[np.float32]


@dataclass(frozen=True)
class Scratch:
    """Layers of float32 on a grid, block after block, in any order."""

    path: Path
    grid: Grid
    layers: int
    block_px: int
    target: Path  # what it is needed for; named when the disk is full

    def __post_init__(self) -> None:
        with system_errors(self.target):
            self.path.touch()
            self._list.touch()
            # An entry that a kill cut short would put all behind it out of step.
            os.truncate(self._list, self._list.stat().st_size // ENTRY.itemsize * ENTRY.itemsize)

    def write(self, values: Values, block: Window) -> None:
        """The layers (layer, y, x) of one block of the grid; from any thread."""
        values = np.ascontiguousarray(values, np.float32)
        entry = np.array((block.row_off, block.col_off, zlib.crc32(values.data)), ENTRY)
        with system_errors(self.target):
            with self.path.open("r+b") as file:
                file.seek(self._offset(block))
                file.write(values.data)
            with self._list.open("ab") as file:  # last: what is listed is there
                file.write(entry.tobytes())

    def read(self, window: Window, layer: int) -> Values:
        """A layer (y, x) of any window."""
        found = np.empty((window.height, window.width), np.float32)
        for block in self._blocks(window):
            common = intersection([block, window])
            (first, last), cols = _ends(block, common)
            rows, before = last - first, layer * block.height + first
            offset = self._offset(block) + before * block.width * BYTES
            values = self._values(rows * block.width, offset).reshape(rows, block.width)
            (top, bottom), (left, right) = _ends(window, common)
            found[top:bottom, left:right] = values[:, slice(*cols)]
        return found

    def listed(self) -> dict[tuple[int, int], int]:
        """Checksums of the blocks that are finished, by the row and column of their first pixel."""
        with system_errors(self.target):
            return {(row, col): checksum for row, col, checksum in np.fromfile(self._list, ENTRY).tolist()}

    def block(self, block: Window, checksum: int) -> Values | None:
        """All layers (layer, y, x) of a block; None if they are not what was written."""
        shape = (self.layers, block.height, block.width)
        values = self._values(math.prod(shape), self._offset(block))
        return values.reshape(shape) if zlib.crc32(values.data) == checksum else None

    def forget(self) -> None:
        """No block counts as finished."""
        with system_errors(self.target):
            os.truncate(self._list, 0)

    def _values(self, count: int, offset: int) -> Values:
        with system_errors(self.target):
            return np.fromfile(self.path, np.float32, count, offset=offset)

    @property
    def _list(self) -> Path:
        return self.path.with_name(f"{self.path.name}.finished")

    def _offset(self, block: Window) -> int:
        """Bytes before a block: whole rows of blocks, and those west of it, which are as high as it is."""
        return int(block.row_off * self.grid.width + block.col_off * block.height) * self.layers * BYTES

    def _blocks(self, window: Window) -> Iterator[Window]:
        size, (height, width) = self.block_px, self.grid.shape
        for row in range(window.row_off // size * size, window.row_off + window.height, size):
            for col in range(window.col_off // size * size, window.col_off + window.width, size):
                yield Window(col, row, min(size, width - col), min(size, height - row))


def _ends(outer: Window, window: Window) -> tuple[tuple[int, int], tuple[int, int]]:
    """(rows, columns) of a window as they are counted in another one around it: first, and behind the last."""
    row, col = int(window.row_off - outer.row_off), int(window.col_off - outer.col_off)
    return (row, row + int(window.height)), (col, col + int(window.width))
