"""The network by whose features two dates are compared, and what goes wrong with networks, in words."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from rsseg_models.change_features import Extractor, open_extractor
from rsseg_models.loading import open_weights

from rsseg_cli.bundle import in_words
from rsseg_cli.change.methods import Choice
from rsseg_cli.change.pair import Pair
from rsseg_cli.errors import RssegError

# Random by nature; nobody misses weights of it.
WITHOUT_WEIGHTS = "random"

logger = logging.getLogger(__name__)


def open_features(choice: Choice, bands: Sequence[str]) -> Extractor | None:
    """The extractor for these bands; None where no encoder is wanted."""
    name, file = choice.encoder, choice.encoder_weights
    if name is None or name == "none":
        if file:
            raise RssegError(f"--encoder-weights {file}: of which encoder?", "name it, as in --encoder squeezenet")
        return None
    if file and "/" in file and not Path(file).exists():
        logger.info("%s: is nothing here, so it is a model id: taken from the cache, or fetched from its hub", file)
    with in_words():
        weights = open_weights(file) if file else None
    with in_words(file):
        features = open_extractor(name, bands, weights, seed=choice.seed)
    if weights is None and name != WITHOUT_WEIGHTS:
        logger.info("no --encoder-weights are given: %s compares by random weights", name)
    return features


@contextmanager
def failures(pair: Pair, device: str) -> Iterator[None]:
    """What goes wrong on the way, as what a person can put right."""
    try:
        yield
    except FloatingPointError as problem:
        raise RssegError(f"optimising failed: {problem}", "learn more slowly: --set learning_rate=0.0001") from problem
    except torch.OutOfMemoryError as problem:
        raise RssegError(
            f"{pair.grid.width} x {pair.grid.height} pixels are too many for the memory of {device}",
            "use --device cpu, or a smaller area",
            kind="environment",
        ) from problem
