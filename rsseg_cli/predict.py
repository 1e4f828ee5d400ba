"""A scene through a network: overlapping tiles in, seamless class scores out, memory flat in the scene's size.

Tiles are anchored to the scene's first pixel and go through the network in batches of fixed shape and fixed members,
so the result does not depend on how the scene is read or on where a run was interrupted. In the overlaps the logits
of neighbouring tiles fade into each other by linear ramps. A cell leaves as soon as no later tile can touch it; what
waits is one strip as high as the overlap.

Of a series each tile is seen on all dates, and these are fused pixel by pixel before tiles fade into each other.
"""

import logging
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.windows import Window
from rsseg_models.devices import choose_device, choose_precision, forward_of, passes_at_once
from rsseg_models.errors import ModelError
from rsseg_models.fusion import parts_of
from torch import nn

from rsseg_cli.bundle import Bundle
from rsseg_cli.environment import keep_freed_memory
from rsseg_cli.errors import RssegError
from rsseg_cli.fusing import Forward, Fusing, Seen
from rsseg_cli.normalisation import Normalisation
from rsseg_cli.raster.grid import SAME_GSD
from rsseg_cli.raster.scene import Scene
from rsseg_cli.raster.series import Series
from rsseg_cli.tiling import Layout, Tiling

# (class, overlap, x): logits of a row of tiles that the next row fades into. In half precision: it is as wide as the
# scene, and all of the walk that grows with it.
Strip = NDArray[np.float16]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cell:
    """A finished piece of the map."""

    window: Window
    logits: NDArray[np.float32]  # (class, y, x); of dates, all classes of the first, then of the next
    valid: NDArray[np.bool_]  # (y, x), of dates (date, y, x); where there is something to tell
    told: NDArray[np.uint8] | None = None  # of a series, as in Seen

    def split(self) -> list["Cell"]:
        """The dates one by one; itself where it is one map."""
        if self.valid.ndim == 2:
            return [self]
        logits = self.logits.reshape(len(self.valid), -1, *self.logits.shape[1:])
        return [Cell(self.window, *date) for date in zip(logits, self.valid, strict=True)]

    @property
    def places(self) -> NDArray[np.intp]:
        """The class with the highest score, as its place among them; ties go to the first."""
        return np.asarray(self.logits.argmax(axis=0))

    def probabilities(self, temperature: float) -> NDArray[np.float32]:
        """Softmax over the classes of logits divided by the temperature: the higher, the less sure."""
        raised = np.exp((self.logits - self.logits.max(axis=0)) / np.float32(temperature))
        return np.asarray(raised / raised.sum(axis=0), np.float32)


