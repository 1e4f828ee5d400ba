"""A scene mapped with a model that is loaded: walk it, and write or give back what comes out."""

import logging
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio import windows
from rasterio.windows import Window

from rsseg_cli import __version__
from rsseg_cli.bundle import Bundle, Card
from rsseg_cli.classes import UNLABELLED, ClassScheme
from rsseg_cli.job import Job, Settings
from rsseg_cli.journal import Journal, Piece
from rsseg_cli.predict import Cell, Forward, Strip, Walk, device_for, open_walk
from rsseg_cli.progress import Track, untracked
from rsseg_cli.raster.align import align
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.layout import Layout
from rsseg_cli.raster.scene import Scene
from rsseg_cli.raster.verify import gdal_errors
from rsseg_cli.raster.write import RasterWriter, create_labels, create_raster
from rsseg_cli.tiling import Tiling
from rsseg_cli.vector.area import Area

# Probabilities as bytes: steps of 0.4 %, and 255 for nothing.
PROBABILITY_STEP = 1 / 250
# The axes along which a tile is mirrored: left-right, up-down, both.
MIRRORS = ((-1,), (-2,), (-2, -1))

# Finished cells that may wait to be stored.
BEHIND = 2

logger = logging.getLogger(__name__)


def map_scene(
    job: Job, bundle: Bundle, settings: Settings, *, resume: bool = False, track: Track = untracked
) -> dict[str, Any]:
    """Writes the map of one scene; gives what was written and the area of every class."""
    view = View.of(job.scene, job.area, _tiling(bundle, settings).overlap_px)
    walk = walk_of(view.scene, bundle, settings)
    journal = Journal.beside(job.outputs.labels)
    tally = _Tally(bundle.card.scheme, view.grid.row_areas())
    first = None
    try:
        with ExitStack() as stack:
            # Before the journal: they refuse what cannot be written, and hold the lock on it.
            writers = _writers(stack, job, view.grid, bundle)
            first = journal.start(_run_of(job, bundle, settings), resume)
            sink = _Sink(view, bundle.card, writers, tally, journal)
            rows = _all_rows(walk, sink, first)
            for _ in track(rows, f"mapping {Path(job.scene.path).name}", walk.layout.down.count):
                pass
    except BaseException:
        if first is not None:
            _leave(journal, job.outputs.labels)
        raise
    journal.remove()
    if not tally.pixels.sum():
        where = " in the area asked for" if job.area else ""
        logger.warning("%s: holds nothing but nodata%s, and so does its map", job.scene.path, where)
    return {
        "scene": job.scene.path,
        "labels": str(job.outputs.labels),
        "probabilities": str(job.outputs.probabilities) if job.outputs.probabilities else None,
        "confidence": str(job.outputs.confidence) if job.outputs.confidence else None,
        "width": view.grid.width,
        "height": view.grid.height,
        "classes": tally.to_json(),
    }


def map_array(scene: Scene, area: Area | None, bundle: Bundle, settings: Settings) -> NDArray[np.uint8]:
    """The class ids (y, x) of a scene in memory, or of the bounds of the area."""
    view = View.of(scene, area, _tiling(bundle, settings).overlap_px)
    labels = np.full(view.grid.shape, UNLABELLED, np.uint8)
    for cell, _ in walk_of(view.scene, bundle, settings).cells():
        kept = view.kept(cell)
        if kept is not None:
            labels[kept.window.toslices()] = _stored(kept, bundle.card, {"labels"})["labels"]
    return labels


@dataclass(frozen=True)
class View:
    """What is walked of a scene, and what of that is kept."""

    scene: Scene  # as it is walked: the area, and around it what the network needs to see
    grid: Grid  # of the map
    seen: Window  # what is walked, as a window of the whole scene
    area: Area | None

    @classmethod
    def of(cls, scene: Scene, area: Area | None, margin_px: int) -> "View":
        if area is None:
            return cls(scene, scene.grid, scene.grid.window, None)
        seen = area.grown(margin_px, scene.grid)
        return cls(align(scene, scene.grid.crop(seen)), scene.grid.crop(area.window), seen, area)

    def kept(self, cell: Cell) -> Cell | None:
        """The part of a cell that lies in the map; outside the polygons it is not valid."""
        if self.area is None:
            return cell
        found = _moved(cell.window, self.seen.row_off, self.seen.col_off)
        if not windows.intersect([found, self.area.window]):
            return None
        common = windows.intersection([found, self.area.window])
        rows, cols = _moved(common, -found.row_off, -found.col_off).toslices()
        place = _moved(common, -self.area.window.row_off, -self.area.window.col_off)
        valid = cell.valid[rows, cols] & (self.area.inside.read(common) > 0)
        return Cell(place, cell.logits[:, rows, cols], valid)


def _moved(window: Window, rows: int, cols: int) -> Window:
    return Window(window.col_off + cols, window.row_off + rows, window.width, window.height)


