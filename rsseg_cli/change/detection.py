"""Finds what changed between two dates of one place. No truth is asked, and nothing has to be learned before.

two rasters -> Pair, registered -> Detector -> a walk for the threshold -> a walk that writes mask and score
"""

import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from rsseg_cli import __version__
from rsseg_cli.change.baseline import note_offset
from rsseg_cli.change.methods import Detector, Method, fit
from rsseg_cli.change.pair import Pair, PairOptions, open_pair
from rsseg_cli.change.scheme import CHANGE_SCHEME
from rsseg_cli.change.shift import Shift, register
from rsseg_cli.change.threshold import count, threshold
from rsseg_cli.classes import UNLABELLED
from rsseg_cli.delivery import check_target
from rsseg_cli.errors import RssegError
from rsseg_cli.progress import Track, untracked
from rsseg_cli.raster.layout import Layout
from rsseg_cli.raster.tiles import block_count, blocks
from rsseg_cli.raster.write import RasterWriter, check_suffix, create_labels, create_raster

BLOCK_PX = 512  # that are looked at together
# More changed than this is more likely light, season or cloud.
MUCH = 0.5

Found = TypeVar("Found")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What the person asked for."""

    before: str
    after: str
    output: Path
    pair: PairOptions = field(default_factory=PairOptions)
    method: Method = "classical"
    score: Path | None = None
    polygons: Path | None = None
    max_shift_px: float = 5.0
    threshold: float | None = None  # of the score; None: from the pair
    seed: int = 0
    overwrite: bool = False
    creation_options: Mapping[str, str] = field(default_factory=dict)


def detect(request: Request, started: float, track: Track = untracked) -> dict[str, Any]:
    """Writes what was asked for, and gives what `--json` prints."""
    _check(request)
    pair = open_pair(request.before, request.after, request.pair)
    _check_targets(request, pair.files)
    note_offset(pair)
    shift = None
    if request.pair.align == "auto":
        pair, shift = register(pair, request.max_shift_px)
    detector = fit(request.method, pair, request.seed)
    limit = _limit(pair, detector, track)
    with ExitStack() as stack:
        score = request.score
        if score is None and request.polygons is not None:  # polygons are told how sure they are
            score = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "score.tif"
        tally = _write(request, pair, detector, limit, score, track)
        if request.polygons is not None:
            _write_polygons(request, score)
    return {**_report(request, pair, shift, detector, tally), "seconds": time.perf_counter() - started}


def _check(request: Request) -> None:
    """Before anything is opened."""
    if request.method not in get_args(Method):
        raise RssegError(f"--method {request.method}: not known", f"use {', '.join(get_args(Method))}")
    if request.threshold is not None and not 0 < request.threshold < 1:
        raise RssegError(f"--threshold {request.threshold:g}: not between 0 and 1", "leave it out, or try 0.5")
    rasters = [path for path in (request.output, request.score) if path is not None]
    outputs = [*rasters, *([request.polygons] if request.polygons else [])]
    if len(set(outputs)) < len(outputs):
        raise RssegError("two outputs have one name", "give each its own", kind="output")
    for path in rasters:
        check_suffix(path)
    if request.polygons is not None:
        from rsseg_cli.vector.formats import format_of

        format_of(request.polygons)
    _check_targets(request, ())


def _check_targets(request: Request, inputs: tuple[str, ...]) -> None:
    for path in (request.output, request.score, request.polygons):
        if path is not None:
            style = [path.with_suffix(".qml")] if path == request.output else []
            check_target(path, overwrite=request.overwrite, inputs=inputs, sidecars=style)


def _limit(pair: Pair, detector: Detector, track: Track) -> float:
    """The distance from which on a pixel has changed."""
    counts = sum(_walk(pair, lambda window: count(detector.distance(pair, window)), "comparing", track))
    return threshold(np.asarray(counts))


def _walk(pair: Pair, look: Callable[[Window], Found], label: str, track: Track) -> Iterator[Found]:
    """What is seen in each block, in their order; some are looked at side by side."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        windows = blocks(pair.grid, BLOCK_PX)
        some = iter(lambda: list(islice(windows, workers)), [])
        found = (seen for together in some for seen in pool.map(look, together))
        yield from track(found, label, block_count(pair.grid, BLOCK_PX))


