"""`metric-cd`: the levels of distance are weighed for each pair anew, by what tells known changes on its own ground.

    a sample of the pair, with and without known changes -> Learned (rsseg_models) -> WeighedModel -> any window

What is delivered is a fusion with the classical distance; or that alone, where what was learned does not tell changes
that it has never seen better than it.
"""

import logging
import math
import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from rsseg_models.metric_cd import Generator, Known, Sample, Settings, learn

from rsseg_cli.bundle import in_words
from rsseg_cli.change.distance import HALO_PX, fit_distance
from rsseg_cli.change.features import WITHOUT, failures
from rsseg_cli.change.levels import Levels, open_levels
from rsseg_cli.change.methods import Choice, Detector
from rsseg_cli.change.pair import Pair
from rsseg_cli.change.sampling import Drawn, Table, draw
from rsseg_cli.change.tuning import tuned
from rsseg_cli.errors import RssegError
from rsseg_cli.predict import device_for
from rsseg_cli.progress import Track, untracked
from rsseg_cli.settings import fill_known

Values = NDArray[np.float32]

# Pixels of the pair as it is that are learned from.
LEARNED_PIXELS = 60_000
# The least that counts as change, in the published loss: between one and two it is left to the generator.
LEAST_CHANGE, FARTHEST = 1.5, 4.0
# Of what the classical distance misses (one less its average precision), the part that has to be told.
LEAST_GAIN = 0.03
# Shares of the pixels by which two distances are put on one scale; close together where changes lie.
SHARES = np.concatenate([np.linspace(0.0, 0.99, 100), 1 - np.logspace(-2.1, -4.3, 23)])
TINY = np.float32(1e-6)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Fusion:
    """The classical distance and what was learned, as one."""

    middle: float  # of the logits
    weight: float  # of a logit beside a logarithm of distance
    # Quantiles, and those of the classical distance, by which as many pixels lie beyond any limit as did before.
    fused: NDArray[np.float64]
    classical: NDArray[np.float64]

    @classmethod
    def of(cls, classical: Values, logits: Values, trust: float) -> "Fusion":
        """Both weigh alike when they are spread alike, times the trust."""
        known = np.log(classical + TINY)
        weight, middle = trust * float(known.std() / max(logits.std(), TINY)), float(np.median(logits))
        ranked = (known + weight * (logits - middle), known)
        # Rising strictly, for what is alike in many pixels as well.
        return cls(middle, weight, *(np.quantile(each, SHARES) + 1e-9 * np.arange(len(SHARES)) for each in ranked))

    def distance(self, classical: Values, logits: Values) -> Values:
        fused = np.log(classical + TINY) + self.weight * (logits - self.middle)
        scaled = np.interp(fused, self.fused, self.classical)
        # Beyond what was sampled, a step is as wide as those within are on average.
        step = np.ptp(self.classical) / np.ptp(self.fused)
        scaled += step * (np.minimum(fused - self.fused[0], 0) + np.maximum(fused - self.fused[-1], 0))
        return np.asarray(np.exp(scaled), np.float32)


@dataclass(frozen=True, eq=False)
class Weights:
    """What was learned: how much each level speaks for change."""

    of_levels: Values
    offset: float

    @classmethod
    def of(cls, network: Generator) -> "Weights":
        weights, offset = network.folded()
        return cls(np.asarray(weights.cpu()), offset)

    def logits(self, levels: Values) -> Values:
        """Of (level, ...)."""
        return np.asarray(np.tensordot(self.of_levels, levels, 1) + np.float32(self.offset))


@dataclass(frozen=True, eq=False)
class WeighedModel:
    """Fitted to one pair."""

    levels: Levels
    weights: Weights
    fusion: Fusion

    def distance(self, before: Values, after: Values) -> Values:
        classical, levels = self.levels.of(before, after)
        distance = self.fusion.distance(classical, self.weights.logits(levels))
        return np.where(np.isfinite(classical), distance, np.float32(np.nan))


def fit_optimised(choice: Choice, pair: Pair, track: Track = untracked) -> Detector:
    """Learns on the pair, and says what came of it."""
    settings, device = _settings(choice), device_for(choice.device)
    deadline = time.monotonic() + 60 * choice.minutes if choice.minutes else math.inf

    def is_late() -> bool:
        return time.monotonic() > deadline

    base = fit_distance(pair, seed=choice.seed, track=track)
    levels = open_levels(choice, pair, base, device)
    with failures(pair, device, settings.learning_rate):
        if settings.tune:
            levels = tuned(levels, pair, settings, choice.seed, is_late, track)
        drawn = draw(pair, levels, settings.known_share, choice.seed, track)
        learned = learn(sample_of(drawn, device), settings, choice.seed, is_late)
    weights = Weights.of(learned.network)
    fusion = Fusion.of(drawn.real.classical, weights.logits(drawn.real.levels.T), settings.trust)
    gain = _gain(fusion, weights, drawn.kept_back)
    logger.info(
        "metric-cd: %d steps; of what the classical distance misses of known changes, %.1f %% are told",
        learned.steps,
        100 * gain,
    )
    classical = Detector(base, HALO_PX, base, steps=learned.steps, stopped_by=learned.stopped_by)
    if gain < LEAST_GAIN:
        logger.info("that is too little: the classical map is delivered")
        return classical
    model = WeighedModel(levels, weights, fusion)
    return replace(classical, model=model, halo_px=levels.halo_px, delivered="fusion")


def _settings(choice: Choice) -> Settings:
    steps = {} if choice.steps is None else {"steps": choice.steps}
    with in_words():
        settings = fill_known(Settings, {**choice.settings, **steps}, ())
    if settings.tune and choice.encoder in (None, WITHOUT):
        raise RssegError("tune: there are no features to tune", "name what makes them, as in --encoder squeezenet")
    return settings


def sample_of(drawn: Drawn, device: str) -> Sample:
    step = max(1, len(drawn.real.levels) // LEARNED_PIXELS)
    distance = (LEAST_CHANGE * drawn.real.classical[::step] / drawn.limit).clip(max=FARTHEST)
    levels, again = drawn.real.levels[::step], drawn.again[::step]
    again = np.where(np.isfinite(again), again, levels)
    as_it_is, far, once_more = map(torch.from_numpy, (levels.copy(), distance, again))
    return Sample(as_it_is, far, once_more, _known(drawn.known), _known(drawn.kept_back)).to(device)


def _known(table: Table) -> Known:
    return Known(torch.from_numpy(table.levels), torch.from_numpy(table.changed))


def _gain(fusion: Fusion, weights: Weights, table: Table) -> float:
    """Of what the classical distance misses of changes kept back, the part that the fusion tells."""
    if not table.changed.any():
        return 0.0
    fused = fusion.distance(table.classical, weights.logits(table.levels.T))
    told, known = (_average_precision(score, table.changed) for score in (fused, table.classical))
    return (told - known) / max(1 - known, float(TINY))


def _average_precision(score: Values, changed: NDArray[np.bool_]) -> float:
    hits = changed[np.argsort(-score, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())
