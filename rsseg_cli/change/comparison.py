"""Two dates compared block by block: how different they look everywhere, and from where on that counts as change."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from rsseg_cli.change.distance import DistanceModel
from rsseg_cli.change.methods import WAYS, Choice, Detector, Method, fit
from rsseg_cli.change.pair import Pair
from rsseg_cli.change.scratch import Scratch, Values
from rsseg_cli.change.threshold import Cut, count, threshold
from rsseg_cli.classes import UNLABELLED
from rsseg_cli.progress import Track
from rsseg_cli.raster.tiles import block_count, blocks

BLOCK_PX = 512  # that are looked at together
SECOND: Method = "ir-mad"

Found = TypeVar("Found")


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
    """Fits the method, and looks at everything once; what is found lies in the folder."""
    detector = fit(choice, pair)
    detectors = (detector,) if choice.method == SECOND else (detector, _second_opinion(detector, pair, choice.seed))
    kept = Scratch(folder / "distances", pair.grid, len(detectors), BLOCK_PX, target)

    def look(window: Window) -> NDArray[np.int64]:
        distances = np.stack([each.distance(pair, window) for each in detectors])
        kept.write(distances, window)
        return np.stack([count(layer) for layer in distances])

    counts = np.asarray(sum(_walk(pair, look, track)))
    limit = detector.limit or threshold(counts[0], cut.rule)
    cut = cut if cut.is_given else replace(cut, score=detector.score)
    return Comparison(pair, choice.method, detector, kept, cut, limit, threshold(counts[-1]))


def _second_opinion(detector: Detector, pair: Pair, seed: int) -> Detector:
    """Not fitted anew where it is a part of what was fitted."""
    if isinstance(detector.model, DistanceModel):
        return replace(detector, model=replace(detector.model, ways=WAYS[SECOND]))
    return fit(Choice(SECOND, seed=seed), pair)


def _walk(pair: Pair, look: Callable[[Window], Found], track: Track) -> Iterator[Found]:
    """What is seen in each block, in their order; some are looked at side by side."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        windows = blocks(pair.grid, BLOCK_PX)
        some = iter(lambda: list(islice(windows, workers)), [])
        found = (seen for together in some for seen in pool.map(look, together))
        yield from track(found, "comparing", block_count(pair.grid, BLOCK_PX))
