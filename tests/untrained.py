"""A model that has learned nothing: it maps noise, always the same way."""

from pathlib import Path

import torch
from rsseg_models.network import Architecture, build

from rsseg_cli.bundle import Card, save_bundle
from rsseg_cli.classes import ClassScheme
from rsseg_cli.normalisation import Normalisation

BANDS = ("red", "green", "blue", "nir")
SCHEME = ClassScheme.of_names([(name, (value,), None) for value, name in enumerate(("road", "tree", "water"), 1)])


def save_untrained(path: Path, bands: tuple[str, ...] = BANDS, gsd_m: float | None = 0.5) -> Path:
    torch.manual_seed(3)
    network = build(Architecture("tiny", bands, len(SCHEME.classes))).eval()
    with torch.no_grad():  # no class wins everywhere, so that labels tell one input from another
        network.head.classifier[-1].bias -= network(torch.randn(1, len(bands), 256, 256)).mean(dim=(0, 2, 3))
    normalisation = Normalisation("fixed", (128.0,) * len(bands), (60.0,) * len(bands))
    save_bundle(path, Card(network.architecture, SCHEME, normalisation, gsd_m, "source-only"), network)
    return path