@dataclass
class _Tally:
    """What was found, while it is written."""

    limit: float  # of the score
    changed_px: int = 0
    held_px: int = 0
    changed_m2: float = 0.0


def _write(request: Request, pair: Pair, detector: Detector, limit: float, score: Path | None, track: Track) -> _Tally:
    tally = _Tally(request.threshold if request.threshold is not None else 0.5)
    row_areas = pair.grid.row_areas()

    def look(window: Window) -> tuple[Window, NDArray[np.float32]]:
        distance = detector.distance(pair, window)
        return window, distance / (distance + np.float32(limit))

    with ExitStack() as stack:
        masks, scores = _writers(request, pair, score, stack)
        for window, values in _walk(pair, look, "writing", track):
            held = np.isfinite(values)
            changed = held & (values > tally.limit)
            masks.write(np.where(held, changed, UNLABELLED).astype(np.uint8), window)
            if scores is not None:
                scores.write(values, window)
            tally.changed_px += int(changed.sum())
            tally.held_px += int(held.sum())
            rows = row_areas[window.row_off : window.row_off + window.height]
            tally.changed_m2 += float(changed.sum(axis=1) @ rows)
    return tally


def _writers(
    request: Request, pair: Pair, score: Path | None, stack: ExitStack
) -> tuple[RasterWriter, RasterWriter | None]:
    tags = {"RSSEG_VERSION": __version__, "RSSEG_METHOD": request.method}
    common: dict[str, Any] = {"inputs": pair.files, "options": request.creation_options}
    mask = create_labels(request.output, pair.grid, CHANGE_SCHEME, tags=tags, overwrite=request.overwrite, **common)
    if score is None:
        return stack.enter_context(mask), None
    layout = Layout(("change score",), "float32", float("nan"), tags=tags)
    scores = create_raster(score, pair.grid, layout, overwrite=request.overwrite, **common)
    return stack.enter_context(mask), stack.enter_context(scores)


def _write_polygons(request: Request, score: Path | None) -> None:
    """The changed ground as polygons, each with its mean, lowest and 10th percentile of the score."""
    from rsseg_cli.polygon_job import Request as PolygonRequest
    from rsseg_cli.vectorization import make_layers

    wanted = PolygonRequest(
        masks=(str(request.output),),
        output=request.polygons,
        classes="changed",
        confidence=str(score),
        overwrite=request.overwrite,
    )
    make_layers(wanted, time.perf_counter())


def _report(request: Request, pair: Pair, shift: Shift | None, detector: Detector, tally: _Tally) -> dict[str, Any]:
    share = tally.changed_px / max(tally.held_px, 1)
    warnings = _warnings(share)
    for text in warnings:
        logger.warning("%s", text)
    return {
        "change": str(request.output),
        "probability": str(request.score) if request.score else None,
        "polygons": str(request.polygons) if request.polygons else None,
        "changed_pixels": tally.changed_px,
        "changed_share": share,
        "changed_area_m2": tally.changed_m2 if pair.grid.crs is not None else None,
        "method": request.method,
        "delivered": detector.delivered,
        "threshold": {"rule": "auto" if request.threshold is None else "given", "value": tally.limit},
        "steps": detector.steps,
        "stopped_by": detector.stopped_by,
        "shift_px": [shift.dx, shift.dy] if shift else None,
        "shift_reliability": shift.reliability if shift else None,
        "radiometry": "fitted to what did not change",
        "warnings": warnings,
    }


def _warnings(share: float) -> list[str]:
    if share == 0:
        return ["nothing has changed, as far as these two dates can tell"]
    if share > MUCH:
        return [f"{share:.0%} of the ground seems changed: the dates may differ too much in season, light or cloud"]
    return []
