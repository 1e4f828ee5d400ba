"""A scene or a series mapped with a model that is loaded: walk it, and write or give back what comes out."""

import logging
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio import windows
from rasterio.windows import Window

from rsseg_cli import __version__
from rsseg_cli.bundle import Bundle
from rsseg_cli.classes import UNLABELLED
from rsseg_cli.consistency import Flips
from rsseg_cli.domain import samples
from rsseg_cli.fusing import Forward
from rsseg_cli.job import Job, Settings
from rsseg_cli.journal import Journal, Piece
from rsseg_cli.label_map import LabelMap, Stored, stored
from rsseg_cli.memory import memory_told, with_less
from rsseg_cli.normalisation import bands_unlike, robust
from rsseg_cli.predict import Cell, Strip, Walk, device_for, open_walk, passes_on
from rsseg_cli.progress import Track, untracked
from rsseg_cli.raster.align import align
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.kept_open import kept_open
from rsseg_cli.raster.scene import Scene
from rsseg_cli.raster.series import Series
from rsseg_cli.raster.verify import gdal_errors
from rsseg_cli.sameness import FILES, stamps
from rsseg_cli.tiling import Tiling
from rsseg_cli.vector.area import Area

# The axes along which a tile is mirrored: left-right, up-down, both.
MIRRORS = ((-1,), (-2,), (-2, -1))
# Finished cells that may wait to be stored.
BEHIND = 2
# Blocks of a scene whose values are compared with those that the model knows.
COMPARED_BLOCKS = 16
# In the journal, the classes before and after the fusion of dates.
TOLD = "told"

logger = logging.getLogger(__name__)


def map_scene(
    job: Job, bundle: Bundle, settings: Settings, *, resume: bool = False, track: Track = untracked
) -> list[dict[str, Any]]:
    """Writes the map of a scene, or the maps of a series; gives what was written and the area of every class."""

    def less() -> tuple[str, Settings] | None:
        # A map is made in one way: rows that are finished wait for a run as it was.
        return None if Journal.beside(job.maps[0].labels).finished else _less(bundle, settings, job.scene)

    def run(settings: Settings) -> list[dict[str, Any]]:
        with _memory_told(job.scene):
            return _map_scene(job, bundle, settings, resume, track)

    return with_less(run, settings, less)[1]


@kept_open()
def _map_scene(job: Job, bundle: Bundle, settings: Settings, resume: bool, track: Track) -> list[dict[str, Any]]:
    view = View.of(job.scene, job.area, _tiling(bundle, settings, job.scene).overlap_px)
    _say_unlike(view.scene, bundle)
    walk = walk_of(view.scene, bundle, settings)
    target = job.maps[0].labels
    journal, flips = Journal.beside(target), Flips()
    first = None
    try:
        with ExitStack() as stack:
            # Before the journal: they refuse what cannot be written, and hold the lock on it.
            maps = [LabelMap(stack, outputs, job.scene.files, view.grid, bundle) for outputs in job.maps]
            with gdal_errors(target):
                first = journal.start(_run_of(job, bundle, settings), resume)
            sink = _Sink(view, maps, flips, journal)
            rows = _all_rows(walk, sink, first)
            for _ in track(rows, f"mapping {Path(job.scene.path).name}", walk.layout.down.count):
                pass
    except BaseException:
        if first is not None:
            _leave(journal, target)
        raise
    journal.remove()
    if not any(each.tally.pixels.sum() for each in maps):
        where = " in the area asked for" if job.area else ""
        logger.warning("%s: holds nothing but nodata%s, and so does its map", job.scene.path, where)
    size = {"width": view.grid.width, "height": view.grid.height}
    of_series = {"consistency": flips.to_json()} if isinstance(job.scene, Series) else {}
    return [
        named | each.to_json() | size | of_series for named, each in zip(_named(job.scene, settings), maps, strict=True)
    ]


def _say_unlike(scene: Scene | Series, bundle: Bundle) -> None:
    """A map of values that the model can make nothing of looks like any other map."""
    known, *others = bundle.card.known
    for each in scene.scenes if isinstance(scene, Series) else (scene,):
        sampled = [part for part in samples(each, COMPARED_BLOCKS) if part.size]
        own = robust(sampled, each.names, each.path) if sampled else known
        if (unlike := bands_unlike(own, known)) and all(bands_unlike(own, other) for other in others):
            band = unlike[0]
            logger.warning(
                "%s: values are not like those the model knows: %s lies around %.4g, give or take %.4g, and the model "
                "expects %.4g, give or take %.4g. In other units, or of another sensor, the map means little. "
                "`rsseg adapt` makes a model for such scenes",
                *(each.path, bundle.card.bands[band], own.centres[band], own.spreads[band]),
                *(known.centres[band], known.spreads[band]),
            )


def _named(scene: Scene | Series, settings: Settings) -> list[dict[str, Any]]:
    """What each map is of."""
    if not isinstance(scene, Series):
        return [{"scene": scene.path}]
    if settings.series == "place":
        return [{"scene": scene.path, "dates": list(scene.dates)}]
    return [{"scene": date.path, "date": date.date} for date in scene.scenes]


