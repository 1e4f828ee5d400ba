"""How well networks map scenes whose truth is known, for `adapt.py`."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK_PX = 128  # truth is resampled in blocks, to tell how sure a difference is
RESAMPLED = 500


class Truth:
    """Labelled scenes, and how well networks map them."""

    def __init__(self, folders: Sequence[str], plan: Any, where: str | None, bands: str | None) -> None:
        from rsseg_cli.classes import join
        from rsseg_cli.domain import at_gsd
        from rsseg_cli.folders import LabelOptions, find_labelled, match_bands, positions
        from rsseg_cli.labels import PolygonOptions
        from rsseg_cli.raster.align import align
        from rsseg_cli.raster.labels import align_labels

        options = LabelOptions(polygons=PolygonOptions(where=where)) if where else LabelOptions()
        self.scheme, self.normalisations, self.seconds = plan.domain.scheme, plan.normalisations, 0.0
        self.scenes, self.places = [], []
        for found in find_labelled(folders, options, bands):
            scene = match_bands(found.scene, plan.bands, "the model")
            grid = at_gsd(scene.grid, plan.scale.gsd_m)
            self.scenes.append(align(scene, grid))
            _, table = join(found.labels.scheme, self.scheme)
            ids = align_labels(found.labels, grid).read(grid.window)
            self.places.append(positions(self.scheme)[table[ids]])

    def counts(self, network: Any, match: str) -> NDArray[np.int64]:
        """Pixels of every block by true and by found class, (block, class, class)."""
        from rsseg_models.devices import choose_precision, forward_of

        from rsseg_cli.predict import Walk
        from rsseg_cli.tiling import Tiling

        started, count = time.perf_counter(), len(self.scheme.classes)
        forward = forward_of(network, "cpu", choose_precision("auto", "cpu"))
        found = []
        for scene, places in zip(self.scenes, self.places, strict=True):
            mapped = np.empty(places.shape, np.int64)
            for cell, _ in Walk(scene, self.normalisations[match], forward, count, Tiling(544, 64, 2)).cells():
                mapped[cell.window.toslices()] = np.where(cell.valid, cell.places, count)
            pairs = places.astype(np.int64) * (count + 1) + mapped
            for row in range(0, places.shape[0], BLOCK_PX):
                for col in range(0, places.shape[1], BLOCK_PX):
                    block = np.s_[row : row + BLOCK_PX, col : col + BLOCK_PX]
                    here = pairs[block][(places[block] < count) & (mapped[block] < count)]
                    table = np.bincount(here, minlength=(count + 1) ** 2)[: (count + 1) * count]
                    found.append(table.reshape(count, count + 1)[:, :count])
        self.seconds += time.perf_counter() - started
        return np.array(found)

    def figures(self, counts: NDArray[np.int64]) -> dict[str, Any]:
        iou = _iou(counts.sum(axis=0))
        classes = zip(self.scheme.names, iou.tolist(), strict=True)
        return {
            "miou": float(np.nanmean(iou)),
            "classes": {name: None if value != value else round(value, 4) for name, value in classes},
        }

    def interval(self, before: NDArray[np.int64], after: NDArray[np.int64]) -> tuple[float, float]:
        """Between which the gain lies with 95 %, were the blocks of truth others of their kind."""
        rng, gains = np.random.default_rng(0), []
        for _ in range(RESAMPLED):
            drawn = rng.integers(len(before), size=len(before))
            gains.append(np.nanmean(_iou(after[drawn].sum(0))) - np.nanmean(_iou(before[drawn].sum(0))))
        low, high = np.percentile(gains, (2.5, 97.5))
        return float(low), float(high)


def _iou(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of each class; no number for one that the truth does not hold."""
    hits, true = counts.diagonal(), counts.sum(axis=1)
    union = np.maximum(true + counts.sum(axis=0) - hits, 1)
    return np.where(true > 0, hits / union, np.nan)
