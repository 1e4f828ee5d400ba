"""A scene through a network: overlapping tiles in, seamless class scores out, memory flat in the scene's size.

Tiles are anchored to the scene's first pixel and go through the network in batches of fixed shape and fixed members,
so the result does not depend on how the scene is read or on where a run was interrupted. In the overlaps the logits
of neighbouring tiles fade into each other by linear ramps. A cell leaves as soon as no later tile can touch it; what
waits is one strip as high as the overlap.
"""

import logging
import math
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.windows import Window
from rsseg_models.devices import choose_device, choose_precision, forward_of
from rsseg_models.errors import ModelError
from torch import Tensor

from rsseg_cli.bundle import Bundle
from rsseg_cli.errors import RssegError
from rsseg_cli.normalisation import Normalisation
from rsseg_cli.raster.grid import SAME_GSD, Grid
from rsseg_cli.raster.scene import Scene

# Networks halve the resolution five times.
STEP_PX = 32
# Batches read ahead of the network.
AHEAD = 2

Forward = Callable[[Tensor], Tensor]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tiling:
    """How scenes are cut. A map depends on these three, and on nothing else about the walk."""

    tile_px: int = 512  # a tile's side at most; scenes are cut into equal tiles
    overlap_px: int = 64  # shared with the next tile, faded over
    batch: int = 2  # tiles that go through the network together

    def __post_init__(self) -> None:
        # A pixel must not lie in the overlaps of three tiles: their ramps would not add up to one.
        if self.tile_px < 3 * self.overlap_px or self.overlap_px < 0 or self.batch < 1:
            raise RssegError(
                f"tiles of {self.tile_px} pixels with an overlap of {self.overlap_px} cannot be blended",
                f"give --tile-px {max(3 * self.overlap_px, 128)} or more, or a smaller --overlap-px",
            )


@dataclass(frozen=True)
class Engine:
    """How a network runs."""

    tiling: Tiling = field(default_factory=Tiling)
    device: str = "auto"
    precision: str = "auto"
    readers: int = 2


@dataclass(frozen=True)
class Side:
    """The tiles along one side of a scene."""

    length_px: int  # of the scene
    count: int
    tile_px: int
    overlap_px: int

    @classmethod
    def of(cls, length_px: int, tiling: Tiling) -> "Side":
        """As few tiles as the limit allows, and those as small as they can be: what sticks out is wasted."""
        overlap = tiling.overlap_px
        count = max(1, math.ceil((length_px - overlap) / (tiling.tile_px - overlap)))
        tile = math.ceil(((length_px - overlap) / count + overlap) / STEP_PX) * STEP_PX
        return cls(length_px, count, max(tile, overlap + STEP_PX), overlap)

    @property
    def stride_px(self) -> int:
        return self.tile_px - self.overlap_px

    def weights(self, number: int) -> Tensor:
        """Ramps into the neighbours; a ramp and its mirror image add up to one. None at the scene's edge."""
        weights = torch.ones(self.tile_px)
        # Half-pixel centres: whole steps would count the seam itself twice.
        ramp = (torch.arange(self.overlap_px) + 0.5) / self.overlap_px
        if number > 0:
            weights[: self.overlap_px] = ramp
        if number < self.count - 1:
            weights[self.stride_px :] = ramp.flip(0)
        return weights


@dataclass(frozen=True)
class Layout:
    """All tiles of a scene, numbered row by row."""

    down: Side
    across: Side
    batch: int

    @classmethod
    def of(cls, grid: Grid, tiling: Tiling) -> "Layout":
        return cls(Side.of(grid.height, tiling), Side.of(grid.width, tiling), tiling.batch)

    @property
    def count(self) -> int:
        return self.down.count * self.across.count

    def place(self, number: int) -> tuple[int, int]:
        """Row and column of a tile."""
        return divmod(number, self.across.count)

    def batches(self, first_row: int) -> Iterator[range]:
        """Tile numbers of each batch, from the one that holds the row's first tile; members never change."""
        start = first_row * self.across.count // self.batch * self.batch
        for first in range(start, self.count, self.batch):
            yield range(first, min(first + self.batch, self.count))


