"""Temporal consistency: how often the class of a pixel is another on the next date that shows it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsseg_cli.classes import UNLABELLED


class Flips:
    """Counts flips of classes, before and after dates are fused."""

    def __init__(self) -> None:
        self.flipped, self.compared = np.zeros(2, np.int64), 0

    def add(self, told: NDArray[np.uint8]) -> None:
        """Classes by themselves and fused (2, date, y, x); both on the same dates, 255 where a date shows nothing."""
        last = told[:, 0]
        for now in told.swapaxes(0, 1)[1:]:
            seen = now[0] != UNLABELLED
            both = seen & (last[0] != UNLABELLED)
            self.flipped += (both & (now != last)).sum(axis=(1, 2))
            self.compared += int(both.sum())
            last = np.where(seen, now, last)

    def to_json(self) -> dict[str, Any]:
        """Shares of the pairs of dates; None where no pixel is shown twice."""
        before, after = (float(count) / self.compared if self.compared else None for count in self.flipped)
        return {"flips": after, "flips_before_fusion": before, "compared": self.compared}
