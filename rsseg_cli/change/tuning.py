"""Features that learn on the pair: squares of both dates with known changes -> a tuned extractor."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from rsseg_models.change_features import STRIDES
from rsseg_models.metric_cd import Settings
from rsseg_models.metric_cd_tuning import Crops, tune

from rsseg_cli.change.distance import SAMPLE_SIDE_PX, SAMPLE_WINDOWS, DistanceModel
from rsseg_cli.change.known import Chips, somewhere, with_changes
from rsseg_cli.change.levels import Features, Levels
from rsseg_cli.change.pair import Pair
from rsseg_cli.change.sampling import UNCHANGED, kept_back, within
from rsseg_cli.change.spread import spread
from rsseg_cli.change.threshold import count, threshold
from rsseg_cli.progress import Track

Values = NDArray[np.float32]
Flags = NDArray[np.bool_]

# The side of a square, at most.
SIDE_PX = 128

logger = logging.getLogger(__name__)


def tuned(
    levels: Levels, pair: Pair, settings: Settings, seed: int, is_late: Callable[[], bool], track: Track
) -> Levels:
    """The levels, by features that have learned."""
    features = levels.features
    assert features is not None
    learned, kept = _crops(levels.base, features, pair, settings.known_share, seed, track)
    if not learned.is_useful or not kept.is_useful:
        logger.warning("tune: no ground of this pair takes known changes, so that features stay as they are")
        return levels
    logger.info("metric-cd: the features learn, %d steps at most", settings.steps)
    found = tune(
        features.extractor,
        learned.to(features.device),
        kept.to(features.device),
        settings,
        seed,
        is_late,
        lambda reports: track(reports, "tuning features", settings.steps),
    )
    logger.info("metric-cd: %d steps for the features, ended by %s", found.steps, found.stopped_by)
    return replace(levels, features=replace(features, extractor=found.network.extractor))


@dataclass(frozen=True)
class _Square:
    """Of one window."""

    dates: Values  # (2, band, y, x), as the encoder sees them
    changed: Flags
    classical: Values  # the distance without known changes


def _crops(
    base: DistanceModel, features: Features, pair: Pair, share: float, seed: int, track: Track
) -> tuple[Crops, Crops]:
    """(learned from, kept back): two squares of each window, one for each date that known changes are put into."""
    rng = np.random.default_rng(seed)
    windows = spread(pair.grid, SAMPLE_SIDE_PX, SAMPLE_WINDOWS)
    chips = [Chips.of((pair.read(window)[date] for window in windows), rng) for date in (0, 1)]
    side = min(SIDE_PX, windows[0].height) // STRIDES[-1] * STRIDES[-1]
    parts: tuple[list[_Square], list[_Square]] = ([], [])
    counts, kept = np.zeros((), np.int64), kept_back(windows)
    for window in track(windows, "learning", len(windows)):
        dates = pair.read(window)
        classical = base.distance(*dates)
        counts = counts + count(classical)
        for date in (0, 1):
            seen = list(dates)
            seen[date], changed = with_changes(dates[date], chips[date], share, rng)
            free = classical if window in kept else np.where(within(kept, window), np.float32(np.nan), classical)
            at = somewhere((side, side), classical.shape, rng)
            scaled = np.stack([features.scaled(image[:, *at], number) for number, image in enumerate(seen)])
            parts[window in kept].append(_Square(scaled, changed[at], free[at]))
    limit = UNCHANGED * threshold(counts)
    learned, back = (_stacked(part, limit) for part in (parts[0] or parts[1], parts[1] or parts[0]))
    return learned, back


def _stacked(squares: list[_Square], limit: float) -> Crops:
    images = (np.stack([getattr(square, name) for square in squares]) for name in ("dates", "changed", "classical"))
    dates, changed, classical = (torch.from_numpy(image) for image in images)
    counted = classical < limit  # nowhere where there is nothing
    return Crops(dates, changed, counted).of(counted.flatten(1).any(dim=1))
