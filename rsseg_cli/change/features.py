"""The network by whose features two dates are compared, and what goes wrong with networks, in words."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rsseg_models.change_features import Extractor, open_extractor
from rsseg_models.loading import open_weights

from rsseg_cli.bundle import in_words
from rsseg_cli.change.methods import Choice
from rsseg_cli.change.pair import Pair
from rsseg_cli.errors import RssegError
from rsseg_cli.memory import memory_told

# As --encoder: features of no network.
WITHOUT = "none"
# Random by nature; nobody misses weights of it.
WITHOUT_WEIGHTS = "random"
# Of a rate that was too fast, what is worth a try.
SLOWER = 0.25

logger = logging.getLogger(__name__)


def open_features(choice: Choice, bands: Sequence[str]) -> Extractor | None:
    """The extractor for these bands; None where no encoder is wanted."""
    name, file = choice.encoder, choice.encoder_weights
    if name in (None, WITHOUT):
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
def failures(pair: Pair, device: str, learning_rate: float) -> Iterator[None]:
    """What goes wrong on the way, as what a person can put right."""
    hint = "compare a smaller area: --aoi; or use --device cpu" if device != "cpu" else "compare a smaller area: --aoi"
    try:
        with memory_told(f"{pair.grid.width} x {pair.grid.height} pixels on {device}", hint):
            yield
    except FloatingPointError as problem:
        slower = f"learn more slowly: --set learning_rate={SLOWER * learning_rate:.2g}"
        raise RssegError(f"optimising failed: {problem}", slower) from problem
