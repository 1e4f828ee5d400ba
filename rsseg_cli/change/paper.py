"""`metric-cd-paper` on a pair of files. It draws the map of the whole pair at once, so that this has to fit in memory.

a pair -> both dates in memory -> MetricCdPaper (rsseg_models), optimised on them -> the map -> any window of it
"""

import logging
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.windows import Window
from rsseg_models import metric_cd_paper
from rsseg_models.change_features import Extractor
from rsseg_models.metric_cd_paper import MetricCdPaper, Settings, check
from rsseg_models.optimise import Report, optimise
from torch import Tensor

from rsseg_cli.bundle import in_words
from rsseg_cli.change.features import failures, open_features
from rsseg_cli.change.methods import Choice, Detector
from rsseg_cli.change.pair import Pair
from rsseg_cli.errors import RssegError
from rsseg_cli.predict import device_for
from rsseg_cli.progress import Track, untracked
from rsseg_cli.settings import fill_known

Values = NDArray[np.float32]

ENCODER = "vgg16"  # as published
# Odds are finite between these; beyond, the map says nothing more.
LEAST, MOST = 1e-6, 1 - 1e-6
# What is left of the time has to be enough for a step, and for the map, which takes less than one.
STEPS_TO_SPARE = 2

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Drawn:
    """The map of a whole pair."""

    odds: Values  # that a pixel changed; the score is how likely that is

    def distance(self, before: Values, after: Values) -> Values:
        """Of the whole pair: a part of it would not say where it lies."""
        return self.odds


@dataclass(frozen=True)
class DrawnDetector(Detector):
    """Cuts windows out of a map."""

    model: Drawn

    def distance(self, pair: Pair, window: Window) -> Values:
        found: Values = self.model.odds[window.toslices()]
        return found


def fit_paper(choice: Choice, pair: Pair, track: Track = untracked) -> Detector:
    """Optimises the network on the pair, and draws the map with it."""
    deadline = time.monotonic() + 60 * choice.minutes if choice.minutes else math.inf
    settings, device = settings_of(choice), device_for(choice.device)
    _check_size(pair, settings)
    features = _features(choice, pair)
    with failures(pair, device, settings.learning_rate):
        network = begin(pair, features, settings, choice.seed, device)
        reports = optimise(network, lambda number: network.scene, settings.steps, choice.seed)
        steps = _optimised(in_time(reports, deadline), settings.steps, track)
        drawn = Drawn(odds(network.map()))
    return DrawnDetector(
        drawn,
        halo_px=0,
        delivered="metric-cd",
        steps=steps,
        stopped_by="steps" if steps == settings.steps else "minutes",
        radiometry="regressed on the later date, over all pixels",
        limit=1.0,
        score=settings.threshold,
    )


def settings_of(choice: Choice) -> Settings:
    """What was --set, and --steps, which wins."""
    steps = {} if choice.steps is None else {"steps": choice.steps}
    with in_words():
        return fill_known(Settings, {**choice.settings, **steps}, ())


def _check_size(pair: Pair, settings: Settings) -> None:
    """Before anything is read."""
    with in_words():
        check(torch.ones(1, 1, dtype=torch.bool).expand(pair.grid.shape), settings)


def _features(choice: Choice, pair: Pair) -> Extractor:
    features = open_features(replace(choice, encoder=choice.encoder or ENCODER), pair.before.names)
    if features is None:
        raise RssegError(
            f"--encoder {choice.encoder}: metric-cd-paper compares by the features of a network",
            f"leave it out for {ENCODER}, or use --encoder random",
        )
    return features


def begin(pair: Pair, features: Extractor, settings: Settings, seed: int, device: str) -> MetricCdPaper:
    """The method before its first step."""
    before, after = (torch.from_numpy(date) for date in pair.read())
    valid = torch.ones(pair.grid.shape, dtype=torch.bool)  # what is not, is NaN
    return metric_cd_paper.begin(before, after, valid, features, settings, seed, device)


def in_time(reports: Iterable[Report], deadline: float) -> Iterator[Report]:
    """Steps, one at least, until there is no time for another and the map."""
    for done in reports:
        yield done
        if time.monotonic() + STEPS_TO_SPARE * done.seconds > deadline:
            return


def _optimised(reports: Iterable[Report], most: int, track: Track) -> int:
    """How many steps were done."""
    steps = 0
    for done in track(reports, "optimising", most):
        steps = done.step
        logger.debug("step %d: %s", steps, done.losses)
    if steps < most:
        logger.info("stopped after step %d of %d, because the time is up", steps, most)
    return steps


def odds(probability: Tensor) -> Values:
    """Of change against none."""
    p = probability.double().clamp(LEAST, MOST)
    return (p / (1 - p)).float().numpy()
