"""`metric-cd`: the metric by which two dates are compared is learned on the pair itself. No label, no training set.

It goes back to Bandara & Patel (see `metric_cd_paper.py`): a generator turns distances of many levels into a map, and
learns to call unchanged what is alike and changed what is not. Measured, that alone cannot do better than a threshold
on the distance it is given. So here the generator also sees changes that are known: pieces of the pair put where they
do not belong. They tell it which levels of distance stand out from season, light and noise on this very pair.

It looks at one pixel of all levels at a time. Surroundings are in the levels already, so that a map does not depend on
how the scene is cut into tiles.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from rsseg_models.batch import Batch
from rsseg_models.errors import ModelError
from rsseg_models.optimise import Adapter, Descent, Report, Schedule, Seen, Seen_contra, optimise

Network = TypeVar("Network", bound=nn.Module)

CLIP = 1.0
WARM_UP = 10
# Steps between two looks at the known changes that were kept back.
CHECK_EVERY = 10


@dataclass(frozen=True)
class Settings:
    """What can be set with --set NAME=VALUE."""

    steps: int = 300
    """Steps at most; it stops sooner where known changes that were kept back are told no better any more."""
    learning_rate: float = 0.1
    """Of AdamW."""
    weight_decay: float = 0.01
    """How strongly weights are held near zero."""
    metric: float = 0.5
    """Weight of the published loss, on the pair as it is, beside that of the known changes."""
    consistency: float = 0.5
    """Weight of saying the same of the pair had both dates been taken once more: other light, noise and place."""
    trust: float = 2.0
    """Weight of what was learned beside the classical distance, which has 1."""
    patience: int = 5
    """Looks at what was kept back without anything better, before it stops."""
    known_share: float = 0.1
    """Part of the sampled ground that known changes cover."""
    tune: float = 0.0
    """Rate at which an encoder's features learn along, such as 1e-5; 0 leaves them as they are."""

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("steps", self.steps, 1, 1_000_000),
            ("learning_rate", self.learning_rate, 0, 1),
            ("weight_decay", self.weight_decay, 0, 10),
            ("metric", self.metric, 0, 100),
            ("consistency", self.consistency, 0, 100),
            ("trust", self.trust, 0, 100),
            ("patience", self.patience, 1, 1_000_000),
            ("known_share", self.known_share, 0.01, 0.5),
            ("tune", self.tune, 0, 0.1),
        ):
            if not least <= value <= most:
                raise ModelError(f"{name} = {value}: out of range", f"give between {least} and {most:g}")


@dataclass(frozen=True)
class Known:
    """Pixels of the pair with known changes in it."""

    levels: Tensor  # (pixel, level)
    changed: Tensor  # (pixel,) bool


@dataclass(frozen=True)
class Sample:
    """What is learned from."""

    levels: Tensor  # (pixel, level) of the pair as it is
    distance: Tensor  # (pixel,) of the same, where 1 is the least that counts as change
    again: Tensor  # (pixel, level), had both dates been taken once more
    known: Known
    kept_back: Known  # never learned from: it says when to stop

    def to(self, device: str) -> "Sample":
        known, kept_back = (Known(part.levels.to(device), part.changed.to(device)) for part in self.parts)
        levels, distance, again = (part.to(device) for part in (self.levels, self.distance, self.again))
        return Sample(levels, distance, again, known, kept_back)

    @property
    def parts(self) -> tuple[Known, Known]:
        return self.known, self.kept_back


