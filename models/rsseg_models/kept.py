"""What is kept of a method, built again from its description: a network, two students as one, or one for series."""

import json
from dataclasses import asdict

from rsseg_models.errors import ModelError
from rsseg_models.fusion import OfSeries, of_series
from rsseg_models.ktda_modules import Form, transferred
from rsseg_models.network import Architecture, SegmentationNetwork, build
from rsseg_models.st_dasegnet import Settings, adapted
from rsseg_models.st_dasegnet_modules import FORM, Adapted

Kept = SegmentationNetwork | Adapted | OfSeries


def rebuild(architecture: Architecture) -> Kept:
    """The network described, with fresh weights."""
    network = build(architecture)
    if architecture.fusion:
        return of_series(network, architecture.fusion)
    if architecture.transfer:
        return transferred(network, Form.from_json(architecture.transfer), network.architecture.width)
    if not architecture.students:
        return network
    try:
        form = json.loads(architecture.students)
        known = asdict(Settings())
        if set(form) != set(FORM) or any(type(value) is not type(known[name]) for name, value in form.items()):
            raise ValueError(architecture.students)
    except (TypeError, ValueError) as problem:
        raise ModelError("two students are described in a way that is not known", "update rsseg") from problem
    return adapted(network, Settings(**form))
