"""How good a network is on the ground that was held back."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from rsseg_cli.classes import UNLABELLED, ClassScheme
from rsseg_cli.domain import Domain
from rsseg_cli.fusing import Forward
from rsseg_cli.holdout import widened
from rsseg_cli.predict import Cell, Walk
from rsseg_cli.raster.align import align
from rsseg_cli.scores import Confusion
from rsseg_cli.tiling import Tiling

TILING = Tiling(512, 64, 1)
# About so many pixels are kept with their logits; more would say nothing new, and take memory.
MOST_SAMPLED = 200_000


@dataclass
class Sample:
    """Labelled pixels drawn by chance, as a network sees them."""

    share: float  # of the pixels
    parts: list[tuple[NDArray[np.float32], NDArray[np.uint8]]] = field(default_factory=list)
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(19))

    def add(self, cell: Cell, truth: NDArray[np.uint8]) -> None:
        drawn = cell.valid & (truth != UNLABELLED) & (self.random.random(truth.shape) < self.share)
        self.parts.append((cell.logits[:, drawn].T, truth[drawn]))

    @property
    def logits(self) -> NDArray[np.float32]:
        """(pixel, class)"""
        return np.concatenate([logits for logits, _ in self.parts])

    @property
    def places(self) -> NDArray[np.uint8]:
        """The true classes, as their places among all."""
        return np.concatenate([np.zeros(0, np.uint8), *(places for _, places in self.parts)])


def validate(forward: Forward, domain: Domain) -> tuple[dict[str, Any], Sample]:
    """Scores over all held-back patches, each seen with its surroundings; and a sample of their pixels."""
    sample = Sample(MOST_SAMPLED / max(MOST_SAMPLED, int(domain.scored.sum())))
    scheme = ClassScheme.of_values(range(len(domain.scheme.classes)), dict(enumerate(domain.scheme.names)))
    confusion = Confusion(scheme)
    for scene, number, window in seen_windows(domain):
        truth = domain.read_places(scene, window)
        truth[~domain.held_back[scene].holds(number, window)] = UNLABELLED
        image = domain.pairs[scene].scene
        # A scene of its own, so that the walk sees no more than it needs.
        here = align(image, image.grid.crop(window))
        walk = Walk(here, domain.normalisations[scene], forward, len(scheme.classes), TILING)
        for cell, _ in walk.cells():
            true = truth[cell.window.toslices()]
            confusion.add(true, cell.places.astype(np.uint8))
            sample.add(cell, true)
    return confusion.figures(), sample


def seen_windows(domain: Domain) -> Iterator[tuple[int, int, Window]]:
    """Scene, number of the patch, and what the network sees to score it."""
    for scene, (pair, held) in enumerate(zip(domain.pairs, domain.held_back, strict=True)):
        for number, window in held.windows():
            yield scene, number, widened(window, pair.scene.grid)
