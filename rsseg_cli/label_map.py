"""One map on its way to disk: class ids, what else was asked for, and how much of each class there is."""

from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from rsseg_cli import __version__
from rsseg_cli.bundle import Bundle, Card
from rsseg_cli.classes import UNLABELLED, ClassScheme
from rsseg_cli.job import Outputs
from rsseg_cli.predict import Cell
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.layout import Layout
from rsseg_cli.raster.write import RasterWriter, create_labels, create_raster

# Probabilities as bytes: steps of 0.4 %, and 255 for nothing.
PROBABILITY_STEP = 1 / 250

Stored = dict[str, NDArray[np.uint8]]  # what a cell holds, by output


class LabelMap:
    """The writers of one map, each of them a file under its name once all is done; and the count of its classes."""

    def __init__(self, stack: ExitStack, outputs: Outputs, inputs: tuple[str, ...], grid: Grid, bundle: Bundle) -> None:
        self.outputs, self.card = outputs, bundle.card
        self.writers = _writers(stack, outputs, inputs, grid, bundle)
        self.tally = Tally(bundle.card.scheme, grid.row_areas())

    def stored(self, cell: Cell) -> Stored:
        """A cell as the files hold it."""
        return stored(cell, self.card, set(self.writers))

    def write(self, values: Stored, window: Window) -> None:
        for kind, layer in values.items():
            self.writers[kind].write(layer, window)
        self.tally.add(values["labels"], window)

    def to_json(self) -> dict[str, Any]:
        outputs = self.outputs
        return {
            "labels": str(outputs.labels),
            "probabilities": str(outputs.probabilities) if outputs.probabilities else None,
            "confidence": str(outputs.confidence) if outputs.confidence else None,
            "classes": self.tally.to_json(),
        }


def stored(cell: Cell, card: Card, kinds: set[str]) -> Stored:
    """Class ids, and probabilities in steps."""
    ids = np.array(card.scheme.ids, np.uint8)
    found = {"labels": np.where(cell.valid, ids[cell.places], np.uint8(UNLABELLED))}
    if kinds & {"probabilities", "confidence"}:
        probabilities = cell.probabilities(card.temperature)
        steps = np.where(cell.valid, np.rint(probabilities / PROBABILITY_STEP), UNLABELLED).astype(np.uint8)
        best = np.where(cell.valid, steps.max(axis=0), UNLABELLED).astype(np.uint8)
        found |= {"probabilities": steps, "confidence": best}
    return {kind: values for kind, values in found.items() if kind in kinds}


def _writers(
    stack: ExitStack, outputs: Outputs, inputs: tuple[str, ...], grid: Grid, bundle: Bundle
) -> dict[str, RasterWriter]:
    tags = {
        "RSSEG_COMMAND": "segment",
        "RSSEG_VERSION": __version__,
        "RSSEG_MODEL": bundle.digest,
        "RSSEG_METHOD": bundle.card.method,
    }
    common: dict[str, Any] = {"overwrite": outputs.overwrite, "inputs": inputs, "options": outputs.options}
    writers = {
        "labels": stack.enter_context(create_labels(outputs.labels, grid, bundle.card.scheme, tags=tags, **common))
    }
    wanted = {
        "probabilities": (outputs.probabilities, bundle.card.scheme.names),
        "confidence": (outputs.confidence, ("confidence",)),
    }
    for kind, (path, bands) in wanted.items():
        if path is not None:
            layout = Layout(bands, "uint8", UNLABELLED, tags=tags, scale=PROBABILITY_STEP)
            writers[kind] = stack.enter_context(create_raster(path, grid, layout, **common))
    return writers


class Tally:
    """Pixels and ground of each class."""

    def __init__(self, scheme: ClassScheme, row_areas: NDArray[np.float64]) -> None:
        self.scheme, self.row_areas = scheme, row_areas
        self.pixels = np.zeros(UNLABELLED, np.int64)
        self.areas = np.zeros(UNLABELLED)

    def add(self, labels: NDArray[np.uint8], window: Window) -> None:
        areas = self.row_areas[window.row_off : window.row_off + window.height]
        if np.ptp(areas) == 0:  # projected: one size for all pixels
            found = np.bincount(labels.ravel(), minlength=256)[:UNLABELLED]
            self.pixels += found
            self.areas += found * areas[0]
            return
        for area, line in zip(areas, labels, strict=True):
            found = np.bincount(line, minlength=256)[:UNLABELLED]
            self.pixels += found
            self.areas += found * area

    def to_json(self) -> dict[str, dict[str, float]]:
        return {
            c.name: {"pixels": int(self.pixels[c.id]), "area_m2": float(self.areas[c.id])} for c in self.scheme.classes
        }