def map_array(scene: Scene, area: Area | None, bundle: Bundle, settings: Settings) -> NDArray[np.uint8]:
    """The class ids (y, x) of a scene in memory, or of the bounds of the area."""

    def run(settings: Settings) -> NDArray[np.uint8]:
        with _memory_told(scene):
            return _map_array(scene, area, bundle, settings)

    return with_less(run, settings, lambda: _less(bundle, settings, scene))[1]


@kept_open()
def _map_array(scene: Scene, area: Area | None, bundle: Bundle, settings: Settings) -> NDArray[np.uint8]:
    view = View.of(scene, area, _tiling(bundle, settings, scene).overlap_px)
    _say_unlike(view.scene, bundle)
    labels = np.full(view.grid.shape, UNLABELLED, np.uint8)
    for cell, _ in walk_of(view.scene, bundle, settings).cells():
        kept = view.kept(cell)
        if kept is not None:
            labels[kept.window.toslices()] = stored(kept, bundle.card, {"labels"})["labels"]
    return labels


def _memory_told(scene: Scene | Series) -> AbstractContextManager[None]:
    hint = "map with a smaller --tile-px or --batch, or close other programs"
    return memory_told(scene.path, hint, file=scene.path)


def _less(bundle: Bundle, settings: Settings, scene: Scene | Series) -> tuple[str, Settings] | None:
    """Half the tiles in a batch, and no batch beside another; None where that is how it was."""
    batch = _tiling(bundle, settings, scene).batch
    if batch > 1:
        return f"--batch {batch // 2}", replace(settings, batch=batch // 2, passes=1)
    at_once = passes_on(device_for(settings.device), settings.passes)
    return ("one tile at a time", replace(settings, passes=1)) if at_once > 1 else None


@dataclass(frozen=True)
class View:
    """What is walked of a scene, and what of that is kept."""

    scene: Scene | Series  # as it is walked: the area, and around it what the network needs to see
    grid: Grid  # of the map
    seen: Window  # what is walked, as a window of the whole scene
    area: Area | None

    @classmethod
    def of(cls, scene: Scene | Series, area: Area | None, margin_px: int) -> "View":
        if area is None:
            return cls(scene, scene.grid, scene.grid.window, None)
        seen = area.grown(margin_px, scene.grid)
        around = scene.crop(seen) if isinstance(scene, Series) else align(scene, scene.grid.crop(seen))
        return cls(around, scene.grid.crop(area.window), seen, area)

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
        inside = self.area.inside.read(common) > 0
        told = None if cell.told is None else np.where(inside, cell.told[..., rows, cols], np.uint8(UNLABELLED))
        return Cell(place, cell.logits[:, rows, cols], cell.valid[..., rows, cols] & inside, told)


def _moved(window: Window, rows: int, cols: int) -> Window:
    return Window(window.col_off + cols, window.row_off + rows, window.width, window.height)


def walk_of(scene: Scene | Series, bundle: Bundle, settings: Settings) -> Walk:
    """The walk through a scene or a series as the settings want it."""
    gsd_m, tiling = settings.gsd_m or bundle.card.gsd_m, _tiling(bundle, settings, scene)
    of_series = (settings.series == "place", settings.shifts)
    walk = open_walk(scene, bundle, tiling, gsd_m, settings.device, settings.precision, *of_series, settings.passes)
    return replace(walk, forward=mirrored_too(walk.forward)) if settings.tta else walk


def _tiling(bundle: Bundle, settings: Settings, scene: Scene | Series) -> Tiling:
    dates = len(scene.scenes) if isinstance(scene, Series) else 1
    return settings.tiling_for(bundle.card.architecture.encoder, device_for(settings.device), dates)


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
    """Where finished cells go: the journal, the maps, the count of flips."""

    def __init__(self, view: View, maps: list[LabelMap], flips: Flips, journal: Journal) -> None:
        self.view, self.maps, self.flips, self.journal = view, maps, flips, journal

    @property
    def target(self) -> Path:
        return self.maps[0].writers["labels"].target

    def keep(self, cell: Cell) -> None:
        kept = self.view.kept(cell)
        if kept is not None:
            piece = (kept.window, self._stored(kept))
            with gdal_errors(self.target):
                self.journal.add(piece)
            self.write(piece)

    def _stored(self, cell: Cell) -> Stored:
        """What all maps hold of a cell, each output by the number of its map and its kind."""
        found = {
            f"{number} {kind}": values
            for number, (each, part) in enumerate(zip(self.maps, cell.split(), strict=True))
            for kind, values in each.stored(part).items()
        }
        return found if cell.told is None else found | {TOLD: cell.told}

    def write(self, piece: Piece) -> None:
        window, found = piece
        for number, each in enumerate(self.maps):
            own = {kind: values for kind in each.writers if (values := found.get(f"{number} {kind}")) is not None}
            each.write(own, window)
        if TOLD in found:
            self.flips.add(found[TOLD])

    def finish(self, row: int, strip: Strip) -> None:
        with gdal_errors(self.target):
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
        FILES: stamps(job.scene.files),
        "bands": ",".join(job.scene.names),
        "model": [bundle.digest],
        "temperature": bundle.card.temperature,
        "settings": asdict(replace(settings, passes=None)),
        "aoi": [job.area.digest] if job.area else None,
        "outputs": ", ".join(str(path) for outputs in job.maps for path in outputs.paths),
    }
