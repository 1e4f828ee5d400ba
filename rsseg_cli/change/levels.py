"""All distances of two dates that can be weighed: classical ones, and those of features where an encoder is wanted.

Surroundings are averaged before. How large changes are would be learned from known ones otherwise, and those have the
sizes that we gave them: measured, that did harm where real ones are large.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from rsseg_models.change_features import STRIDES, Extractor, apart, halo_px

from rsseg_cli.change.distance import HALO_PX, SAMPLE_SIDE_PX, SAMPLE_WINDOWS, DistanceModel, blurred
from rsseg_cli.change.features import open_features
from rsseg_cli.change.methods import Choice
from rsseg_cli.change.pair import Pair
from rsseg_cli.change.spread import spread

Values = NDArray[np.float32]

# Averaging of features, in pixels.
FEATURE_SCALES_PX = (1, 2, 4)
# What averaging and enlarging see beyond the features' own halo.
FEATURE_MARGIN_PX = 3 * FEATURE_SCALES_PX[-1] + STRIDES[-1]
# Of each band and date, what becomes 0 and 1 for the encoder; by one pixel in so many.
DARK_AND_BRIGHT = (0.02, 0.98)
EVERY = 15
NEAR_ZERO = 0.05


@dataclass(frozen=True, eq=False)
class Features:
    """What makes features of both dates, each scaled by its own bright and dark."""

    extractor: Extractor
    low: Values  # (date, band)
    high: Values
    device: str

    @torch.inference_mode()
    def levels(self, before: Values, after: Values) -> Values:
        """(level, y, x) distances, by stride."""
        held = np.isfinite(before[0])
        dates = [self._made(image, date) for date, image in enumerate((before, after))]
        levels = []
        for stride, one, other in zip(STRIDES, *dates, strict=True):
            cells = apart(one, other)[0].cpu().numpy()
            of_cells = held[::stride, ::stride][: cells.shape[0], : cells.shape[1]]
            soft = [blurred(cells[np.newaxis], of_cells, scale / stride)[0] for scale in FEATURE_SCALES_PX]
            levels.append(_enlarged(np.mean(soft, axis=0), stride, held.shape))
        return np.stack(levels)

    def _made(self, image: Values, date: int) -> tuple[torch.Tensor, ...]:
        return self.extractor(torch.from_numpy(self.scaled(image, date))[None].to(self.device))

    def scaled(self, image: Values, date: int) -> Values:
        """As the encoder sees it: dark is 0, bright 1, and nothing in the middle."""
        low, high = (part[date][:, np.newaxis, np.newaxis] for part in (self.low, self.high))
        scaled = ((np.nan_to_num(image, nan=0.0) - low) / (high - low)).clip(-0.5, 1.5)
        return np.where(np.isfinite(image), scaled, np.float32(0.5))


def _enlarged(cells: Values, stride: int, shape: tuple[int, ...]) -> Values:
    """Cells as pixels; what is left over at the right and the bottom goes on as it is."""
    if stride > 1:
        grown = torch.nn.functional.interpolate(
            torch.from_numpy(cells)[None, None], scale_factor=stride, mode="bilinear", align_corners=False
        )
        cells = grown[0, 0].numpy()
    missing = [(0, max(0, length - size)) for length, size in zip(shape, cells.shape, strict=True)]
    return np.pad(cells, missing, mode="edge")[: shape[0], : shape[1]]


@dataclass(frozen=True, eq=False)
class Levels:
    """All distances that the generator weighs."""

    base: DistanceModel
    features: Features | None

    def of(self, before: Values, after: Values) -> tuple[Values, Values]:
        """(the classical distance (y, x), logarithms of all levels (level, y, x)) of a window."""
        levels = self.base.levels(before, after)
        classical = levels.mean(axis=0)
        if self.features is not None:
            levels = np.concatenate([levels, self.features.levels(before, after)])
        return classical, np.log(levels + np.float32(NEAR_ZERO))

    @property
    def halo_px(self) -> int:
        """In whole cells of the coarsest features, which then lie as in the whole."""
        reach = HALO_PX
        if self.features is not None:
            reach = max(reach, halo_px(self.features.extractor) + FEATURE_MARGIN_PX)
        return -(-reach // STRIDES[-1]) * STRIDES[-1]


def open_levels(choice: Choice, pair: Pair, base: DistanceModel, device: str) -> Levels:
    """Features are scaled by the dark and bright of some windows."""
    extractor = open_features(choice, pair.before.names)
    if extractor is None:
        return Levels(base, None)
    pixels = []
    for window in spread(pair.grid, SAMPLE_SIDE_PX, SAMPLE_WINDOWS):
        both = np.stack(pair.read(window))
        # Some of those that hold something, whatever pattern the gaps have.
        pixels.append(both[:, :, np.isfinite(both[0, 0])][:, :, ::EVERY])
    low, high = np.quantile(np.concatenate(pixels, axis=2), DARK_AND_BRIGHT, axis=2).astype(np.float32)
    features = Features(extractor.to(device), low, np.maximum(high, low + np.float32(1e-6)), device)
    return Levels(base, features)