@dataclass(frozen=True)
class Walk:
    """The way through a scene, or through all dates of a series at once."""

    scene: Scene | Series
    normalisation: Normalisation
    forward: Forward  # (tile, band, y, x) to logits (tile, class, y, x)
    classes: int  # that come out; of dates, those of all dates
    tiling: Tiling
    workers: int = 2  # batches that are read and seen at the same time
    fusing: Fusing | None = None  # of a series

    @property
    def layout(self) -> Layout:
        return Layout.of(self.scene.grid, self.tiling)

    @property
    def _dates(self) -> tuple[int, ...]:
        """The first axis of what is read of a series."""
        return (len(self.scene.scenes),) if isinstance(self.scene, Series) else ()

    def _empty_strip(self) -> Strip:
        """What lies above the first row of tiles."""
        across = self.layout.across
        return np.zeros((self.classes, across.overlap_px, across.count * across.tile_px), np.float16)

    def cells(self, first_row: int = 0, strip: Strip | None = None) -> Iterator[tuple[Cell, Strip | None]]:
        """Each cell as soon as it is finished; with the last one of a row, the strip that the next row needs.

        A walk goes on where another stopped when it is given the next row and the last strip. The strip is there to
        be kept at once: the next cell changes it.
        """
        layout = self.layout
        strip = self._empty_strip() if strip is None else strip
        fade = _Fade(layout, strip)
        for number, seen in self._tiles(layout, first_row):
            row, col = layout.place(number)
            if row < first_row:
                continue  # seen again only because it shares a batch with the row to go on with
            ends_row = col == layout.across.count - 1
            cell = _cell(layout.window(number), fade.add(row, col, seen.logits), seen)
            yield cell, strip if ends_row else None
            if ends_row:
                fade = _Fade(layout, strip)

    def block(self, window: Window) -> Cell:
        """Any window of the map by itself, from the few tiles that it needs; the same as in the whole walk.

        It depends on nothing but the window, so that many machines can share a scene.
        """
        layout = self.layout
        rows = layout.down.cells(window.row_off, window.height)
        cols = layout.across.cells(window.col_off, window.width)
        strip = self._empty_strip()
        logits = np.empty((self.classes, window.height, window.width), np.float32)
        as_scene = self.fusing is None or self.fusing.as_place
        valid = np.empty((*(() if as_scene else self._dates), window.height, window.width), bool)
        batches: dict[range, Seen] = {}
        # The tiles above and to the left reach into the first cells.
        for row in range(max(0, rows.start - 1), rows.stop):
            fade = _Fade(layout, strip)
            for col in range(max(0, cols.start - 1), cols.stop):
                number = layout.number(row, col)
                numbers = layout.batch_of(number)
                if numbers not in batches:
                    batches[numbers] = self._see(layout, numbers)
                seen = batches[numbers].of(number - numbers.start)
                cell = _cell(layout.window(number), fade.add(row, col, seen.logits), seen)
                if row in rows and col in cols:
                    _paste(cell, window, logits, valid)
        return Cell(window, logits, valid)

    def _tiles(self, layout: Layout, first_row: int) -> Iterator[tuple[int, Seen]]:
        """All tiles in order, seen a little ahead.

        On a CPU several batches at a time with few threads each are done sooner than one at a time with all: no thread
        waits for another, and reading fills the gaps.
        """
        threads = torch.get_num_threads()
        share = max(1, threads // self.workers)
        ahead: deque[tuple[range, Future[Seen]]] = deque()
        with ThreadPoolExecutor(self.workers, initializer=torch.set_num_threads, initargs=(share,)) as pool:
            try:
                for numbers in layout.batches(first_row):
                    ahead.append((numbers, pool.submit(self._see, layout, numbers)))
                    if len(ahead) > self.workers:
                        yield from _one_by_one(*ahead.popleft())
                while ahead:
                    yield from _one_by_one(*ahead.popleft())
            finally:
                for _, future in ahead:
                    future.cancel()
                torch.set_num_threads(threads)

    def _see(self, layout: Layout, numbers: range) -> Seen:
        """What the network makes of a batch."""
        values, valid = self._read(layout, numbers)
        if self.fusing is not None:
            return self.fusing.see(self.forward, values, valid)
        return Seen(self.forward(torch.from_numpy(values)).numpy() if valid.any() else None, valid)

    def _read(self, layout: Layout, numbers: range) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Bands and valid pixels of a batch. Beyond the scene's edge and the last tile there is nothing, which is 0."""
        size = (layout.down.tile_px, layout.across.tile_px)
        values = np.zeros((layout.batch, *self._dates, len(self.scene.bands), *size), np.float32)
        valid = np.zeros((layout.batch, *self._dates, *size), bool)
        for at, number in enumerate(numbers):
            window = layout.window(number)
            read = self.scene.values(window)
            valid[at, ..., : window.height, : window.width] = np.isfinite(read).all(axis=-3)
            values[at, ..., : window.height, : window.width] = self.normalisation.apply(read)
        return values, valid


def _one_by_one(numbers: range, batch: Future[Seen]) -> Iterator[tuple[int, Seen]]:
    for at, number in enumerate(numbers):
        yield number, batch.result().of(at)


class _Fade:
    """Adds the tiles of one row to what their neighbours left in the overlaps."""

    def __init__(self, layout: Layout, strip: Strip) -> None:
        self.layout = layout
        self.strip = strip  # from the row above; where the row is done, what it leaves for the row below
        self.right: NDArray[np.float32] | None = None  # (class, y, overlap): from the tile before

    def add(self, row: int, col: int, logits: NDArray[np.float32] | None) -> NDArray[np.float32]:
        """The logits (class, y, x) of the cell that this tile completes."""
        down, across = self.layout.down, self.layout.across
        done = self._weighted(row, col, logits)
        if self.right is not None:
            done[:, :, : across.overlap_px] += self.right
        if col < across.count - 1:
            self.right = done[:, :, across.stride_px :].copy()
            done = done[:, :, : across.stride_px]
        strip = self.strip[:, :, col * across.stride_px : col * across.stride_px + done.shape[2]]
        if row > 0:
            done[:, : down.overlap_px] += strip
        if row < down.count - 1:
            strip[:] = done[:, down.stride_px :]
            done = done[:, : down.stride_px]
        return done

    def _weighted(self, row: int, col: int, logits: NDArray[np.float32] | None) -> NDArray[np.float32]:
        down, across = self.layout.down, self.layout.across
        if logits is None:
            return np.zeros((len(self.strip), down.tile_px, across.tile_px), np.float32)
        return logits * (down.weights(row)[:, None] * across.weights(col))


def _cell(window: Window, logits: NDArray[np.float32], seen: Seen) -> Cell:
    """The cell cut to the scene."""
    height, width = min(logits.shape[1], window.height), min(logits.shape[2], window.width)
    place = Window(window.col_off, window.row_off, width, height)
    told = None if seen.told is None else seen.told[..., :height, :width]
    return Cell(place, logits[:, :height, :width], seen.valid[..., :height, :width], told)


def _paste(cell: Cell, window: Window, logits: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
    """The part of a cell that lies in a window, into the window's arrays."""
    top, left = max(cell.window.row_off, window.row_off), max(cell.window.col_off, window.col_off)
    bottom = min(cell.window.row_off + cell.window.height, window.row_off + window.height)
    right = min(cell.window.col_off + cell.window.width, window.col_off + window.width)
    common = Window(left, top, right - left, bottom - top)
    source, goal = (
        Window(left - at.col_off, top - at.row_off, common.width, common.height).toslices()
        for at in (cell.window, window)
    )
    logits[(slice(None), *goal)] = cell.logits[(slice(None), *source)]
    valid[(..., *goal)] = cell.valid[(..., *source)]


def open_walk(
    scene: Scene | Series,
    bundle: Bundle,
    tiling: Tiling,
    gsd_m: float | None,
    device: str = "auto",
    precision: str = "auto",
    as_place: bool = False,
    shifts: bool = True,
    passes: int | None = None,
) -> Walk:
    """The walk of a model through a scene or a series, seen at `gsd_m` metres a pixel."""
    device = device_for(device)
    keep_freed_memory()
    classes = len(bundle.card.scheme.classes)
    network: nn.Module = bundle.network
    fusing = None
    if isinstance(scene, Series):
        network, fusion = parts_of(bundle.network, classes)
        fusing = Fusing(fusion, scene.days, as_place, bundle.card.temperature, _shifts(scene) if shifts else None)
        classes *= 1 if as_place else len(scene.scenes)
    forward = forward_of(network, device, choose_precision(precision, device), _zoom(scene, gsd_m))
    return Walk(scene, bundle.card.normalisation, forward, classes, tiling, passes_on(device, passes), fusing)


def _shifts(series: Series) -> NDArray[np.float32]:
    """Told where there are any."""
    farthest = np.hypot(*series.shifts.T).max()
    if farthest:
        logger.info(
            "%s: dates lie up to %.1f pixels off each other, which is allowed for (--no-shifts: not)",
            series.path,
            farthest,
        )
    return series.shifts


def passes_on(device: str, wanted: int | None) -> int:
    """Batches at work at the same time: what is wanted, or what suits the device."""
    return passes_at_once(device) if wanted is None else wanted


def device_for(wanted: str) -> str:
    """`auto`, or what the person named, refused in words where it is not there."""
    try:
        return choose_device(wanted)
    except ModelError as problem:
        raise RssegError(f"--device {wanted}: {problem.problem}", problem.hint, kind="environment") from problem


def _zoom(scene: Scene | Series, gsd_m: float | None) -> float:
    """How much the scene's pixels are enlarged for the model."""
    own = scene.grid.gsd_m
    if gsd_m is None or own is None:
        if (gsd_m is None) != (own is None):
            logger.info("%s: scene or model has no size on the ground; pixels are taken as they are", scene.path)
        return 1.0
    return 1.0 if abs(own / gsd_m - 1) < SAME_GSD else own / gsd_m
