"""Polygons put together from the lines and rings of a coverage, many at a time."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsseg_cli.raster.grid import apply
from rsseg_cli.vector.chains import Offsets, offsets_of
from rsseg_cli.vector.coverage import Coverage

# Regions put together at a time: enough for few calls of numpy, and few enough for little memory.
BATCH = 4096
WKB_POLYGON = 3


@dataclass(frozen=True)
class Outlines:
    """Polygons as GeoArrow lays them out: closed rings in map coordinates, shells anticlockwise, holes clockwise."""

    xy: NDArray[np.float64]  # (point, 2)
    rings: Offsets  # in points
    polygons: Offsets  # in rings, the shell first

    def __len__(self) -> int:
        return len(self.polygons) - 1


def outline_batches(coverage: Coverage, *, corners_only: bool) -> Iterator[Outlines]:
    """The polygons of all regions, in their order."""
    for first in range(0, len(coverage), BATCH):
        yield outlines(coverage, first, min(len(coverage), first + BATCH), corners_only=corners_only)


def outlines(coverage: Coverage, first: int, last: int, *, corners_only: bool) -> Outlines:
    """The polygons of the regions from `first` to before `last`.

    Where a ring goes straight on at a node, it may do without a point; with it, it has all points of its neighbours.
    """
    parts = coverage.parts[first : last + 1]
    at, sizes = _points(coverage, coverage.rings.offsets[parts[0] : parts[-1] + 1], corners_only)
    open_rings = offsets_of(sizes)
    at = np.insert(at, open_rings[1:], at[open_rings[:-1]])
    rings = open_rings + np.arange(len(open_rings))
    transform = coverage.grid.transform
    if transform.determinant > 0:  # the map is the screen's mirror image
        at = at[np.repeat(rings[:-1] + rings[1:] - 1, np.diff(rings)) - np.arange(len(at))]
    x, y = (points[at].astype(np.float64) for points in (coverage.lines.x, coverage.lines.y))
    return Outlines(np.stack(apply(transform, x, y), axis=1), rings, parts - parts[0])


def _points(coverage: Coverage, rings: Offsets, corners_only: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(points of the lines that rings pass, each once a ring; how many each ring passes)."""
    sides = coverage.rings.sides[rings[0] : rings[-1]]
    left_out = coverage.rings.straight[rings[0] : rings[-1]] & corners_only
    arc, is_back = sides >> 1, (sides & 1).astype(bool)
    step = np.where(is_back, -1, 1)
    begin, end = coverage.lines.offsets[arc], coverage.lines.offsets[arc + 1] - 1
    sizes = end - begin - left_out  # without the end: the next side begins there
    begin = np.where(is_back, end, begin) + left_out * step
    before = np.cumsum(sizes) - sizes
    at = np.repeat(begin - step * before, sizes) + np.repeat(step, sizes) * np.arange(sizes.sum())
    return at, np.add.reduceat(sizes, rings[:-1] - rings[0])


def to_wkb(polygons: Outlines) -> tuple[Offsets, NDArray[np.uint8]]:
    """(offsets of polygons, well-known binary of them all): what Arrow calls a large binary array."""
    sizes, shells = np.diff(polygons.rings), polygons.polygons[:-1]
    # Each ring is led by 16 bytes, as if by a point. A hole needs the last 4 of them, a shell the last 13.
    lead = np.zeros((len(sizes), 16), np.uint8)
    lead[shells, 3] = sys.byteorder == "little"
    lead[shells, 4:8] = _bytes(np.full(len(shells), WKB_POLYGON))
    lead[shells, 8:12] = _bytes(np.diff(polygons.polygons))
    lead[:, 12:] = _bytes(sizes)
    pairs = np.insert(polygons.xy.view(np.complex128).ravel(), polygons.rings[:-1], lead.view(np.complex128).ravel())
    is_needed = np.ones((len(pairs), 16), bool)
    leads = polygons.rings[:-1] + np.arange(len(sizes))
    is_needed[leads, :12] = False
    is_needed[leads[shells], 3:12] = True
    offsets = 9 * np.arange(len(polygons) + 1) + 4 * polygons.polygons + 16 * polygons.rings[polygons.polygons]
    return offsets, pairs.view(np.uint8).reshape(-1, 16)[is_needed]


def from_wkb(data: Iterable[bytes]) -> Outlines:
    """What `to_wkb` wrote; of other polygons too, whatever way their rings run."""
    import shapely

    _, xy, (rings, polygons) = shapely.to_ragged_array(shapely.from_wkb(np.asarray(data, object)))
    return Outlines(xy, rings.astype(np.int64), polygons.astype(np.int64))


def _bytes(counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Four of each."""
    return counts.astype(np.uint32)[:, np.newaxis].view(np.uint8)
