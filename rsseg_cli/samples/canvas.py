"""The pixel grid that elements are drawn on, and how outlines and lines become pixels."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsseg_cli.samples.landscape import Line

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Window = tuple[slice, slice]


@dataclass(frozen=True)
class Canvas:
    """Surface, height and slope of every pixel of a square around (0, 0)."""

    resolution_m: float
    """Side of a pixel."""
    material: NDArray[np.uint8]
    """Number of the material on top."""
    tint: Floats
    """Brightness factor."""
    height: Floats
    """Height above the ground in metres."""
    slope: Floats
    """Rise per metre towards east and north, (2, y, x)."""

    @classmethod
    def blank(cls, side_px: int, resolution_m: float, material: int) -> "Canvas":
        """Return flat ground of one material."""
        shape = (side_px, side_px)
        return cls(
            resolution_m,
            np.full(shape, material, np.uint8),
            np.ones(shape, np.float32),
            np.zeros(shape, np.float32),
            np.zeros((2, *shape), np.float32),
        )

    @property
    def side_px(self) -> int:
        """Return the number of pixels along a side."""
        return int(self.material.shape[0])

    def window(self, west: float, east: float, south: float, north: float) -> Window:
        """Return the part of the grid whose pixel centres can lie between the bounds."""
        half_m, size = self.side_px * self.resolution_m / 2, self.side_px
        spans_m = ((half_m - north, half_m - south), (west + half_m, east + half_m))
        rows, columns = (
            slice(
                min(max(int(first / self.resolution_m) - 1, 0), size),
                min(max(int(last / self.resolution_m) + 2, 0), size),
            )
            for first, last in spans_m
        )
        return rows, columns

    def places(self, window: Window) -> tuple[Floats, Floats]:
        """Return east (1, x) and north (y, 1) of the pixel centres of a window."""
        half_m = self.side_px * self.resolution_m / 2
        east = (np.arange(window[1].start, window[1].stop) + 0.5) * self.resolution_m - half_m
        north = half_m - (np.arange(window[0].start, window[0].stop) + 0.5) * self.resolution_m
        return east[None, :].astype(np.float32), north[:, None].astype(np.float32)

    def paint(self, window: Window, mask: Mask, material: int, tint: float | Floats) -> None:
        """Lay a surface over the masked pixels of a window."""
        self.material[window][mask] = material
        self.tint[window][mask] = tint[mask] if isinstance(tint, np.ndarray) else tint

    def inside(self, outline: Line) -> tuple[Window, Mask]:
        """Return the pixels whose centre lies in an outline (even-odd rule)."""
        corners = np.asarray(outline)
        (west, south), (east, north) = corners.min(axis=0), corners.max(axis=0)
        window = self.window(west, east, south, north)
        columns, rows = self.places(window)
        if not (rows.size and columns.size):
            return window, np.zeros((rows.size, columns.size), bool)
        x0, y0 = corners[:, 0, None], corners[:, 1, None]
        x1, y1 = np.roll(x0, -1, axis=0), np.roll(y0, -1, axis=0)
        line_y = rows[:, 0].astype(np.float64)[None, :]
        crossed, row = np.nonzero((y0 <= line_y) != (y1 <= line_y))
        share = (line_y[0, row] - y0[crossed, 0]) / (y1[crossed, 0] - y0[crossed, 0])
        x = x0[crossed, 0] + share * (x1[crossed, 0] - x0[crossed, 0])
        column = np.ceil((x - float(columns[0, 0])) / self.resolution_m).astype(int)
        toggles = np.zeros((rows.size, columns.size + 1), np.int32)
        np.add.at(toggles, (row, np.clip(column, 0, columns.size)), 1)
        return window, np.asarray(toggles.cumsum(axis=1)[:, :-1] % 2 == 1)

    def rectangle(
        self, centre: tuple[float, float], length_m: float, width_m: float, angle: float
    ) -> tuple[Window, Floats, Floats]:
        """Return a window with the distances along and across from the centre of a turned rectangle."""
        cosine, sine = math.cos(angle), math.sin(angle)
        reach_x = (abs(cosine) * length_m + abs(sine) * width_m) / 2
        reach_y = (abs(sine) * length_m + abs(cosine) * width_m) / 2
        window = self.window(centre[0] - reach_x, centre[0] + reach_x, centre[1] - reach_y, centre[1] + reach_y)
        east, north = self.places(window)
        east, north = east - np.float32(centre[0]), north - np.float32(centre[1])
        return window, cosine * east + sine * north, cosine * north - sine * east
