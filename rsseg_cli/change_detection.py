"""`detect-change` as a function: of files or of arrays, to files or to an array."""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from rsseg_cli.change.choosing import check_choice
from rsseg_cli.change.common import Align
from rsseg_cli.change.detection import (
    Request,
    Tally,
    check_options,
    compared,
    detect,
    heard,
    open_dates,
    report,
    results,
    say_doubts,
)
from rsseg_cli.change.methods import Choice, Method
from rsseg_cli.change.pair import Pair, PairOptions
from rsseg_cli.change.scheme import CHANGE_SCHEME
from rsseg_cli.change.sieve import sieved
from rsseg_cli.errors import RssegError
from rsseg_cli.progress import Track, untracked
from rsseg_cli.raster.scene import Scene

if TYPE_CHECKING:
    from xarray import DataArray


def detect_change(
    before: "str | Path | DataArray",
    after: "str | Path | DataArray",
    output: str | Path | None = None,
    *,
    method: Method = "metric-cd",
    probability: str | Path | None = None,
    polygons: str | Path | None = None,
    before_classes: str | Path | None = None,
    after_classes: str | Path | None = None,
    bands: str | None = None,
    before_bands: str | None = None,
    after_bands: str | None = None,
    before_mask: str | None = None,
    after_mask: str | None = None,
    aoi: str | Path | None = None,
    align: Align = "auto",
    max_shift_px: float = Request.max_shift_px,
    threshold: str | float = "auto",
    min_area: float = 0.0,
    steps: int | None = None,
    minutes: float | None = None,
    encoder: str | None = None,
    encoder_weights: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    mosaic: bool = False,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    track: Track = untracked,
) -> "dict[str, Any] | DataArray":
    """Finds what changed between two dates; the keywords are the options of `rsseg detect-change`.

    Only `--set` is a mapping here: `settings={"memory_gb": 16}`.

    Files of `output`, `probability` and `polygons` are written as the command writes them, and what `--json` prints is
    returned. Without `output` the mask is, as a georeferenced DataArray (y, x): 0 unchanged, 1 changed, 255 nothing;
    its coordinate `score` holds the change score, and `attrs["report"]` what `--json` would print of it. Each date may
    be a file or a georeferenced DataArray, (band, y, x) as `Scene.read` and rioxarray give it.

        from rsseg_cli import detect_change, open_scene, vectorize

        detect_change("before.tif", "after.tif", "change.tif", polygons="change.gpkg", min_area=20)
        before, after = open_scene("before.tif").read(), open_scene("after.tif").read()
        changed = detect_change(before[:, :200], after[:, :200])
        patches = vectorize(changed, classes="changed")
    """
    started = time.perf_counter()
    choice = Choice(method, encoder, _text(encoder_weights), settings or {}, steps, minutes, seed, device)
    check_choice(choice, threshold)
    request = Request(
        _date(before),
        _date(after),
        Path(output) if output is not None else Request.output,
        PairOptions(
            before_bands or bands,
            after_bands or bands,
            before_mask,
            after_mask,
            _text(aoi),
            align,
            mosaic=mosaic,
        ),
        choice,
        Path(probability) if probability is not None else None,
        Path(polygons) if polygons is not None else None,
        _text(before_classes),
        _text(after_classes),
        min_area,
        max_shift_px,
        threshold,
        overwrite,
        resume=resume,
    )
    if output is not None:
        return detect(request, started, track)
    if overwrite or resume or any(file is not None for file in (probability, polygons, before_classes, after_classes)):
        raise RssegError(
            "probability, polygons, before_classes, after_classes, overwrite and resume are for files",
            "name the mask's file too: output='change.tif'; or make polygons of the mask with vectorize",
        )
    return _mask_of(request, before, after, track)


def _date(date: "str | Path | DataArray") -> str | Scene:
    if isinstance(date, str | Path):
        return str(date)
    from rsseg_cli.raster.arrays import scene_of

    return scene_of(date)


def _text(path: str | Path | None) -> str | None:
    return str(path) if path is not None else None


def _mask_of(
    request: Request, before: "str | Path | DataArray", after: "str | Path | DataArray", track: Track
) -> "DataArray":
    check_options(request)
    with heard() as warnings, tempfile.TemporaryDirectory() as folder:
        opened = open_dates(request)
        found = compared(replace(request, output=Path(folder)), opened.pair, Path(folder), track)
        grid, tally = found.pair.grid, Tally()
        ids, scores = np.empty(grid.shape, np.uint8), np.empty(grid.shape, np.float32)
        for window, mask, score in results(found, sieved(found, grid, request.min_area, track=track), tally, track):
            ids[window.toslices()], scores[window.toslices()] = mask, score
        say_doubts(tally)
    placed = _placed(ids, scores, opened.pair, after if opened.pair.keeps_after else before)
    placed.attrs["report"] = {**report(opened, found, tally), "warnings": warnings}
    return placed


def _placed(
    ids: NDArray[np.uint8], scores: NDArray[np.float32], pair: Pair, date: "str | Path | DataArray"
) -> "DataArray":
    """The mask in the place of the date that the pixels are those of."""
    from rsseg_cli.raster.arrays import array_of, labels_like, scene_of

    window = pair.grid.window
    if isinstance(date, str | Path):
        date = array_of(scores[np.newaxis], ("score",), pair.grid, "change")
    else:
        row, col = scene_of(date).grid.offset_of(pair.grid) or (0, 0)
        window = Window(col, row, pair.grid.width, pair.grid.height)
    mask = labels_like(date, ids, CHANGE_SCHEME, pair.grid.transform, window)
    return mask.rename("change").assign_coords(score=(("y", "x"), scores))
