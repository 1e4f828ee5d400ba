"""The grid two dates are compared on: what both cover, in the pixels of one of them.

The date with the coarser pixels on the ground gives them; where both are alike, the later one does, so that what is
found lies on the newer image. That date is read as it is. The other one gives way: it is resampled once, if at all.
"""

from dataclasses import replace
from math import sqrt
from typing import Literal

import numpy as np
from rasterio.enums import Resampling
from rasterio.windows import Window

from rsseg_cli.errors import RssegError
from rsseg_cli.raster.align import align
from rsseg_cli.raster.grid import SAME_GSD, Grid
from rsseg_cli.raster.mosaic import ROUNDING_PX
from rsseg_cli.raster.scene import Scene

Align = Literal["auto", "grid", "off"]

# Pixels this many times as coarse are averages of what they cover; below, cubic interpolation keeps edges sharper.
AVERAGE_FROM = 1.5
# Less than this a side shows no surroundings to compare.
FEWEST_PX = 16
# Points a side of a mesh by which one grid is placed on another.
MESH = 65


def on_one_plane(before: Scene, after: Scene, align_by: Align) -> tuple[Scene, Scene]:
    """Both dates in coordinates that can be compared; pixel by pixel where there are none, or none are wanted."""
    if align_by != "off":
        _refuse_one_crs(before, after)
        if _are_placed(before.grid, after.grid):
            return before, after
    if before.grid.shape != after.grid.shape:
        raise RssegError(
            f"{before.path} is {_size(before.grid)} pixels and {after.path} {_size(after.grid)}; "
            "pixel by pixel they cannot be compared",
            "cut both to one size, or compare them by their place on the ground: both need a coordinate system for it, "
            "and no --align off",
            file=after.path,
        )
    return replace(before, grid=after.grid), after


def common_grid(before: Scene, after: Scene) -> tuple[Grid, bool]:
    """(what both cover, in the pixels of one date; whether that is the later one)."""
    keeps_after = size_of(before.grid) <= (1 + SAME_GSD) * size_of(after.grid)
    kept, other = (after, before) if keeps_after else (before, after)
    window = covered(kept.grid, other.grid)
    if window is None:
        raise RssegError(
            f"{before.path} and {after.path} share no ground",
            "check with `rsseg info` that both show the same place and have the right coordinate system",
            file=after.path,
        )
    if min(window.width, window.height) < FEWEST_PX:
        raise RssegError(
            f"{before.path} and {after.path} share {window.width} x {window.height} pixels only",
            f"change needs {FEWEST_PX} x {FEWEST_PX} pixels or more to be seen; take dates that overlap more",
            file=after.path,
        )
    return kept.grid.crop(window), keeps_after


def covered(grid: Grid, other: Grid) -> Window | None:
    """The pixels of a grid that the other one covers, as bounds; all where parts of the other have no place here."""
    if not grid.overlaps(other):
        return None
    t = np.linspace(0, 1, MESH)
    col, row = grid.pixels_of(other, *np.meshgrid(t * other.width, t * other.height))
    if not (np.isfinite(col).all() and np.isfinite(row).all()):
        return grid.window
    left, top = (max(0, int(np.floor(at.min() + ROUNDING_PX))) for at in (col, row))
    right = min(grid.width, int(np.ceil(col.max() - ROUNDING_PX)))
    bottom = min(grid.height, int(np.ceil(row.max() - ROUNDING_PX)))
    return Window(left, top, right - left, bottom - top) if right > left and bottom > top else None


def resampling_for(scene: Scene, grid: Grid) -> Resampling:
    return Resampling.average if size_of(grid) > AVERAGE_FROM * size_of(scene.grid) else Resampling.cubic


def put_on(scene: Scene, grid: Grid, dx: float = 0.0, dy: float = 0.0) -> Scene:
    """The scene on the grid, moved by so many of its pixels, in one resampling."""
    if (dx, dy) != (0.0, 0.0):
        col, row = grid.width / 2, grid.height / 2
        cols, rows = scene.grid.pixels_of(grid, np.array([col, col + dx]), np.array([row, row + dy]))
        x, y = (float(at[1] - at[0]) for at in (cols, rows))
        moved = scene.grid.crop(Window(x, y, scene.grid.width, scene.grid.height))
        scene = replace(scene, grid=moved)
    return align(scene, grid, resampling_for(scene, grid))


def size_of(grid: Grid) -> float:
    """Of a pixel: on the ground, or in whatever unit there is."""
    across, down = grid.pixel_size
    return grid.gsd_m or sqrt(across * down)


def _are_placed(before: Grid, after: Grid) -> bool:
    """With a coordinate system, or at least on one plane, as world files without one say."""
    if before.crs is None or after.crs is None:
        nowhere = before.transform.is_identity or after.transform.is_identity
        return before.crs is after.crs is None and not nowhere
    return True


def _refuse_one_crs(before: Scene, after: Scene) -> None:
    if (before.grid.crs is None) != (after.grid.crs is None):
        odd = before if before.grid.crs is None else after
        raise RssegError(
            f"{odd.path}: has no coordinate system, unlike the other date",
            "give it one first (gdal_edit.py -a_srs EPSG:32633 -a_ullr WEST NORTH EAST SOUTH FILE), or compare images "
            "of one size pixel by pixel: --align off",
            file=odd.path,
        )


def _size(grid: Grid) -> str:
    return f"{grid.width} x {grid.height}"
