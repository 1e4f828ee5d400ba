"""Rasters beside and upon one another: the grid that holds them all."""

import logging
from collections.abc import Sequence

import numpy as np
from rasterio.windows import Window

from rsseg_cli.errors import RssegError
from rsseg_cli.raster.grid import Grid

# A mosaic this many times larger than its files together is more likely a mistake.
MOSTLY_EMPTY = 100
# A corner that is off by rounding must not cost a row of empty pixels.
ROUNDING_PX = 1e-4

logger = logging.getLogger(__name__)


def joint_grid(paths: Sequence[str], grids: Sequence[Grid]) -> tuple[Grid, list[Window]]:
    """(the first grid's lattice, widened to hold every grid; the window that holds each of them there)."""
    places = [_place(grids[0], grid, path, paths[0]) for path, grid in zip(paths, grids, strict=True)]
    left, top = min(p.col_off for p in places), min(p.row_off for p in places)
    right, bottom = max(p.col_off + p.width for p in places), max(p.row_off + p.height for p in places)
    joint = grids[0].crop(Window(left, top, right - left, bottom - top))
    _warn_of_emptiness(joint, grids)
    return joint, [Window(p.col_off - left, p.row_off - top, p.width, p.height) for p in places]


def _place(lattice: Grid, grid: Grid, path: str, first: str) -> Window:
    """The pixels of a lattice that hold a grid; they may lie beyond the grid that the lattice is given by."""
    if (grid.crs is None) != (lattice.crs is None):
        raise RssegError(
            f"{path}: {'has no' if grid.crs is None else 'has a'} coordinate system, unlike {first}",
            "give the one without its own first: gdal_edit.py -a_srs EPSG:32633 -a_ullr WEST NORTH EAST SOUTH FILE",
            file=path,
        )
    place = place_on(lattice, grid)
    if place is None:
        raise RssegError(f"{path}: cannot be brought into the coordinate system of {first}", "leave it out", file=path)
    return place


def place_on(lattice: Grid, grid: Grid) -> Window | None:
    """The pixels of a lattice that hold a grid, beyond the lattice's own extent too; None where they have no place."""
    offset = lattice.offset_of(grid)
    if offset is not None:
        return Window(offset[1], offset[0], grid.width, grid.height)
    t = np.linspace(0, 1, 21)
    col, row = (a.ravel() for a in np.meshgrid(t * grid.width, t * grid.height))
    col, row = lattice.pixels_of(grid, col, row)
    if not (np.isfinite(col).all() and np.isfinite(row).all()):
        return None
    left, top = (int(np.floor(a.min() + ROUNDING_PX)) for a in (col, row))
    right, bottom = (int(np.ceil(a.max() - ROUNDING_PX)) for a in (col, row))
    return Window(left, top, max(1, right - left), max(1, bottom - top))


def _warn_of_emptiness(joint: Grid, grids: Sequence[Grid]) -> None:
    pixels = sum(grid.height * grid.width for grid in grids)
    if joint.height * joint.width > MOSTLY_EMPTY * pixels:
        logger.warning(
            "the mosaic is %d x %d pixels, far more than its %d files hold: do they lie far apart, or on both sides of "
            "the 180th meridian?",
            joint.width,
            joint.height,
            len(grids),
        )
