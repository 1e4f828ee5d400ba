"""A label map as regions without gap or overlap, held together by the arcs that they share.

    corners -> arcs -> rings -> regions

A region is a set of pixels of one id, joined over their edges. Its outline is a shell and any number of holes: rings,
which walk the sides of arcs. Every border is there once, as the line of an arc, and `region` says what lies on either
side of it. Move the points of lines, and neighbours still fit without gap or overlap, while the rings stay as they
are. Give regions other ids, and `cover` makes new ones of the corners that are left. Polygons are put together from
lines and rings at the very end.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rsseg_cli.classes import UNLABELLED
from rsseg_cli.environment import free_memory
from rsseg_cli.errors import RssegError
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.labels import Labels
from rsseg_cli.vector.arcs import Arcs, trace_arcs
from rsseg_cli.vector.chains import Indices, Offsets, offsets_of
from rsseg_cli.vector.corners import STRIP_ROWS, Corners, CornersError, find_corners, stable_order
from rsseg_cli.vector.holes import find_shells, top_corners
from rsseg_cli.vector.rings import Rings, ring_of_sides, trace_rings

NOTHING = -1
# Sides, of which noise has four a corner, are counted in 32 bits.
MAX_CORNERS = 1 << 29
# What maps take while slivers are merged and lines are smoothed; noise takes twice as much.
BYTES_A_CORNER = 300


@dataclass(frozen=True)
class Lines:
    """The points of arcs, in pixels from the raster's first corner; whole numbers as long as none was moved."""

    x: NDArray[np.int32] | NDArray[np.float64]
    y: NDArray[np.int32] | NDArray[np.float64]
    offsets: Offsets  # of arcs; both ends of an arc are among its points


@dataclass(frozen=True)
class Coverage:
    """Regions in the order of their first pixels, row by row."""

    grid: Grid
    lines: Lines
    region: Indices  # on each side of the arcs; NOTHING where there is none
    leaving: Indices  # (node, way) as in Arcs
    rings: Rings  # region by region, the shell first
    parts: Offsets  # of regions, in rings
    ids: NDArray[np.uint8]  # of regions
    pixels: NDArray[np.int64]  # of regions

    def __len__(self) -> int:
        return len(self.ids)


def polygonize(labels: Labels, strip_rows: int = STRIP_ROWS) -> Coverage:
    """The regions of a label map; the same ones whatever strips it is read in."""
    return cover(labels.grid, _corners_of(labels, strip_rows))


def cover(grid: Grid, corners: Corners) -> Coverage:
    """The regions between borders with these corners."""
    arcs = trace_arcs(corners)
    lines = Lines(corners.x[arcs.corners], corners.y[arcs.corners], arcs.offsets)
    rings = trace_rings(arcs.leaving, len(arcs))
    tops = top_corners(arcs, rings)
    in_raster_order = np.argsort(tops, kind="stable")
    rings, tops = rings.take(in_raster_order), tops[in_raster_order]
    ids = arcs.ids[rings.sides[rings.offsets[:-1]]]
    areas = np.where(ids == UNLABELLED, 0, _areas(lines, rings))
    region = _regions(corners, arcs, rings, areas, tops)
    kept = np.flatnonzero(region != NOTHING)
    kept = kept[stable_order(region[kept])]  # no hole begins above or west of its shell
    count = np.count_nonzero(areas > 0)
    return Coverage(
        grid,
        lines,
        region[ring_of_sides(rings.sides, rings.offsets)],
        arcs.leaving,
        rings.take(kept),
        offsets_of(np.bincount(region[kept], minlength=count)),
        ids[areas > 0],
        np.bincount(region[kept], areas[kept], minlength=count).astype(np.int64),
    )


def chosen(coverage: Coverage, regions: NDArray[np.int64]) -> Coverage:
    """Some of the regions, in that order; what lay in the others is nothing."""
    sizes = np.diff(coverage.parts)[regions]
    parts = offsets_of(sizes)
    rings = np.repeat(coverage.parts[regions] - parts[:-1], sizes) + np.arange(parts[-1])
    number = np.full(len(coverage) + 1, NOTHING, np.int32)  # with a last one for NOTHING
    number[regions] = np.arange(len(regions))
    return replace(
        coverage,
        region=number[coverage.region],
        rings=coverage.rings.take(rings),
        parts=parts,
        ids=coverage.ids[regions],
        pixels=coverage.pixels[regions],
    )


def _corners_of(labels: Labels, strip_rows: int) -> Corners:
    most = min(MAX_CORNERS, free_memory() // BYTES_A_CORNER)
    try:
        return find_corners(labels, *labels.grid.shape, strip_rows, most)
    except CornersError as problem:
        raise RssegError(
            f"{labels.path}: the borders in it have more than {most} corners, which is more than memory holds",
            "if it is noise, filter it first (rio sieve); else cut the map into parts",
            file=labels.path,
        ) from problem


def _regions(corners: Corners, arcs: Arcs, rings: Rings, areas: NDArray[np.int64], tops: Indices) -> Indices:
    """The region of each ring: shells enclose positive areas, holes negative ones, rings of nothing none."""
    shells, holes = np.flatnonzero(areas > 0), np.flatnonzero(areas < 0)
    region = np.full(len(rings), NOTHING, np.int32)
    region[shells] = np.arange(len(shells))
    region[holes] = region[find_shells(corners, arcs, rings, holes, tops[holes])]
    return region


def _areas(lines: Lines, rings: Rings) -> NDArray[np.int64]:
    """The pixels inside each ring; holes count negative."""
    along = swept_by_arcs(lines)
    walked = np.stack([along, -along], axis=1).ravel()
    areas: NDArray[np.int64] = np.add.reduceat(walked[rings.sides], rings.offsets[:-1])
    return areas


def swept_by_arcs(lines: Lines) -> NDArray[np.int64]:
    """Pixels swept along each arc of unmoved lines; positive for a closed one with what it encloses on its left."""
    swept = np.zeros(len(lines.x), np.int64)
    np.multiply(lines.x[1:], lines.y[:-1] - lines.y[1:], out=swept[:-1], dtype=np.int64)
    swept[lines.offsets[1:] - 1] = 0  # from the end of an arc to the next arc
    return np.asarray(np.add.reduceat(swept, lines.offsets[:-1]))
