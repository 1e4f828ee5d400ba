"""Which candidate is delivered, decided without labels: on ground of the target that no candidate has learned from.

The last one, unless it holds together far worse than another: then learning went wrong.

What is looked at is nothing that training tries to do: whether a candidate finds the same classes when the scene is
shown larger, smaller and noisier. A class counts as much as any other, however little ground it covers, and those
that source-only finds have to be found: a map of one class alone holds together perfectly, and says nothing.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rsseg_models.devices import choose_precision, forward_of
from rsseg_models.kept import Kept
from torch import Tensor
from torch.nn import functional

from rsseg_cli.matching import NO_MATCH
from rsseg_cli.normalisation import Normalisation
from rsseg_cli.patches import held_back_ground
from rsseg_cli.target import Target

CHECKPOINTS = 8
RULE = "consistency"
# What the views of a scene do to it.
ZOOMS = (0.75, 1.5)
NOISE = 0.25
# Scores nearer to each other than this say nothing; the later candidate has learned more. No other margin picked
# better in 98 runs whose truth was known. One class of five that is lost costs more, and a run that collapses four
# times as much.
TELLING = 0.08
# Bands are matched where that leaves a model less than this part of the doubt that it has without. Over scenes of one
# sensor doubt falls by up to an eighth where matching does harm; where light or sensor are others, by a sixth and more.
CLEARLY = 0.85
# A way to see the target that tells less than this part of what another one tells is blind.
LEAST_TOLD = 0.5
# A class on less of the ground than this is not there.
LEAST_SHARE = 0.002
AT_ONCE = 8  # blocks
SHOWN = 6  # blocks, in pictures

State = dict[str, Tensor]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Way:
    """How the target is seen."""

    match: str  # how its bands are brought to the source's statistics
    # How far batch norms know the target, and not the source: 0, they know what is learned from; 1, the target alone.
    target_norms: float = 0.0

    def __str__(self) -> str:
        bands = "as it is" if self.match == NO_MATCH else f"with its bands matched by {self.match}"
        if not self.target_norms:
            return bands
        return f"{bands}, with norms {'' if self.target_norms == 1 else f'{self.target_norms:.0%} '}of its own"

    @property
    def short(self) -> str:
        """For names of files."""
        return self.match + (f"_norms{100 * self.target_norms:.0f}" if self.target_norms else "")


@dataclass(frozen=True)
class Outlook:
    """What a model makes of the target seen in one way: entropies of the classes, in the mean."""

    unsure: float  # of a pixel
    unseen: float  # of one who knows no more than how much ground each class covers

    @property
    def told(self) -> float:
        return self.unseen - self.unsure

    @property
    def doubt(self) -> float:
        """The part that is left of what there is to know."""
        return self.unsure / self.unseen if self.told > 0 else 1.0


def least_doubtful(outlooks: Mapping[Way, Outlook]) -> Way:
    """The first way, or another one that leaves clearly less doubt.

    None that is blind: in values far from all it knows, a model may be very sure of hardly more than one class.
    """
    most = max(outlook.told for outlook in outlooks.values())
    doubts = {way: outlook.doubt for way, outlook in outlooks.items() if outlook.told >= LEAST_TOLD * most}
    least, first = min(doubts, key=doubts.__getitem__), next(iter(outlooks))
    return first if first in doubts and doubts[least] >= CLEARLY * doubts[first] else least


class Judge:
    """Scores candidates on the held-back ground of the target."""

    def __init__(self, target: Target, normalisations: Mapping[str, Normalisation], device: str, seed: int) -> None:
        self.device = device
        grounds = {
            rule: held_back_ground(replace(target, normalisation=found)) for rule, found in normalisations.items()
        }
        self.grounds = {rule: bands for rule, (bands, _) in grounds.items()}
        _, self.inside = next(iter(grounds.values()))
        self.bands = next(iter(self.grounds.values()))  # as the last candidate saw them
        noise = torch.Generator().manual_seed(seed)
        self.noise = NOISE * torch.randn(self.bands.shape, generator=noise)
        self.wanted: Tensor | None = None  # classes that have to be found
        self.plain = torch.zeros(self.inside.shape, dtype=torch.int64)  # the map of the last candidate

    def __bool__(self) -> bool:
        return bool(self.inside.any())

    def expect(self, candidate: Kept, way: Way) -> None:
        """Classes that this one finds have to be found by all that are scored."""
        forward = forward_of(candidate, self.device, choose_precision("auto", self.device))
        self.bands = self.grounds[way.match]
        there = self._shares(self._map(forward), candidate) >= LEAST_SHARE
        self.wanted = there if self.wanted is None else self.wanted | there

    def score(self, candidate: Kept, way: Way) -> float:
        """Mean over views and classes of how far the map of a view and the map of the scene are one (IoU)."""
        self.bands, classes = self.grounds[way.match], candidate.architecture.classes
        self.plain = plain = self._map(forward_of(candidate, self.device, choose_precision("auto", self.device)))
        counted = self._shares(plain, candidate) >= LEAST_SHARE
        if self.wanted is not None:
            counted = counted | self.wanted
        scores = [overlap(plain[self.inside], view[self.inside], classes) for view in self._views(candidate)]
        return float(torch.stack(scores)[:, counted].mean())

    def outlook(self, candidate: Kept, way: Way) -> Outlook:
        """How a way to see the target suits a model that has not learned from it.

        Where the domains differ by their sensors equal statistics help, where they differ by what lies on the ground
        they harm as much; brought nearer to what it knows, a scene leaves the model less in doubt. What learned from
        the target may be sure and wrong.
        """
        forward = forward_of(candidate, self.device, choose_precision("auto", self.device))
        unsure, mean = 0.0, torch.zeros(candidate.architecture.classes)
        for bands, inside in zip(
            torch.split(self.grounds[way.match], AT_ONCE), torch.split(self.inside, AT_ONCE), strict=True
        ):
            shares = forward(bands).softmax(1).movedim(1, -1)[inside]
            unsure += float(_entropy(shares).sum())
            mean += shares.sum(0)
        pixels = int(self.inside.sum())
        return Outlook(unsure / pixels, float(_entropy(mean / pixels)))

    def shown(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """A few blocks with their surroundings, and what the last candidate made of them."""
        return self.bands[:SHOWN].numpy(), self.plain[:SHOWN].numpy()

    def _shares(self, classes: Tensor, candidate: Kept) -> Tensor:
        """Of the ground that is looked at, by class."""
        return torch.bincount(classes[self.inside], minlength=candidate.architecture.classes) / self.inside.sum()

    def _views(self, candidate: Kept) -> Iterator[Tensor]:
        precision = choose_precision("auto", self.device)
        for zoom in ZOOMS:
            yield self._map(forward_of(candidate, self.device, precision, zoom))
        yield self._map(forward_of(candidate, self.device, precision), self.noise)

    def _map(self, forward: Callable[[Tensor], Tensor], added: Tensor | None = None) -> Tensor:
        bands = self.bands if added is None else self.bands + added
        return torch.cat([forward(part).argmax(1) for part in torch.split(bands, AT_ONCE)])


def _entropy(shares: Tensor) -> Tensor:
    """Over the last axis."""
    return -(shares * shares.clamp(min=torch.finfo(shares.dtype).tiny).log()).sum(-1)


def overlap(one: Tensor, other: Tensor, classes: int) -> Tensor:
    """Intersection over union of each class; 0 for a class that neither map has."""
    first, second = (functional.one_hot(part, classes).bool() for part in (one, other))
    return (first & second).sum(0) / (first | second).sum(0).clamp(min=1)


@dataclass
class Candidates:
    """Candidates in the order of their steps, and the one that is best so far.

    Those of step 0 are source-only, with the target as it is, and seen in the way that all the others see it.
    """

    scores: list[dict[str, Any]] = field(default_factory=list)
    best: int = 0  # its place among them
    state: State = field(default_factory=dict)  # its weights

    def offer(self, step: int, way: Way, score: float, network: Kept) -> None:
        highest = max((entry["score"] for entry in self.scores), default=-1.0)
        # What has learned may be below the highest, if not far; what is only matched has to be above.
        if score > highest or (step and score >= highest - TELLING):
            self.best = len(self.scores)
            self.state = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
        self.scores.append({"step": step, **asdict(way), "score": score})

    @property
    def match(self) -> str:
        return str(self.scores[self.best]["match"])

    @property
    def has_learned(self) -> bool:
        return bool(self.scores[self.best]["step"])

    def to_json(self) -> dict[str, Any]:
        return {
            "rule": RULE,
            **self.scores[self.best],
            "source_only_score": self.scores[0]["score"],
            "verdict": "adapted" if self.best else "source-only kept",
        }
