"""Maps a scene with a model: open, walk, write."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from rsseg_cli import __version__
from rsseg_cli.bundle import Bundle
from rsseg_cli.classes import UNLABELLED, ClassScheme
from rsseg_cli.delivery import check_target
from rsseg_cli.errors import RssegError
from rsseg_cli.journal import Journal, Pieces
from rsseg_cli.predict import Cell, Engine, Walk, open_walk
from rsseg_cli.progress import Track, untracked
from rsseg_cli.raster.layout import Layout
from rsseg_cli.raster.scene import Scene
from rsseg_cli.raster.write import RasterWriter, create_labels, create_raster

# Probabilities as bytes: steps of 0.4 %, and 255 for nothing.
PROBABILITY_STEP = 1 / 250

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outputs:
    """Where a map goes, and what goes with it."""

    labels: Path
    probabilities: Path | None = None  # a band a class
    confidence: Path | None = None  # the probability of the class that won
    overwrite: bool = False
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def paths(self) -> list[Path]:
        return [path for path in (self.labels, self.probabilities, self.confidence) if path is not None]


def check(scene: Scene, bundle: Bundle, outputs: Outputs) -> Scene:
    """The scene with the model's bands; refuses now what would fail later."""
    for path in outputs.paths:
        check_target(path, overwrite=outputs.overwrite, inputs=[scene.path])
    return with_bands(scene, bundle.card.bands)


def with_bands(scene: Scene, wanted: tuple[str, ...]) -> Scene:
    """By name where the names agree, by order where the scene has none and as many."""
    names = {name.casefold() for name in scene.names}
    if all(name.casefold() in names for name in wanted):
        return scene.select(",".join(wanted))
    if len(scene.bands) == len(wanted):
        logger.info(
            "%s: its bands %s are taken as the model's %s, in this order",
            scene.path,
            ", ".join(scene.names),
            ", ".join(wanted),
        )
        return scene
    order = ",".join(f"{name}={number}" for number, name in enumerate(wanted, 1))
    hint = f"say which is which: --bands {order}"
    if len(scene.bands) < len(wanted):
        hint = "map scenes that have these bands, or learn a model from the bands that this one has"
    raise RssegError(
        f"{scene.path} has {len(scene.bands)} bands: {', '.join(scene.names)}; the model needs {len(wanted)}: "
        f"{', '.join(wanted)}",
        hint,
        file=scene.path,
    )


def map_scene(
    scene: Scene,
    bundle: Bundle,
    outputs: Outputs,
    engine: Engine,
    gsd_m: float | None = None,
    *,
    resume: bool = False,
    track: Track = untracked,
) -> dict[str, Any]:
    """Writes the map of one scene; gives what was written and the area of every class."""
    walk = open_walk(scene, bundle, engine, gsd_m or bundle.card.gsd_m)
    journal = Journal.beside(outputs.labels)
    first = journal.start(_run_of(scene, bundle, outputs, engine, gsd_m), resume)
    tally = _Tally(bundle.card.scheme, scene.grid.row_areas())
    with ExitStack() as stack:
        writers = _writers(stack, scene, bundle, outputs)
        rows = _all_rows(walk, journal, first, bundle.card.scheme, set(writers))
        for pieces in track(rows, f"mapping {Path(scene.path).name}", walk.layout.down.count):
            for window, stored in pieces:
                for kind, values in stored.items():
                    writers[kind].write(values, window)
                tally.add(stored["labels"], window)
    journal.remove()
    if not tally.pixels.sum():
        logger.warning("%s: holds nothing but nodata, and so does its map", scene.path)
    return {
        "scene": scene.path,
        "labels": str(outputs.labels),
        "probabilities": str(outputs.probabilities) if outputs.probabilities else None,
        "confidence": str(outputs.confidence) if outputs.confidence else None,
        "classes": tally.to_json(),
    }


def _all_rows(walk: Walk, journal: Journal, first: int, scheme: ClassScheme, kinds: set[str]) -> Iterator[Pieces]:
    """Rows that an earlier run finished, then the others; each is in the journal before it is given."""
    strip = None
    if first:
        logger.info("%s: going on from row %d of %d", walk.scene.path, first, walk.layout.down.count)
        yield from journal.rows(first)
        strip = walk.strip_of(journal.strip(first - 1))
    row = first
    pieces: Pieces = []
    for cell, below in walk.cells(first, strip):
        # Stored at once: the scores of a whole row would fill the memory on wide scenes.
        pieces.append((cell.window, _stored(cell, scheme, kinds)))
        if below is not None:
            journal.add(row, pieces, below.numpy())
            yield pieces
            row, pieces = row + 1, []


