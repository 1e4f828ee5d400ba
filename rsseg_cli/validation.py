"""How good a network is on the ground that was held back."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from rasterio.windows import Window

from rsseg_cli.classes import UNLABELLED, ClassScheme
from rsseg_cli.domain import Domain
from rsseg_cli.holdout import widened
from rsseg_cli.predict import Forward, Walk
from rsseg_cli.raster.align import align
from rsseg_cli.scores import Confusion
from rsseg_cli.tiling import Tiling

TILING = Tiling(512, 64, 1)


def validate(forward: Forward, domain: Domain) -> dict[str, Any]:
    """Scores over all held-back patches, each seen with its surroundings."""
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
            confusion.add(truth[cell.window.toslices()], cell.places.astype(np.uint8))
    return confusion.figures()


def seen_windows(domain: Domain) -> Iterator[tuple[int, int, Window]]:
    """Scene, number of the patch, and what the network sees to score it."""
    for scene, (pair, held) in enumerate(zip(domain.pairs, domain.held_back, strict=True)):
        for number, window in held.windows():
            yield scene, number, widened(window, pair.scene.grid)