class Generator(nn.Module):
    """Levels of distance (pixel, level) to how much they speak for change (pixel,), as a logit: a weight for each.

    No weight is negative: what is farther apart never speaks against change. Free weights told known changes better, by
    what only known changes have, and real ones worse. Hidden layers told no more, and with features of an encoder less.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(levels, 1)
        # Before anything is learned, all levels speak alike.
        nn.init.constant_(self.linear.weight, 1 / levels)
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("mean", torch.zeros(levels))
        self.register_buffer("deviation", torch.ones(levels))

    def standardise(self, levels: Tensor) -> None:
        """By the pixels of a table."""
        deviation, self.mean = torch.std_mean(levels, dim=0)
        self.deviation = deviation.clamp(min=1e-6)

    def forward(self, levels: Tensor) -> Tensor:
        logit: Tensor = self.linear((levels - self.mean) / self.deviation)
        return logit[:, 0]

    @torch.no_grad()
    def clamp(self) -> None:
        """Takes negative weights back to zero."""
        self.linear.weight.clamp_(min=0)

    @torch.no_grad()
    def folded(self) -> tuple[Tensor, float]:
        """(a weight for each level as it is, offset): all that is left to do is a sum."""
        weights = self.linear.weight[0] / self.deviation
        return weights, float(self.linear.bias[0] - weights @ self.mean)


def metric_loss(logit: Tensor, distance: Tensor) -> Tensor:
    """S + D + L_cm of the paper: what is drawn as unchanged should be near, what is drawn as changed far."""
    p = torch.sigmoid(logit)
    changed = p > 0.5
    near = ((1 - p) * distance * ~changed).mean()
    far = -(p * distance * changed).mean()
    information = (p.square() * changed).mean() - ((1 - p).square() * ~changed).mean()
    return near + far + information


def known_loss(logit: Tensor, changed: Tensor) -> Tensor:
    """Cross entropy in which what changed and what did not weigh the same."""
    each = functional.binary_cross_entropy_with_logits(logit, changed.float(), reduction="none")
    parts = [each[part].mean() for part in (changed, ~changed) if part.any()]
    return torch.stack(parts).mean() if parts else logit.sum()


def consistency_loss(logit: Tensor, again: Tensor) -> Tensor:
    """How far two looks at the same ground are apart."""
    return (torch.sigmoid(logit) - torch.sigmoid(again)).abs().mean()


class MetricCd:
    """The generator while it learns."""

    def __init__(self, sample: Sample, settings: Settings) -> None:
        self.sample, self.settings = sample, settings
        self.network = Generator(sample.levels.shape[1]).to(sample.levels.device)
        self.network.standardise(torch.cat([sample.levels, sample.known.levels]))
        schedule = Schedule(settings.steps, WARM_UP)
        self.descent = Descent([(self.network, settings.learning_rate)], schedule, settings.weight_decay, CLIP)

    def step(self, batch: Batch, number: int) -> dict[str, Tensor]:
        """All of the sample, in each step."""
        known = known_loss(self.network(self.sample.known.levels), self.sample.known.changed)
        logit = self.network(self.sample.levels)
        metric = metric_loss(logit, self.sample.distance)
        apart = consistency_loss(logit, self.network(self.sample.again))
        self.descent.minimise(known + self.settings.metric * metric + self.settings.consistency * apart, number)
        self.network.clamp()
        return {"known": known.detach(), "metric": metric.detach(), "consistency": apart.detach()}

    @torch.no_grad()
    def error(self) -> float:
        """On the known changes that were kept back."""
        return float(known_loss(self.network(self.sample.kept_back.levels), self.sample.kept_back.changed))

    def state_dict(self) -> dict[str, Any]:
        return {"network": self.network.state_dict(), "descent": self.descent.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.descent.load_state_dict(state["descent"])


class Judged(Adapter[Seen_contra], Protocol[Seen_contra]):
    """An adapter that is measured by known changes that were kept back."""

    def error(self) -> float: ...


@dataclass(frozen=True)
class Learned(Generic[Network]):
    """A network at its best, and how it came about."""

    network: Network
    steps: int
    stopped_by: str  # steps, no better, or minutes


# Passes reports through, and tells somebody how far the steps are.
Watch = Callable[[Iterator[Report]], Iterator[Report]]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Steps are so small that threads would do little else than wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def learn(
    sample: Sample, settings: Settings, seed: int = 0, is_late: Callable[[], bool] = lambda: False
) -> Learned[Generator]:
    """Steps until what was kept back is told no better; the generator is the one that told it best."""
    with _one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        every = Batch(sample.levels, sample.levels, sample.levels)  # a step looks at all, whatever its number
        return best_of(MetricCd(sample, settings), lambda number: every, settings, seed, is_late)


def best_of(
    method: Judged[Seen],
    draw: Callable[[int], Seen],
    settings: Settings,
    seed: int,
    is_late: Callable[[], bool],
    watch: Watch = iter,
) -> Learned[Any]:
    """The state that told best what was kept back; the one before the first step may be it."""
    best, least, worse, done = copy.deepcopy(method.network), method.error(), 0, 0
    reports = watch(optimise(method, draw, settings.steps, seed))
    while some := list(islice(reports, CHECK_EVERY)):
        done, error = some[-1].step, method.error()
        worse = 0 if error < least else worse + 1
        if error < least:
            best, least = copy.deepcopy(method.network), error
        if worse >= settings.patience:
            return Learned(best, done, "no better")
        if is_late():
            return Learned(best, done, "minutes")
    return Learned(best, done, "steps")
