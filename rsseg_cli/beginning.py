"""The network that learning begins with: new, with published weights in its encoder, or from an earlier model."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rsseg_models.errors import ModelError
from rsseg_models.fusion import OfSeries
from rsseg_models.loading import inherit, load_encoder_weights, open_encoder, open_weights
from rsseg_models.network import Architecture, SegmentationNetwork, build
from rsseg_models.st_dasegnet_modules import Adapted

from rsseg_cli.bundle import in_words, load_bundle
from rsseg_cli.plan import Plan, Request

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Beginning:
    """What learning begins with."""

    network: SegmentationNetwork
    origin: dict[str, Any]  # what its weights come from; empty: from nothing
    knows_all: bool = False  # every class, from an earlier model


def first_network(request: Request, plan: Plan) -> Beginning:
    """As the person asked for it."""
    return _from_model(request, plan, request.init) if request.init else _from_encoder(request, plan)


def _from_encoder(request: Request, plan: Plan) -> Beginning:
    """A new network, its encoder with published weights where some are named."""
    file = request.encoder_weights
    for name in (request.encoder, file):
        if name and "/" in name and not Path(name).exists():
            logger.info("%s: is nothing here, so it is a model id: taken from the cache, or fetched from its hub", name)
    with in_words():
        encoder, variant, weights = open_encoder(request.encoder or "tiny")
        if file and weights is not None:
            raise ModelError(f"{request.encoder} brings its own weights", "leave --encoder-weights away")
        classes, head = len(plan.domain.scheme.classes), request.head or "all-mlp"
        network = build(Architecture(encoder, plan.bands, classes, head, variant=variant))
        weights = open_weights(file) if file else weights
    if weights is None:
        return Beginning(network, {})
    with in_words(file):
        loaded = load_encoder_weights(network, weights, plan.bands)
    origin = file or request.encoder
    logger.info("%s: %d tensors loaded into the encoder", origin, loaded.tensors)
    if loaded.bands_by_mean:
        logger.info("bands without published weights start from the mean: %s", ", ".join(loaded.bands_by_mean))
    return Beginning(network, {"encoder_weights": origin})


def _from_model(request: Request, plan: Plan, path: str) -> Beginning:
    """A network that goes on where an earlier model ended, as far as classes and head are the same."""
    with in_words(path):
        earlier = load_bundle(path)
        if isinstance(earlier.network, Adapted):
            raise ModelError(
                "holds the two students of st-dasegnet, and learning starts from one network",
                "start from the model that it was made from",
            )
        learned, own = earlier.network, earlier.card.architecture
        if isinstance(learned, OfSeries):
            learned, own = learned.network, replace(own, fusion="")
            logger.info("%s: how it takes dates together is learned anew", path)
        if own.transfer:
            # Of what ktda made, the encoder goes on: the rest is shaped by its teacher.
            own = replace(own, transfer="", head="all-mlp", width=0)
        head = request.head or own.head
        width = own.width if head == own.head else 0
        names = plan.domain.scheme.names
        network = build(replace(own, bands=plan.bands, classes=len(names), head=head, width=width))
    known = [name.casefold() for name in earlier.card.scheme.names]
    places = [known.index(name.casefold()) if name.casefold() in known else None for name in names]
    fits = inherit(network, learned, places)
    new = [name for name, place in zip(names, places, strict=True) if place is None]
    gone = [name for place, name in enumerate(earlier.card.scheme.names) if place not in places]
    logger.info(
        "%s: %s loaded%s%s",
        path,
        "encoder and head" if fits else "encoder",
        f"; {', '.join(new) if fits else f'the head {head}'} starts anew" if new or not fits else "",
        f"; {', '.join(gone)} left out" if gone and fits else "",
    )
    origin = {"init": path, "init_digest": earlier.digest}
    if "encoder_weights" in earlier.card.provenance:
        origin["encoder_weights"] = earlier.card.provenance["encoder_weights"]
    return Beginning(network, origin, knows_all=fits and not new)