@dataclass(frozen=True)
class Cell:
    """A finished piece of the map."""

    window: Window
    logits: NDArray[np.float32]  # (class, y, x)
    valid: NDArray[np.bool_]  # (y, x); where the scene holds every band

    @property
    def places(self) -> NDArray[np.intp]:
        """The class with the highest score, as its place among them; ties go to the first."""
        return np.asarray(self.logits.argmax(axis=0))

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """Softmax over the classes."""
        raised = np.exp(self.logits - self.logits.max(axis=0))
        return np.asarray(raised / raised.sum(axis=0), np.float32)


@dataclass(frozen=True)
class _Batch:
    """Tiles of a scene, read and normalised."""

    numbers: range
    values: NDArray[np.float32]  # (tile, band, y, x); nothing is 0
    valid: NDArray[np.bool_]  # (tile, y, x)


@dataclass(frozen=True)
class Walk:
    """The way through a scene."""

    scene: Scene
    normalisation: Normalisation
    forward: Forward  # (tile, band, y, x) to logits (tile, class, y, x)
    classes: int
    tiling: Tiling
    readers: int = 2

    @property
    def layout(self) -> Layout:
        return Layout.of(self.scene.grid, self.tiling)

    def empty_strip(self) -> Tensor:
        """What lies above the first row of tiles."""
        across = self.layout.across
        return torch.zeros(self.classes, across.overlap_px, across.count * across.tile_px)

    def strip_of(self, held: NDArray[np.float32]) -> Tensor:
        """A strip that was kept on disk."""
        return torch.from_numpy(held)

    def cells(self, first_row: int = 0, strip: Tensor | None = None) -> Iterator[tuple[Cell, Tensor | None]]:
        """Each cell as soon as it is finished; with the last one of a row, the strip that the next row needs.

        A walk goes on where another stopped when it is given the next row and the last strip.
        """
        layout = self.layout
        fade = _Fade(layout, self.empty_strip() if strip is None else strip)
        for number, logits, valid in self._tiles(layout, first_row):
            row, col = layout.place(number)
            if row < first_row:
                continue  # seen again only because it shares a batch with the row to go on with
            ends_row = col == layout.across.count - 1
            yield _cell(layout, row, col, fade.add(row, col, logits), valid), fade.below if ends_row else None
            if ends_row:
                fade = _Fade(layout, fade.below)

    def _tiles(self, layout: Layout, first_row: int) -> Iterator[tuple[int, Tensor | None, NDArray[np.bool_]]]:
        """Number, logits and valid pixels of every tile; no logits where there is nothing to see."""
        for batch in self._read_ahead(layout, first_row):
            logits = self.forward(torch.from_numpy(batch.values)) if batch.valid.any() else None
            for at, number in enumerate(batch.numbers):
                yield number, None if logits is None else logits[at], batch.valid[at]

    def _read_ahead(self, layout: Layout, first_row: int) -> Iterator[_Batch]:
        """The batches in order, read by threads a little ahead of the network."""
        waiting: list[Future[_Batch]] = []
        with ThreadPoolExecutor(self.readers) as pool:
            try:
                for numbers in layout.batches(first_row):
                    waiting.append(pool.submit(self._read, layout, numbers))
                    if len(waiting) > AHEAD:
                        yield waiting.pop(0).result()
                while waiting:
                    yield waiting.pop(0).result()
            finally:
                for future in waiting:
                    future.cancel()

    def _read(self, layout: Layout, numbers: range) -> _Batch:
        """A batch of tiles. Beyond the scene's edge there is nothing; missing members of the last batch are empty."""
        size = (layout.down.tile_px, layout.across.tile_px)
        values = np.zeros((layout.batch, len(self.scene.bands), *size), np.float32)
        valid = np.zeros((layout.batch, *size), bool)
        for at, number in enumerate(numbers):
            window = _window(layout, *layout.place(number))
            read = self.scene.read(window).values
            valid[at, : window.height, : window.width] = np.isfinite(read).all(axis=0)
            values[at, :, : window.height, : window.width] = self.normalisation.apply(read)
        return _Batch(numbers, values, valid)