def _run_of(scene: Scene, bundle: Bundle, outputs: Outputs, engine: Engine, gsd_m: float | None) -> dict[str, Any]:
    """What must be the same for a run to go on where another stopped."""
    path = Path(scene.path)
    stamp = [path.stat().st_size, path.stat().st_mtime_ns] if path.is_file() else None
    return {
        "rsseg": __version__,
        "scene": scene.path,
        "scene size and time": stamp,
        "bands": list(scene.names),
        "model": bundle.digest,
        "tiling": asdict(engine.tiling),
        "device": engine.device,
        "precision": engine.precision,
        "gsd": gsd_m,
        "outputs": [str(path) for path in outputs.paths],
    }


def _writers(stack: ExitStack, scene: Scene, bundle: Bundle, outputs: Outputs) -> dict[str, RasterWriter]:
    """Labels, and what else was asked for, each under its name once all is done."""
    tags = {
        "RSSEG_COMMAND": "segment",
        "RSSEG_VERSION": __version__,
        "RSSEG_MODEL": bundle.digest,
        "RSSEG_METHOD": bundle.card.method,
    }
    common: dict[str, Any] = {"overwrite": outputs.overwrite, "inputs": [scene.path], "options": outputs.options}
    writers = {
        "labels": stack.enter_context(
            create_labels(outputs.labels, scene.grid, bundle.card.scheme, tags=tags, **common)
        )
    }
    wanted = {
        "probabilities": (outputs.probabilities, bundle.card.scheme.names),
        "confidence": (outputs.confidence, ("confidence",)),
    }
    for kind, (path, bands) in wanted.items():
        if path is not None:
            layout = Layout(bands, "uint8", UNLABELLED, tags=tags, scale=PROBABILITY_STEP)
            writers[kind] = stack.enter_context(create_raster(path, scene.grid, layout, **common))
    return writers


def _stored(cell: Cell, scheme: ClassScheme, kinds: set[str]) -> dict[str, NDArray[np.uint8]]:
    """A cell as the outputs hold it: class ids, and probabilities in steps."""
    ids = np.array(scheme.ids, np.uint8)
    found = {"labels": np.where(cell.valid, ids[cell.places], np.uint8(UNLABELLED))}
    if kinds & {"probabilities", "confidence"}:
        steps = np.where(cell.valid, np.rint(cell.probabilities / PROBABILITY_STEP), UNLABELLED).astype(np.uint8)
        best = np.where(cell.valid, steps.max(axis=0), UNLABELLED).astype(np.uint8)
        found |= {"probabilities": steps, "confidence": best}
    return {kind: values for kind, values in found.items() if kind in kinds}


class _Tally:
    """Pixels and ground of each class."""

    def __init__(self, scheme: ClassScheme, row_areas: NDArray[np.float64]) -> None:
        self.scheme, self.row_areas = scheme, row_areas
        self.pixels = np.zeros(UNLABELLED, np.int64)
        self.areas = np.zeros(UNLABELLED)

    def add(self, labels: NDArray[np.uint8], window: Window) -> None:
        for row, line in enumerate(labels, int(window.row_off)):
            found = np.bincount(line, minlength=256)[:UNLABELLED]
            self.pixels += found
            self.areas += found * self.row_areas[row]

    def to_json(self) -> dict[str, dict[str, float]]:
        return {
            c.name: {"pixels": int(self.pixels[c.id]), "area_m2": float(self.areas[c.id])} for c in self.scheme.classes
        }


def default_names(scenes: list[str], output: Path | None) -> list[Path]:
    """`town_labels.tif` for town.tif, beside the working folder or in the folder asked for; never one name twice."""
    if output is not None and output.suffix and len(scenes) == 1:
        return [output]
    stems = [_stem(scene) for scene in scenes]
    taken: set[str] = set()
    names = []
    for scene, stem in zip(scenes, stems, strict=True):
        name = stem if stems.count(stem) == 1 else f"{Path(scene).parent.name}_{stem}"
        while name in taken:
            name += "_"
        taken.add(name)
        names.append((output or Path()) / f"{name}_labels.tif")
    return names


def _stem(scene: str) -> str:
    first = scene.partition(",")[0].rpartition("=")[2]
    return Path(first).stem or "map"
