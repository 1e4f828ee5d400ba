"""The one loop: every method trains through it. It knows steps, losses and reports; what a step does is the adapter's.

A step depends on its number and on the state before it, and on nothing else: batches are drawn and dropout is seeded
by the number. So a run that goes on from a checkpoint ends with the same weights as one that was never interrupted.
"""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

# What a step learns from: a Batch, or Domains of batches or clips.
Seen = TypeVar("Seen")
Seen_contra = TypeVar("Seen_contra", contravariant=True)

# Far apart from each other and from the seeds of batches, whatever seed the person gives.
SEED_STRIDE = 1_000_003


@dataclass(frozen=True)
class Report:
    """One step that is done."""

    step: int  # from 1: how many are done
    losses: dict[str, float]
    seconds: float


class Adapter(Protocol[Seen_contra]):
    """A method at work. `network` is the only part that is kept."""

    @property
    def network(self) -> nn.Module: ...

    def step(self, batch: Seen_contra, number: int) -> dict[str, Tensor]:
        """Improves the method by one batch; names its losses."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Illustrated(Adapter[Seen_contra], Protocol[Seen_contra]):
    """An adapter that a person may look at while it learns."""

    def pictures(self) -> dict[str, tuple[Tensor, Tensor]]:
        """What there is to look at of the last step, by name: standardised crops (B, N, H, W), labels (B, H, W)."""
        ...


class OfParts(ABC):
    """An adapter whose state is that of its parts."""

    @abstractmethod
    def parts(self) -> dict[str, Any]:
        """All that changes from step to step, by name; each with state_dict and load_state_dict."""

    def state_dict(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self.parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in self.parts().items():
            part.load_state_dict(state[name])

    def pictures(self) -> dict[str, tuple[Tensor, Tensor]]:
        return {}


def optimise(
    adapter: Adapter[Seen], draw: Callable[[int], Seen], steps: int, seed: int, first_step: int = 0
) -> Iterator[Report]:
    """Steps `first_step` to `steps`, a report after each that left the network sound."""
    for number in range(first_step, steps):
        started = time.perf_counter()
        torch.manual_seed(seed * SEED_STRIDE + number)
        losses = adapter.step(draw(number), number)
        values = {name: float(value) for name, value in losses.items()}
        if not all(map(math.isfinite, values.values())):
            raise FloatingPointError(f"a loss is no number any more at step {number + 1}: {values}")
        if not _is_sound(adapter.network):
            raise FloatingPointError(f"a weight is no number any more at step {number + 1}")
        yield Report(number + 1, values, time.perf_counter() - started)


def typical_seconds(reports: Iterable[Report], enough_s: float) -> float:
    """Of a step: the median of a few, the first left out, which also prepares what later ones find ready."""
    taken: list[float] = []
    for report in reports:
        if report.step > 1:
            taken.append(report.seconds)
        if sum(taken) >= enough_s:
            break
    return median(taken)


@torch.no_grad()
def _is_sound(network: nn.Module) -> bool:
    """Whether all weights, and all that norms remember, are numbers; in one pass, which a step does not notice."""
    values = [value for value in network.state_dict().values() if value.is_floating_point()]
    return math.isfinite(nn.utils.get_total_norm(values, math.inf))


@dataclass(frozen=True)
class Schedule:
    """How fast to learn, step by step."""

    steps: int
    warm_up: int  # steps of linear rise
    power: float = 0.9  # of the polynomial fall to zero

    def factor(self, number: int) -> float:
        """Of the base rate, for step `number` from 0."""
        rise = min(1.0, (number + 1) / (self.warm_up + 1))
        return float(rise * (1 - number / self.steps) ** self.power)


class Descent:
    """AdamW over groups with rates of their own, clipped, on a schedule."""

    def __init__(
        self,
        groups: Iterable[tuple[nn.Module, float]],  # (part, its rate)
        schedule: Schedule,
        weight_decay: float,
        clip: float,
    ) -> None:
        self.schedule, self.clip = schedule, clip
        self.rates: list[float] = []
        parameters = []
        for part, rate in groups:
            for decayed, chosen in _by_decay(part).items():
                if chosen:
                    parameters.append({"params": chosen, "weight_decay": weight_decay if decayed else 0.0})
                    self.rates.append(rate)
        self.optimiser = torch.optim.AdamW(parameters, lr=1.0)

    def minimise(self, loss: Tensor, number: int) -> None:
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * self.schedule.factor(number)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        length = nn.utils.clip_grad_norm_([p for g in self.optimiser.param_groups for p in g["params"]], self.clip)
        if not math.isfinite(length):  # one step along it would leave nothing of what was learned
            raise FloatingPointError(f"a gradient is no number any more at step {number + 1}")
        self.optimiser.step()

    def state_dict(self) -> dict[str, Any]:
        return self.optimiser.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimiser.load_state_dict(state)


def _by_decay(part: nn.Module) -> dict[bool, list[nn.Parameter]]:
    """Weights decay; biases and norms, which have one dimension, do not."""
    split: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for parameter in part.parameters():
        if parameter.requires_grad:
            split[parameter.ndim > 1].append(parameter)
    return split


class Average:
    """Exponential moving average of a network: floats in parameters and buffers alike."""

    def __init__(self, network: nn.Module, average: nn.Module, momentum: float) -> None:
        self.network, self.average, self.momentum = network, average.eval().requires_grad_(False), momentum

    @torch.no_grad()
    def update(self, number: int) -> None:
        """a = min(1 - 1/(i+1), momentum): the plain mean at first, so that it warms up fast."""
        keep = min(1 - 1 / (number + 2), self.momentum)
        theirs = dict(_numbers(self.network))
        for name, value in _numbers(self.average):
            if value.is_floating_point():
                value.lerp_(theirs[name], 1 - keep)
            else:
                value.copy_(theirs[name])


def _numbers(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers; what two parts share, once."""
    yield from network.named_parameters()
    yield from network.named_buffers()
