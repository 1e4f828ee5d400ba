"""Finds what changed between two dates of one place. No truth is asked, and nothing has to be learned before.

two rasters -> Pair, registered -> a walk that finds distances -> a threshold -> mask, score and polygons
"""

import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from rsseg_cli import __version__
from rsseg_cli.change import doubts
from rsseg_cli.change.baseline import note_offset
from rsseg_cli.change.comparison import BLOCK_PX, Comparison, compare
from rsseg_cli.change.from_to import open_classes
from rsseg_cli.change.methods import Choice, Method
from rsseg_cli.change.pair import Pair, PairOptions, open_pair
from rsseg_cli.change.resuming import run_of, unfinished
from rsseg_cli.change.scheme import CHANGE_SCHEME, CHANGED
from rsseg_cli.change.shift import Shift, register
from rsseg_cli.change.sieve import sieved
from rsseg_cli.change.threshold import Cut
from rsseg_cli.classes import UNLABELLED
from rsseg_cli.delivery import check_target
from rsseg_cli.errors import RssegError
from rsseg_cli.progress import Track, untracked
from rsseg_cli.raster.kept_open import kept_open
from rsseg_cli.raster.labels import Ids, Labels
from rsseg_cli.raster.layout import Layout
from rsseg_cli.raster.scene import Scene
from rsseg_cli.raster.tiles import block_count, blocks
from rsseg_cli.raster.write import RasterWriter, check_suffix, create_labels, create_raster

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What the person asked for."""

    before: str | Scene
    after: str | Scene
    output: Path = Path("change.tif")
    pair: PairOptions = field(default_factory=PairOptions)
    choice: Choice = field(default_factory=Choice)
    score: Path | None = None
    polygons: Path | None = None
    before_classes: str | None = None
    after_classes: str | None = None
    min_area: float = 0.0
    max_shift_px: float = 5.0
    threshold: str | float = "auto"  # a rule, or a score
    overwrite: bool = False
    creation_options: Mapping[str, str] = field(default_factory=dict)
    resume: bool = False


@dataclass(frozen=True)
class Opened:
    """Two dates that can be compared."""

    pair: Pair  # registered
    shift: Shift | None  # None: nobody asked for it
    classes: Mapping[str, Labels]  # of the dates, by the column that they fill


@dataclass
class Tally:
    """What goes by while results are read."""

    held_px: int = 0
    flagged_px: int = 0  # changed, small patches included
    changed_px: int = 0
    changed_m2: float = 0.0
    both_px: int = 0  # flagged by the second opinion as well
    either_px: int = 0

    @property
    def agreement(self) -> float | None:
        """Of all that one of the two flags, the share that both do; None where neither does."""
        return self.both_px / self.either_px if self.either_px else None


def detect(request: Request, started: float, track: Track = untracked) -> dict[str, Any]:
    """Writes what was asked for, and gives what `--json` prints.

    The mask has its name last: where it lies, all else is there and complete.
    """
    _check(request)
    with heard() as warnings, kept_open(), ExitStack() as stack:
        opened = open_dates(request)
        _check_targets(request, inputs=(*opened.pair.files, *_class_maps(request)))
        # Around the writers: it goes when all is delivered. Begun after them: they hold the lock.
        begin = stack.enter_context(unfinished(request.output))
        masks, scores = _writers(request, opened.pair, stack)
        found = compared(request, opened.pair, begin(run_of(request, opened.pair), request.resume), track)
        mask, tally = sieved(found, found.pair.grid, request.min_area, track=track), Tally()
        for window, ids, score in results(found, mask, tally, track):
            masks.write(ids, window)
            if scores is not None:
                scores.write(score, window)
        say_doubts(tally)
        if request.polygons is not None:
            _write_polygons(request, opened, found, mask, track)
    return {
        "change": str(request.output),
        "probability": str(request.score) if request.score else None,
        "polygons": str(request.polygons) if request.polygons else None,
        **report(opened, found, tally),
        "warnings": warnings,
        "seconds": time.perf_counter() - started,
    }


def check_options(request: Request) -> None:
    """What can be said before anything is opened."""
    if request.choice.method not in get_args(Method):
        raise RssegError(f"--method {request.choice.method}: not known", f"use {', '.join(get_args(Method))}")
    Cut.of(request.threshold)
    if not 0 <= request.min_area < math.inf:
        raise RssegError(f"--min-area {request.min_area:g}: is no area", "give square metres, as in --min-area 50")


def _check(request: Request) -> None:
    check_options(request)
    if _class_maps(request) and request.polygons is None:
        raise RssegError(
            "--before-classes and --after-classes add columns to polygons, and none are written",
            "name a file for them: --polygons change.gpkg",
        )
    rasters = [path for path in (request.output, request.score) if path is not None]
    outputs = [*rasters, *([request.polygons] if request.polygons else [])]
    if len(set(outputs)) < len(outputs):
        raise RssegError("two outputs have one name", "give each its own", kind="output")
    for path in rasters:
        check_suffix(path)
    if request.polygons is not None:
        from rsseg_cli.vector.formats import format_of

        format_of(request.polygons)
    _check_targets(request, inputs=())


def _class_maps(request: Request) -> tuple[str, ...]:
    return tuple(path for path in (request.before_classes, request.after_classes) if path is not None)


def _check_targets(request: Request, inputs: tuple[str, ...]) -> None:
    for path in (request.output, request.score, request.polygons):
        if path is not None:
            style = [path.with_suffix(".qml")] if path == request.output else []
            check_target(path, overwrite=request.overwrite, inputs=inputs, sidecars=style)


def open_dates(request: Request) -> Opened:
    """The two dates on one grid and upon one another, and their class maps."""
    pair = open_pair(request.before, request.after, request.pair)
    note_offset(pair)
    registered, shift = pair, None
    if request.pair.align == "auto":
        registered, shift = register(pair, request.max_shift_px)
    held = registered.held_if_small()
    for doubt in doubts.of_pair(held, shift):
        logger.warning("%s", doubt)
    maps = (request.before_classes, request.after_classes)
    moved = shift if registered is not pair else None
    return Opened(held, shift, open_classes(*maps, registered, moved, by_place=request.pair.align != "off"))


def compared(request: Request, pair: Pair, folder: Path, track: Track) -> Comparison:
    """The pair, looked at with the method that the person wants; what is found lies in the folder."""
    return compare(pair, request.choice, Cut.of(request.threshold), request.output, folder, track)


def results(
    found: Comparison, mask: Ids, tally: Tally, track: Track
) -> Iterator[tuple[Window, NDArray[np.uint8], NDArray[np.float32]]]:
    """(window, mask, score) of each block; what goes by is counted."""
    grid, row_areas = found.pair.grid, found.pair.grid.row_areas()
    for window in track(blocks(grid, BLOCK_PX), "writing", block_count(grid, BLOCK_PX)):
        ids, score = mask.read(window), found.score(window)
        flagged, by_second = score > found.cut.score, found.by_second_opinion(window)
        changed = np.count_nonzero(ids == CHANGED, axis=1)
        tally.held_px += int(np.count_nonzero(ids != UNLABELLED))
        tally.flagged_px += int(np.count_nonzero(flagged))
        tally.changed_px += int(changed.sum())
        tally.changed_m2 += float(changed @ row_areas[window.row_off : window.row_off + window.height])
        tally.both_px += int(np.count_nonzero(flagged & by_second))
        tally.either_px += int(np.count_nonzero(flagged | by_second))
        yield window, ids, score


def say_doubts(tally: Tally) -> None:
    held = max(tally.held_px, 1)
    for doubt in doubts.of_share(tally.changed_px / held, tally.flagged_px / held):
        logger.warning("%s", doubt)


def _writers(request: Request, pair: Pair, stack: ExitStack) -> tuple[RasterWriter, RasterWriter | None]:
    tags = {"RSSEG_VERSION": __version__, "RSSEG_METHOD": request.choice.method}
    common: dict[str, Any] = {"inputs": pair.files, "options": request.creation_options, "overwrite": request.overwrite}
    masks = stack.enter_context(create_labels(request.output, pair.grid, CHANGE_SCHEME, tags=tags, **common))
    if request.score is None:
        return masks, None
    layout = Layout(("change score",), "float32", float("nan"), tags=tags)
    return masks, stack.enter_context(create_raster(request.score, pair.grid, layout, **common))


def _write_polygons(request: Request, opened: Opened, found: Comparison, mask: Ids, track: Track) -> None:
    from rsseg_cli.change.polygons import write_polygons

    assert request.polygons is not None
    labels = Labels(str(request.output), found.pair.grid, CHANGE_SCHEME, mask)
    write_polygons(request.polygons, labels, found, opened.classes, request.overwrite, track)


def report(opened: Opened, found: Comparison, tally: Tally) -> dict[str, Any]:
    """What was found, as `--json` prints it."""
    pair, shift, cut, detector = opened.pair, opened.shift, found.cut, found.detector
    return {
        "changed_pixels": tally.changed_px,
        "changed_share": tally.changed_px / max(tally.held_px, 1),
        "changed_area_m2": tally.changed_m2 if pair.grid.crs is not None else None,
        "method": found.method,
        "delivered": detector.delivered,
        "threshold": {"rule": "given" if cut.is_given else cut.rule, "value": cut.score},
        "steps": detector.steps,
        "stopped_by": detector.stopped_by,
        "shift_px": [shift.dx, shift.dy] if shift else None,
        "shift_reliability": shift.reliability if shift else None,
        "radiometry": detector.radiometry,
        "agreement_with_ir_mad": tally.agreement,
    }


@contextmanager
def heard() -> Iterator[list[str]]:
    """Whatever is warned of meanwhile, each once: what is said on stderr is in the report."""
    said: dict[str, None] = {}
    warnings: list[str] = []
    listener = logging.Handler(logging.WARNING)
    listener.emit = lambda record: said.setdefault(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("rsseg_cli")
    log.addHandler(listener)
    try:
        yield warnings
    finally:
        log.removeHandler(listener)
        warnings.extend(said)