def _window(layout: Layout, row: int, col: int) -> Window:
    """What a tile covers of the scene."""
    top, left = row * layout.down.stride_px, col * layout.across.stride_px
    height = min(layout.down.tile_px, layout.down.length_px - top)
    width = min(layout.across.tile_px, layout.across.length_px - left)
    return Window(left, top, width, height)


class _Fade:
    """Adds the tiles of one row to what their neighbours left in the overlaps."""

    def __init__(self, layout: Layout, above: Tensor) -> None:
        self.layout = layout
        self.above = above  # (class, overlap, x): from the row above
        self.below = torch.zeros_like(above)  # for the row below
        self.right: Tensor | None = None  # (class, y, overlap): from the tile before

    def add(self, row: int, col: int, logits: Tensor | None) -> Tensor:
        """The logits (class, y, x) of the cell that this tile completes."""
        down, across = self.layout.down, self.layout.across
        done = self._weighted(row, col, logits)
        if self.right is not None:
            done[:, :, : across.overlap_px] += self.right
        if col < across.count - 1:
            self.right = done[:, :, across.stride_px :].clone()
            done = done[:, :, : across.stride_px]
        columns = slice(col * across.stride_px, col * across.stride_px + done.shape[2])
        if row > 0:
            done[:, : down.overlap_px] += self.above[:, :, columns]
        if row < down.count - 1:
            self.below[:, :, columns] = done[:, down.stride_px :]
            done = done[:, : down.stride_px]
        return done

    def _weighted(self, row: int, col: int, logits: Tensor | None) -> Tensor:
        down, across = self.layout.down, self.layout.across
        if logits is None:
            return torch.zeros(self.above.shape[0], down.tile_px, across.tile_px)
        return logits.float() * (down.weights(row)[:, None] * across.weights(col)[None, :])


def _cell(layout: Layout, row: int, col: int, logits: Tensor, valid: NDArray[np.bool_]) -> Cell:
    """The cell cut to the scene."""
    window = _window(layout, row, col)
    height, width = min(logits.shape[1], window.height), min(logits.shape[2], window.width)
    place = Window(window.col_off, window.row_off, width, height)
    return Cell(place, logits[:, :height, :width].numpy(), valid[:height, :width])


def open_walk(scene: Scene, bundle: Bundle, engine: Engine, gsd_m: float | None) -> Walk:
    """The walk of a model through a scene, seen at `gsd_m` metres a pixel."""
    device = device_for(engine.device)
    forward = forward_of(bundle.network, device, choose_precision(engine.precision, device), _zoom(scene, gsd_m))
    classes = len(bundle.card.scheme.classes)
    return Walk(scene, bundle.card.normalisation, forward, classes, engine.tiling, engine.readers)


def device_for(wanted: str) -> str:
    """`auto`, or what the person named, refused in words where it is not there."""
    try:
        return choose_device(wanted)
    except ModelError as problem:
        raise RssegError(f"--device {wanted}: {problem.problem}", problem.hint, kind="environment") from problem


def _zoom(scene: Scene, gsd_m: float | None) -> float:
    """How much the scene's pixels are enlarged for the model."""
    own = scene.grid.gsd_m
    if gsd_m is None or own is None:
        if (gsd_m is None) != (own is None):
            logger.info("%s: scene or model has no size on the ground; pixels are taken as they are", scene.path)
        return 1.0
    return 1.0 if abs(own / gsd_m - 1) < SAME_GSD else own / gsd_m
