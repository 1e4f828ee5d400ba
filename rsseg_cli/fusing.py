"""The dates of a series taken together, tile by tile."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from rsseg_models.fusion import Fusion, warp
from torch import Tensor

from rsseg_cli.classes import UNLABELLED

Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Seen:
    """What the network made of a tile, or of a batch of them."""

    logits: NDArray[np.float32] | None  # (class, y, x); None where there is nothing to see
    valid: NDArray[np.bool_]  # (y, x), of dates (date, y, x)
    # Of a series (2, date, y, x): the class of each date by itself, and fused, where the date shows something. Tiles
    # do not fade here.
    told: NDArray[np.uint8] | None = None

    def of(self, tile: int) -> "Seen":
        """One tile of a batch."""
        logits, told = (None if part is None else part[tile] for part in (self.logits, self.told))
        return Seen(logits, self.valid[tile], told)


@dataclass(frozen=True)
class Fusing:
    """How the dates of a series are taken together."""

    fusion: Fusion
    days: NDArray[np.int64]
    as_place: bool  # one answer for the place, and not one a date
    temperature: float
    shifts: NDArray[np.float32] | None = None  # by how many pixels (down, right) dates lie off each other (date, 2)

    def see(self, forward: Forward, values: NDArray[np.float32], valid: NDArray[np.bool_]) -> Seen:
        """Of a batch (tile, date, band, y, x), and what of it is valid (tile, date, y, x)."""
        told = np.full((len(valid), 2, *valid.shape[1:]), UNLABELLED, np.uint8)
        ever = np.asarray(valid.any(axis=1))
        if not ever.any():
            return Seen(None, ever if self.as_place else valid, told)
        with torch.inference_mode():
            seen = torch.from_numpy(valid)
            alone = torch.stack([forward(torch.from_numpy(date)) for date in values.swapaxes(0, 1)], dim=1)
            fused, known = self.fusion.fuse(alone, seen, torch.from_numpy(self.days).float(), self._shifts)
            for at, logits in enumerate((alone, fused)):
                told[:, at] = torch.where(seen, logits.argmax(dim=2), UNLABELLED).numpy()
            if self.as_place:
                seen = self._under_each_other(seen[:, :, None].float())[:, :, 0] > 0.5
                mean = self._mean(self._under_each_other(fused), seen)
                return Seen(mean.numpy(), seen.any(dim=1).numpy(), told)
            fused = torch.where(known[:, :, None], fused, 0)
            return Seen(fused.flatten(1, 2).numpy(), known.numpy(), told)

    @property
    def _shifts(self) -> Tensor | None:
        return None if self.shifts is None or not self.shifts.any() else torch.from_numpy(self.shifts)

    def _under_each_other(self, planes: Tensor) -> Tensor:
        """Dates (tile, date, plane, y, x) as they lie under the one that the others lie off."""
        if self._shifts is None:
            return planes
        return torch.stack([warp(planes[:, date], shift) for date, shift in enumerate(self._shifts)], dim=1)

    def _mean(self, logits: Tensor, seen: Tensor) -> Tensor:
        """Logits whose probabilities are the mean of those of the dates that show a pixel."""
        probabilities = torch.where(seen[:, :, None], (logits / self.temperature).softmax(dim=2), 0)
        mean = probabilities.sum(dim=1) / seen.sum(dim=1).clamp(min=1)[:, None]
        return self.temperature * mean.clamp(min=torch.finfo(mean.dtype).tiny).log()