def walk_of(scene: Scene, bundle: Bundle, settings: Settings) -> Walk:
    """The walk through a scene as the settings want it."""
    gsd_m = settings.gsd_m or bundle.card.gsd_m
    walk = open_walk(scene, bundle, _tiling(bundle, settings), gsd_m, settings.device, settings.precision)
    return replace(walk, forward=mirrored_too(walk.forward)) if settings.tta else walk


def _tiling(bundle: Bundle, settings: Settings) -> Tiling:
    return settings.tiling_for(bundle.card.architecture.encoder, device_for(settings.device))


def mirrored_too(forward: Forward) -> Forward:
    """The mean of what a network says of tiles and of their mirror images, turned back."""
    return lambda tiles: (
        sum((forward(tiles.flip(axes)).flip(axes) for axes in MIRRORS), start=forward(tiles)) / (1 + len(MIRRORS))
    )


def _all_rows(walk: Walk, sink: "_Sink", first: int) -> Iterator[int]:
    """Rows that an earlier run finished, then the others; each is in the journal before it is given."""
    strip = None
    if first:
        logger.info("%s: going on from row %d of %d", walk.scene.path, first, walk.layout.down.count)
        for piece in sink.journal.pieces(first):
            sink.write(piece)
        strip = sink.journal.strip(first - 1)
        yield from range(first)
    row = first
    with ThreadPoolExecutor(1) as thread:  # what is finished is stored while the network goes on
        storing: deque[Future[None]] = deque()
        for cell, below in walk.cells(first, strip):
            storing.append(thread.submit(sink.keep, cell))
            while len(storing) > (BEHIND if below is None else 0):
                storing.popleft().result()
            if below is not None:
                sink.finish(row, below)
                yield row
                row += 1


class _Sink:
    """Where finished cells go: the journal, the outputs, the count."""

    def __init__(
        self, view: View, card: Card, writers: dict[str, RasterWriter], tally: "_Tally", journal: Journal
    ) -> None:
        self.view, self.card, self.writers, self.tally, self.journal = view, card, writers, tally, journal

    def keep(self, cell: Cell) -> None:
        kept = self.view.kept(cell)
        if kept is not None:
            piece = (kept.window, _stored(kept, self.card, set(self.writers)))
            with gdal_errors(self.writers["labels"].target):
                self.journal.add(piece)
            self.write(piece)

    def write(self, piece: Piece) -> None:
        window, stored = piece
        for kind, values in stored.items():
            self.writers[kind].write(values, window)
        self.tally.add(stored["labels"], window)

    def finish(self, row: int, strip: Strip) -> None:
        with gdal_errors(self.writers["labels"].target):
            self.journal.finish(row, strip)


def _leave(journal: Journal, target: Path) -> None:
    """A run broke off: what it finished stays, an empty journal goes."""
    if journal.finished:
        logger.info("%s: the rows that are finished are kept; --resume goes on from there", target)
    else:
        journal.remove()


def _run_of(job: Job, bundle: Bundle, settings: Settings) -> dict[str, Any]:
    """What must be the same for a run to go on where another stopped."""
    return {
        "rsseg": __version__,
        "scene": job.scene.path,
        "size and time of its files": [_stamp(file) for file in job.scene.files],
        "bands": list(job.scene.names),
        "model": bundle.digest,
        "temperature": bundle.card.temperature,
        "settings": asdict(settings),
        "aoi": job.area.digest if job.area else None,
        "outputs": [str(path) for path in job.outputs.paths],
    }


def _stamp(file: str) -> list[int] | None:
    path = Path(file)
    return [path.stat().st_size, path.stat().st_mtime_ns] if path.is_file() else None


def _writers(stack: ExitStack, job: Job, grid: Grid, bundle: Bundle) -> dict[str, RasterWriter]:
    """Labels, and what else was asked for, each under its name once all is done."""
    outputs = job.outputs
    tags = {
        "RSSEG_COMMAND": "segment",
        "RSSEG_VERSION": __version__,
        "RSSEG_MODEL": bundle.digest,
        "RSSEG_METHOD": bundle.card.method,
    }
    common: dict[str, Any] = {"overwrite": outputs.overwrite, "inputs": job.scene.files, "options": outputs.options}
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


def _stored(cell: Cell, card: Card, kinds: set[str]) -> dict[str, NDArray[np.uint8]]:
    """A cell as the outputs hold it: class ids, and probabilities in steps."""
    ids = np.array(card.scheme.ids, np.uint8)
    found = {"labels": np.where(cell.valid, ids[cell.places], np.uint8(UNLABELLED))}
    if kinds & {"probabilities", "confidence"}:
        probabilities = cell.probabilities(card.temperature)
        steps = np.where(cell.valid, np.rint(probabilities / PROBABILITY_STEP), UNLABELLED).astype(np.uint8)
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
