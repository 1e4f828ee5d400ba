"""Holes of nothing filled, and then small regions given to their neighbours, so that no gap is left.

The smallest goes first: to the neighbour with which it shares the longest border. Merged regions grow, and those that
have reached their least size stay. A small region that lies in nothing, without a neighbour, goes.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from rsseg_cli.classes import UNLABELLED
from rsseg_cli.errors import RssegError
from rsseg_cli.raster.labels import Ids, Labels
from rsseg_cli.vector.coverage import Coverage, polygonize
from rsseg_cli.vector.measure import measure
from rsseg_cli.vector.reclass import reclass
from rsseg_cli.vector.regions import boxes, neighbours

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Least:
    """How large polygons must be at least, in square metres, or square pixels where there is no CRS."""

    regions: Floats  # by class id
    holes: float  # up to this size, holes of nothing are filled

    @classmethod
    def of(cls, everywhere: float, by_id: Sequence[tuple[int, float]] = (), holes: float = 0.0) -> "Least":
        regions = np.full(UNLABELLED + 1, everywhere, np.float64)
        regions[[number for number, _ in by_id]] = [size for _, size in by_id]
        return cls(regions, holes)


def merged(labels: Labels, least: Least) -> Coverage:
    """The regions of a label map without holes and without regions that are too small."""
    coverage = _without_holes(labels, least.holes) if least.holes else polygonize(labels)
    return _merged(coverage, measure(coverage).areas, least.regions) if least.regions.any() else coverage


def _without_holes(labels: Labels, largest: float) -> Coverage:
    nothing = _unused_id(labels)
    coverage = polygonize(replace(labels, source=_Filled(labels.source, nothing)))
    surroundings = (coverage.ids == nothing) & _at_frame(coverage)
    least = np.zeros(UNLABELLED + 1)
    least[nothing] = np.nextafter(largest, np.inf)
    return _merged(coverage, np.where(surroundings, np.inf, measure(coverage).areas), least, nothing)


@dataclass(frozen=True)
class _Filled:
    """Class ids with an id for nothing, so that holes become regions."""

    source: Ids
    nothing: int

    def read(self, window: Window) -> NDArray[np.uint8]:
        ids = self.source.read(window)
        ids[ids == UNLABELLED] = self.nothing
        return ids


def _unused_id(labels: Labels) -> int:
    free = sorted(set(range(UNLABELLED)) - set(labels.scheme.ids))
    if not free:
        raise RssegError(
            f"{labels.path}: has {UNLABELLED} classes, and filling holes needs room for one more",
            "leave out --fill-holes, or merge classes with --remap",
            file=labels.path,
        )
    return free[-1]


def _merged(coverage: Coverage, areas: Floats, least: Floats, nothing: int | None = None) -> Coverage:
    graph = _Graph(coverage.ids, areas, *_borders(coverage))
    owner = np.arange(len(coverage))
    while len(small := graph.smallest(least)):
        onto = graph.onto(small)
        owner = onto[owner]
        graph = graph.joined(onto)
    alone = (graph.areas < least[graph.ids]) & (owner == np.arange(len(owner)))
    if alone.any():
        logger.info("%d polygons are too small, and left out: nothing is mapped around them", np.count_nonzero(alone))
    goes = alone | (graph.ids == nothing)
    return reclass(coverage, np.where(goes, UNLABELLED, graph.ids)[owner].astype(np.uint8))


def _at_frame(coverage: Coverage) -> NDArray[np.bool_]:
    west, north, east, south = boxes(coverage).T
    height, width = coverage.grid.shape
    return np.asarray((west == 0) | (north == 0) | (east == width) | (south == height))


def _borders(coverage: Coverage) -> tuple[Numbers, Floats]:
    """(pairs of regions that share a border, how long it is)."""
    found = neighbours(coverage)
    across, down = coverage.grid.pixel_size
    return found.pairs, found.lengths[:, 0] * across + found.lengths[:, 1] * down


@dataclass(frozen=True)
class _Graph:
    """Regions and their borders. Regions that were merged away have no border and no area."""

    ids: NDArray[np.uint8]
    areas: Floats
    pairs: Numbers  # (border, 2)
    lengths: Floats

    def smallest(self, least: Floats) -> Numbers:
        """Regions that are too small and have neighbours, each smaller than all neighbours that are too small too."""
        small = self.areas < least[self.ids]
        number = np.arange(len(small), dtype=np.uint32)
        # Equal ones go in an order without pattern: along a row of them, one after the other would take long.
        order = np.lexsort([number * np.uint32(2654435761), self.areas])
        rank = np.empty(len(small), np.int64)
        rank[order] = number
        rank[~small] = len(small)
        before = np.full(len(small), len(small))
        one, other = self.pairs.T
        np.minimum.at(before, one, rank[other])
        np.minimum.at(before, other, rank[one])
        bordering = np.zeros(len(small), bool)
        bordering[self.pairs] = True
        return np.flatnonzero(small & bordering & (rank < before))

    def onto(self, small: Numbers) -> Numbers:
        """What each region belongs to when small ones have gone to their neighbours, and one class is one region."""
        onto = np.arange(len(self.ids))
        chosen = np.zeros(len(self.ids), bool)
        chosen[small] = True
        both = np.concatenate([self.pairs, self.pairs[:, ::-1]])
        lengths = np.tile(self.lengths, 2)[mine := chosen[both[:, 0]]]
        one, other = both[mine].T
        order = np.lexsort([-other, self.areas[other], lengths, one])
        last = np.append(np.diff(one[order]) != 0, True)
        onto[one[order][last]] = other[order][last]
        return _joined(onto, self.pairs[np.equal(*self.ids[onto][self.pairs.T])])

    def joined(self, onto: Numbers) -> "_Graph":
        keys, border = np.unique(np.sort(onto[self.pairs], axis=1) @ (len(onto), 1), return_inverse=True)
        pairs = np.stack(np.divmod(keys, len(onto)), axis=1)
        apart = pairs[:, 0] != pairs[:, 1]
        lengths = np.bincount(border, self.lengths, len(keys))
        areas = np.bincount(onto, self.areas, len(onto)).astype(np.float64)
        return _Graph(self.ids, areas, pairs[apart], lengths[apart])


def _joined(onto: Numbers, pairs: Numbers) -> Numbers:
    """`onto` with these pairs made one as well: everything belongs to one that stands for it and keeps its class."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    one, other = onto[pairs].T
    count, group = connected_components(coo_array((np.ones(len(one), bool), (one, other)), (len(onto), len(onto))))
    stands = np.full(count, len(onto))
    kept = np.flatnonzero(onto == np.arange(len(onto)))
    np.minimum.at(stands, group[kept], kept)
    return np.asarray(stands[group[onto]])
