"""The methods that compare two dates: each looks at the pair once, and gives a distance for any window then."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from rsseg_cli.change.distance import HALO_PX, DistanceModel, fit_distance
from rsseg_cli.change.level import BANDS, CANONICAL
from rsseg_cli.change.pair import Pair
from rsseg_cli.change.threshold import HALF
from rsseg_cli.progress import Track, untracked

Method = Literal["metric-cd", "metric-cd-paper", "classical", "ir-mad", "cva"]
Delivered = Literal["classical", "fusion", "metric-cd"]
Values = NDArray[np.float32]

# The ways of subtracting that each method takes.
WAYS: Mapping[str, tuple[int, ...]] = {"classical": (CANONICAL, BANDS), "ir-mad": (CANONICAL,), "cva": (BANDS,)}


class Model(Protocol):
    """Fitted to one pair."""

    def distance(self, before: Values, after: Values) -> Values:
        """Of a window (band, y, x) of both dates; NaN where there is nothing."""
        ...


@dataclass(frozen=True)
class Choice:
    """A method, and what the person says about it."""

    method: Method = "metric-cd"
    encoder: str | None = None  # what makes features of both dates; None: nothing does
    encoder_weights: str | None = None  # a file, a folder or a model id
    settings: Mapping[str, str] = field(default_factory=dict)  # of --set
    steps: int | None = None
    minutes: float | None = None
    seed: int = 0
    device: str = "auto"


@dataclass(frozen=True)
class Detector:
    """A model and how it came about."""

    model: Model
    halo_px: int  # how far the model looks around a pixel
    base: DistanceModel | None = None  # the classical model that it stands on
    delivered: Delivered = "classical"
    steps: int = 0
    stopped_by: str | None = None
    radiometry: str = "fitted to what did not change"  # how light and season were taken out
    limit: float | None = None  # the distance at which the score is one half, where the method knows it by itself
    score: float = HALF  # from which on a pixel has changed, where the person does not say

    def distance(self, pair: Pair, window: Window) -> Values:
        """Of a window; what is read around it reaches as far as the model looks."""
        top, left = max(0, window.row_off - self.halo_px), max(0, window.col_off - self.halo_px)
        bottom = min(pair.grid.height, window.row_off + window.height + self.halo_px)
        right = min(pair.grid.width, window.col_off + window.width + self.halo_px)
        whole = self.model.distance(*pair.read(Window(left, top, right - left, bottom - top)))
        row, col = window.row_off - top, window.col_off - left
        return whole[row : row + window.height, col : col + window.width]


def fit(choice: Choice, pair: Pair, track: Track = untracked) -> Detector:
    """Looks at the pair."""
    if choice.method == "metric-cd":
        from rsseg_cli.change.optimised import fit_optimised

        return fit_optimised(choice, pair, track)
    if choice.method == "metric-cd-paper":
        from rsseg_cli.change.paper import fit_paper

        return fit_paper(choice, pair, track)
    base = fit_distance(pair, WAYS[choice.method], choice.seed, track)
    return Detector(base, HALO_PX, base)
