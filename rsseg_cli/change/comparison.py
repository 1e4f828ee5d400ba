"""Two dates compared block by block: how different they look everywhere, and from where on that counts as change."""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from rsseg_cli.change.distance import HALO_PX, DistanceModel
from rsseg_cli.change.methods import WAYS, Choice, Detector, Method, fit
from rsseg_cli.change.pair import Pair
from rsseg_cli.change.scratch import Scratch, Values
from rsseg_cli.change.threshold import Counts, Cut, count, threshold
from rsseg_cli.classes import UNLABELLED
from rsseg_cli.progress import Track
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.tiles import block_count, blocks

BLOCK_PX = 512  # that are looked at together
TOGETHER = 2  # blocks a side that are read together: of what lies around them, less is unpacked again and again
SECOND: Method = "ir-mad"
# By so little may a method that is fitted again find another distance.
SAME = 1e-5

Place = tuple[int, int]  # row and column of a block's first pixel

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Comparison:
    """What was found of a pair; the distances are on disk. As `Ids`, it reads the mask."""

    pair: Pair
    method: Method
    detector: Detector
    kept: Scratch  # distances: the method's, and last those of the second opinion
    cut: Cut
    limit: float  # the distance at which the score is one half
    second_limit: float  # the same of the second opinion, by its own rule

    def score(self, window: Window) -> Values:
        """Between 0 and 1, NaN where there is nothing."""
        return self._score(self.kept.read(window, 0))

    def ratio(self, window: Window) -> Values:
        """The distance, in units of that at which the score is one half."""
        return np.asarray(self.kept.read(window, 0) / np.float32(self.limit))

    def read(self, window: Window) -> NDArray[np.uint8]:
        score = self.score(window)
        return np.where(np.isnan(score), UNLABELLED, score > self.cut.score).astype(np.uint8)

    def by_second_opinion(self, window: Window) -> NDArray[np.bool_]:
        """What has changed by the second opinion and its own rule."""
        return self.kept.read(window, self.kept.layers - 1) > self.second_limit

    def _score(self, distance: Values) -> Values:
        return distance / (distance + np.float32(self.limit))


def compare(pair: Pair, choice: Choice, cut: Cut, target: Path, folder: Path, track: Track) -> Comparison:
    """Fits the method, and looks at everything once; what is found lies in the folder.

    Blocks that an earlier run has finished there are taken as they are.
    """
    detector = fit(choice, pair, track)
    detectors = (
        (detector,) if choice.method == SECOND else (detector, _second_opinion(detector, pair, choice.seed, track))
    )
    kept = Scratch(folder / "distances", pair.grid, len(detectors), BLOCK_PX, target)
    found = _Walk.of(pair, detectors, kept).counts()
    counts = np.asarray(sum(track(found, "comparing", block_count(pair.grid, BLOCK_PX))))
    limit = detector.limit or threshold(counts[0], cut.rule)
    cut = cut if cut.is_given else replace(cut, score=detector.score)
    return Comparison(pair, choice.method, detector, kept, cut, limit, threshold(counts[-1]))


def _second_opinion(detector: Detector, pair: Pair, seed: int, track: Track) -> Detector:
    """Not fitted anew where it is a part of what was fitted."""
    if detector.base is not None:
        return Detector(replace(detector.base, ways=WAYS[SECOND]), HALO_PX)
    return fit(Choice(SECOND, seed=seed), pair, track)


@dataclass(frozen=True)
class _Walk:
    """A look at every block; some are looked at side by side while the next are read."""

    pair: Pair
    detectors: Sequence[Detector]
    kept: Scratch
    earlier: Mapping[Place, int]  # checksums of what an earlier run has finished

    @classmethod
    def of(cls, pair: Pair, detectors: Sequence[Detector], kept: Scratch) -> "_Walk":
        """One that takes up what is kept, if the methods find the same now."""
        walk = cls(pair, detectors, kept, kept.listed())
        if not walk.earlier:
            return walk
        if walk._finds_the_same():
            logger.info("going on: %d of %d blocks are finished", len(walk.earlier), block_count(pair.grid, BLOCK_PX))
            return walk
        logger.warning("the method did not come to the same as in the run to go on with: all is looked at anew")
        kept.forget()
        return replace(walk, earlier={})

    def _finds_the_same(self) -> bool:
        """In the first block that is kept: another machine, or a limit of time, may make another fit."""
        for window in blocks(self.pair.grid, BLOCK_PX):
            values = self._known(window)
            if values is not None:
                found = self._distances(self._around(window), window)
                return np.allclose(found, values, rtol=SAME, atol=0, equal_nan=True)
        return True

    def counts(self) -> Iterator[Counts]:
        """How many pixels have which distance, by detector; of each block."""
        workers, waiting = os.cpu_count() or 1, deque[Future[Counts]]()
        with ThreadPoolExecutor(workers) as pool:
            for look in self._looks():
                waiting.append(pool.submit(look))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _looks(self) -> Iterator[Callable[[], Counts]]:
        """Those that have to be done; what they look at is read before."""
        for area in blocks(self.pair.grid, TOGETHER * BLOCK_PX):
            near = None
            for window in _cut(area):
                values = self._known(window)
                if values is not None:
                    yield partial(_counts, values)
                    continue
                near = near or self._around(area)
                yield partial(self._look, near, window)

    def _look(self, near: Pair, window: Window) -> Counts:
        distances = self._distances(near, window)
        self.kept.write(distances, window)
        return _counts(distances)

    def _distances(self, near: Pair, window: Window) -> Values:
        ways = [each.model.ways for each in self.detectors if isinstance(each.model, DistanceModel)]
        first = self.detectors[0].model
        if not isinstance(first, DistanceModel) or len(ways) < len(self.detectors):
            return np.stack([each.distance(near, window) for each in self.detectors])
        # One model, of which the second opinion takes other ways: what both need is made once.
        outer = _grown(window, self.detectors[0].halo_px, near.grid)
        row, col = window.row_off - outer.row_off, window.col_off - outer.col_off
        found = first.distances(*near.read(outer), ways)
        return found[:, row : row + window.height, col : col + window.width]

    def _around(self, window: Window) -> Pair:
        """A window of the pair at hand, with as much around it as the detectors look at."""
        return self.pair.held(_grown(window, max(each.halo_px for each in self.detectors), self.pair.grid))

    def _known(self, window: Window) -> Values | None:
        checksum = self.earlier.get((window.row_off, window.col_off))
        return None if checksum is None else self.kept.block(window, checksum)


def _counts(distances: Values) -> Counts:
    return np.stack([count(layer) for layer in distances])


def _cut(area: Window) -> Iterator[Window]:
    """The blocks of several that are read together."""
    bottom, right = area.row_off + area.height, area.col_off + area.width
    for row in range(area.row_off, bottom, BLOCK_PX):
        for col in range(area.col_off, right, BLOCK_PX):
            yield Window(col, row, min(BLOCK_PX, right - col), min(BLOCK_PX, bottom - row))


def _grown(window: Window, px: int, grid: Grid) -> Window:
    top, left = max(0, window.row_off - px), max(0, window.col_off - px)
    bottom = min(grid.height, window.row_off + window.height + px)
    right = min(grid.width, window.col_off + window.width + px)
    return Window(left, top, right - left, bottom - top)
