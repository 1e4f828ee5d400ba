"""Which candidate is delivered, decided without labels: on ground of the target that no candidate has learned from.

What is looked at is nothing that training tries to do: whether a candidate finds the same classes when the scene is
shown larger, smaller and noisier. A class counts as much as any other, however little ground it covers, and those
that source-only finds have to be found: a map of one class alone holds together perfectly, and says nothing.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from rsseg_models.devices import choose_precision, forward_of
from rsseg_models.kept import Kept
from torch import Tensor
from torch.nn import functional

from rsseg_cli.patches import held_back_ground
from rsseg_cli.unlabelled import Unlabelled

CHECKPOINTS = 8
RULE = "consistency"
# What the views of a scene do to it.
ZOOMS = (0.75, 1.5)
NOISE = 0.25
# Scores nearer to each other than this say nothing; the later candidate has learned more.
TELLING = 0.02
# A class on less of the ground than this is not there.
LEAST_SHARE = 0.002
AT_ONCE = 8  # blocks

State = dict[str, Tensor]
logger = logging.getLogger(__name__)


class Judge:
    """Scores candidates on the held-back ground of the target."""

    def __init__(self, target: Unlabelled, device: str, seed: int) -> None:
        self.device = device
        self.bands, self.inside = held_back_ground(target)
        noise = torch.Generator().manual_seed(seed)
        self.noise = NOISE * torch.randn(self.bands.shape, generator=noise)
        self.wanted: Tensor | None = None  # classes that the first candidate finds

    def __bool__(self) -> bool:
        return bool(self.inside.any())

    def score(self, candidate: Kept) -> float:
        """Mean over views and classes of how far the map of a view and the map of the scene are one (IoU)."""
        classes = candidate.architecture.classes
        plain = self._map(forward_of(candidate, self.device, choose_precision("auto", self.device)))
        found = torch.bincount(plain[self.inside], minlength=classes) / self.inside.sum()
        if self.wanted is None:
            self.wanted = found >= LEAST_SHARE
        counted = self.wanted | (found >= LEAST_SHARE)
        scores = [overlap(plain[self.inside], view[self.inside], classes) for view in self._views(candidate)]
        return float(torch.stack(scores)[:, counted].mean())

    def _views(self, candidate: Kept) -> Iterator[Tensor]:
        precision = choose_precision("auto", self.device)
        for zoom in ZOOMS:
            yield self._map(forward_of(candidate, self.device, precision, zoom))
        yield self._map(forward_of(candidate, self.device, precision), self.noise)

    def _map(self, forward: Callable[[Tensor], Tensor], added: Tensor | None = None) -> Tensor:
        bands = self.bands if added is None else self.bands + added
        return torch.cat([forward(part).argmax(1) for part in torch.split(bands, AT_ONCE)])


def overlap(one: Tensor, other: Tensor, classes: int) -> Tensor:
    """Intersection over union of each class; 0 for a class that neither map has."""
    first, second = (functional.one_hot(part, classes).bool() for part in (one, other))
    return (first & second).sum(0) / (first | second).sum(0).clamp(min=1)


@dataclass
class Choice:
    """Candidates in the order of their steps, and the one that is best so far; the first is source-only."""

    scores: list[dict[str, float]] = field(default_factory=list)
    best: int = 0  # its place among them
    state: State = field(default_factory=dict)  # its weights

    def offer(self, step: int, score: float, network: Kept) -> None:
        self.scores.append({"step": step, "score": score})
        if score >= max(entry["score"] for entry in self.scores) - TELLING:
            self.best = len(self.scores) - 1
            self.state = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}

    @property
    def is_adapted(self) -> bool:
        return self.best > 0

    def to_json(self) -> dict[str, Any]:
        best = self.scores[self.best]
        return {
            "rule": RULE,
            "step": int(best["step"]),
            "score": best["score"],
            "source_only_score": self.scores[0]["score"],
            "verdict": "adapted" if self.is_adapted else "source-only kept",
        }
