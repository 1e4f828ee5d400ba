"""Features for `metric-cd` that learn on the pair itself, jointly with a generator that weighs them.

Published (see `metric_cd_paper.py`) as a part of the method, but never reached by its losses. It is done only where
a rate is given (`tune`). What anchors the features are known changes, and the published loss on distances that move
along.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rsseg_models.change_features import Extractor, apart
from rsseg_models.metric_cd import CLIP, WARM_UP, Generator, Learned, Settings, Watch, best_of, known_loss, metric_loss
from rsseg_models.optimise import Descent, Schedule

# Crops of a step, and of one pass where nothing is learned.
BATCH = 4
# Distances of features before their logarithm.
NEAR_ZERO = 0.05
# The published loss calls unchanged what is below 1: so far apart is unchanged ground in the mean.
UNCHANGED = 0.5


@dataclass(frozen=True)
class Crops:
    """Squares of both dates, with known changes in one of them."""

    dates: Tensor  # (crop, 2, band, y, x) in [0, 1]
    changed: Tensor  # (crop, y, x) bool
    counted: Tensor  # (crop, y, x) bool: both dates hold something, and nothing else had changed

    def __len__(self) -> int:
        return len(self.dates)

    @property
    def is_useful(self) -> bool:
        """Whether known changes lie where they count, and unchanged ground too."""
        return bool((self.changed & self.counted).any() and (~self.changed & self.counted).any())

    def of(self, places: Tensor) -> "Crops":
        return Crops(self.dates[places], self.changed[places], self.counted[places])

    def to(self, device: str) -> "Crops":
        return Crops(self.dates.to(device), self.changed.to(device), self.counted.to(device))


class TunedFeatures(nn.Module):
    """The extractor, and a generator of its distances."""

    def __init__(self, extractor: nn.Module, levels: int) -> None:
        super().__init__()
        self.extractor: Any = extractor  # an Extractor too
        self.generator = Generator(levels)

    def forward(self, dates: Tensor) -> Tensor:
        """(crop, 2, band, y, x) to (crop, y, x, level): how far apart features are at each pixel."""
        levels = zip(*(self.extractor(dates[:, date]) for date in (0, 1)), strict=True)
        size = dates.shape[-2:]
        each = [functional.interpolate(apart(*both)[:, None], size=size, mode="bilinear") for both in levels]
        return torch.cat(each, dim=1).movedim(1, -1)

    def logit(self, distances: Tensor) -> Tensor:
        """Of pixels (pixel, level)."""
        found: Tensor = self.generator((distances + NEAR_ZERO).log())
        return found


class FeatureTuning:
    """Features while they learn."""

    def __init__(self, extractor: Extractor, learned: Crops, kept_back: Crops, settings: Settings) -> None:
        assert isinstance(extractor, nn.Module)
        self.crops, self.kept_back, self.settings = learned, kept_back, settings
        # Norms keep the statistics that they came with: those of few crops would say little.
        network = copy.deepcopy(extractor).eval().requires_grad_(True)
        self.network = TunedFeatures(network, len(extractor.channels)).to(learned.dates.device)
        found, _ = self._pixels(learned)
        self.network.generator.standardise((found + NEAR_ZERO).log())
        self.unit = found.sum(dim=1).mean() / UNCHANGED
        groups = [(self.network.extractor, settings.tune), (self.network.generator, settings.learning_rate)]
        self.descent = Descent(groups, Schedule(settings.steps, WARM_UP), settings.weight_decay, CLIP)

    def step(self, crops: Crops, number: int) -> dict[str, Tensor]:
        distances = self.network(crops.dates)[crops.counted]
        logit = self.network.logit(distances)
        known = known_loss(logit, crops.changed[crops.counted])
        metric = metric_loss(logit, distances.sum(dim=1) / self.unit)
        self.descent.minimise(known + self.settings.metric * metric, number)
        self.network.generator.clamp()
        return {"known": known.detach(), "metric": metric.detach()}

    def draw(self, number: int) -> Crops:
        """Some crops; which, the seed of the step decides."""
        return self.crops.of(torch.randperm(len(self.crops))[:BATCH])

    @torch.no_grad()
    def error(self) -> float:
        """On the known changes that were kept back."""
        distances, changed = self._pixels(self.kept_back)
        return float(known_loss(self.network.logit(distances), changed))

    @torch.no_grad()
    def _pixels(self, crops: Crops) -> tuple[Tensor, Tensor]:
        """(distances, what changed) of all that count, a few crops at a time."""
        parts = [crops.of(torch.arange(at, min(at + BATCH, len(crops)))) for at in range(0, len(crops), BATCH)]
        distances = torch.cat([self.network(part.dates)[part.counted] for part in parts])
        return distances, crops.changed[crops.counted]

    def state_dict(self) -> dict[str, Any]:
        return {"network": self.network.state_dict(), "descent": self.descent.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.descent.load_state_dict(state["descent"])


def tune(
    extractor: Extractor,
    learned: Crops,
    kept_back: Crops,
    settings: Settings,
    seed: int = 0,
    is_late: Callable[[], bool] = lambda: False,
    watch: Watch = iter,
) -> Learned[TunedFeatures]:
    """Steps until what was kept back is told no better; the features are those that told it best."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        method = FeatureTuning(extractor, learned, kept_back, settings)
        found = best_of(method, method.draw, settings, seed, is_late, watch)
    found.network.extractor.requires_grad_(False)
    return found
