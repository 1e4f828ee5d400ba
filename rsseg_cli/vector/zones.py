"""What other rasters hold within each region: how sure a map is, and which mask the region comes from.

Regions are not rasterised as polygons. Along a row of pixels, the region changes at upright edges and nowhere else, so
that adding up the changes gives the region of every pixel, strip by strip.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.windows import Window

from rsseg_cli.errors import RssegError
from rsseg_cli.raster.align import align
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.labels import described_classes
from rsseg_cli.raster.scene import Scene
from rsseg_cli.raster.sources import open_scene
from rsseg_cli.vector.chains import Indices, Offsets, offsets_of
from rsseg_cli.vector.corners import SLICE_PX, STRIP_ROWS, stable_order
from rsseg_cli.vector.coverage import NOTHING, Coverage
from rsseg_cli.vector.masks import NO_MASK, Masks
from rsseg_cli.vector.regions import boxes

if TYPE_CHECKING:
    import pyarrow  # type: ignore[import-untyped]

# Edges are sorted by bands of so many rows, so that any rows find theirs.
BAND_ROWS = 64
LOW_SHARE = 0.1
CODE_BITS = 16
CODES = (1 << CODE_BITS) - 1
DIGITS_WITHIN = 4  # of means, beyond the digits of the steps that values are stored in

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Edges:
    """Upright edges, band by band of rows; an edge that goes through several is cut."""

    x: Indices
    top: Indices
    bottom: Indices
    change: Indices  # of the region's number, from the pixels in the west to those in the east
    bands: Offsets
    width: int  # of the raster

    def regions(self, first: int, rows: int) -> Indices:
        """(row, column) the region of every pixel in some rows."""
        begin, end = self.bands[first // BAND_ROWS], self.bands[(first + rows - 1) // BAND_ROWS + 1]
        top = self.top[begin:end].clip(min=first)
        sizes = (self.bottom[begin:end].clip(max=first + rows) - top).clip(min=0)
        # All rows in one line, with one more pixel for each: east of the last column is nothing again.
        stride = self.width + 1
        before = np.cumsum(sizes) - sizes
        at = np.repeat((top - first) * np.int64(stride) + self.x[begin:end] - before * stride, sizes)
        at += np.arange(len(at)) * stride
        line = np.zeros(rows * stride, np.int32)
        line[at] = np.repeat(self.change[begin:end], sizes)
        line[0] += NOTHING
        return np.cumsum(line, out=line).reshape(rows, stride)[:, : self.width]


def find_edges(coverage: Coverage) -> Edges:
    """The upright edges of lines that nothing has moved."""
    x, y = coverage.lines.x.astype(np.int32), coverage.lines.y.astype(np.int32)
    at, change = _changes(coverage, x, y)
    top, bottom = np.minimum(y[at], y[at + 1]), np.maximum(y[at], y[at + 1])
    first = top // BAND_ROWS
    sizes = (bottom - 1) // BAND_ROWS + 1 - first
    edge = np.repeat(np.arange(len(at)), sizes)
    band = (first - (np.cumsum(sizes) - sizes))[edge] + np.arange(len(edge), dtype=np.int32)
    order = stable_order(band)
    edge, band = edge[order], band[order]
    bands = offsets_of(np.bincount(band, minlength=-(-coverage.grid.height // BAND_ROWS)))
    top, bottom = np.maximum(top[edge], band * BAND_ROWS), np.minimum(bottom[edge], (band + 1) * BAND_ROWS)
    return Edges(x[at[edge]], top, bottom, change[edge], bands, coverage.grid.width)


def _changes(coverage: Coverage, x: Indices, y: Indices) -> tuple[NDArray[np.int64], Indices]:
    """(points from which an upright edge leads to the next, how the region changes there from west to east)."""
    offsets = coverage.lines.offsets
    is_upright = x[1:] == x[:-1]
    is_upright[offsets[1:-1] - 1] = False  # from the end of an arc to the next arc
    at = np.flatnonzero(is_upright)
    arc = np.repeat(np.arange(len(offsets) - 1, dtype=np.int32), np.diff(offsets))[at]
    left, right = coverage.region[2 * arc], coverage.region[2 * arc + 1]
    change = np.where(y[at + 1] > y[at], left - right, right - left)  # walking south, one has the east on the left
    inner = change != 0
    return at[inner], change[inner]


def _zones(
    coverage: Coverage, read: Callable[[Window], NDArray[Any]], strip_rows: int
) -> Iterator[tuple[int, Indices, NDArray[Any]]]:
    """(row below, regions, values) of slices down the raster; the values are read in strips of its full width."""
    edges = find_edges(coverage)
    step = max(1, SLICE_PX // coverage.grid.width)
    for window in _strips(coverage.grid, strip_rows):
        strip = read(window)
        for first in range(0, len(strip), step):
            top, values = window.row_off + first, strip[first : first + step]
            yield top + len(values), edges.regions(top, len(values)), values


def blocks_of_regions(coverage: Coverage) -> Iterator[tuple[Window, Indices]]:
    """(window, the region of each of its pixels) all over the raster, of lines that nothing has moved."""
    edges = find_edges(coverage)
    for strip in _strips(coverage.grid, STRIP_ROWS):
        regions = edges.regions(strip.row_off, strip.height)
        for left in range(0, strip.width, STRIP_ROWS):
            part = regions[:, left : left + STRIP_ROWS]
            yield Window(left, strip.row_off, part.shape[1], strip.height), part


def _strips(grid: Grid, rows: int) -> Iterator[Window]:
    for top in range(0, grid.height, rows):
        yield Window(0, top, grid.width, min(rows, grid.height - top))


def confidence_columns(coverage: Coverage, path: str, strip_rows: int = STRIP_ROWS) -> dict[str, NDArray[np.float64]]:
    """Mean, minimum and 10th percentile of a raster in each region, of lines that nothing has moved.

    Pixels without a value do not count; a region without any has NaN. Values that are stored as 8 or 16 bits are taken
    as they are; others to a 65,535th of their range, so that a large region does not have to remember each pixel.
    """
    scene = _open_confidence(path, coverage.grid)
    steps = _steps(scene, strip_rows)
    zones = _zones(coverage, lambda window: scene.values(window)[0], strip_rows)
    counted = ((below, _count(regions, values, steps)) for below, regions, values in zones)
    figures = np.full((3, len(coverage)), np.nan)
    for histogram in _finished(counted, boxes(coverage)[:, 3]):
        _fill(figures, histogram, steps)
    if empty := np.isnan(figures[0]).sum():
        logger.warning("%s: has no value in %d of %d polygons; there, confidence is null", path, empty, len(coverage))
    return dict(zip(("confidence_mean", "confidence_min", "confidence_p10"), steps.rounded(figures), strict=True))


def _open_confidence(path: str, grid: Grid) -> Scene:
    """The one band of a raster, or of all that a folder or a pattern names, on the masks' grid."""
    if described_classes(path) is not None:
        raise RssegError(
            f"{path}: is a label map; a confidence has a number for each pixel that says how sure its class is",
            "name what `rsseg segment --confidence FILE` wrote",
            file=path,
        )
    scene = open_scene(path, mosaic=True)
    if len(scene.bands) > 1:
        raise RssegError(
            f"{path}: has {len(scene.bands)} bands; a confidence has one",
            "name what `rsseg segment --confidence FILE` wrote, or take one band out: gdal_translate -b 1",
            file=path,
        )
    aligned = align(scene, grid, Resampling.nearest)
    if scene.grid.offset_of(grid) is None:
        logger.info("%s: has other pixels than the masks; each of theirs takes the nearest one's value", path)
    return aligned


@dataclass(frozen=True)
class Steps:
    """Values as codes of 16 bits."""

    origin: float
    size: float
    digits: int  # after the point, as far as values are known

    def codes(self, values: NDArray[np.float32]) -> NDArray[np.uint16]:
        codes: NDArray[np.uint16] = np.rint((values - np.float64(self.origin)) / self.size).astype(np.uint16)
        return codes

    def values(self, codes: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.origin + codes.astype(np.float64) * self.size

    def rounded(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Without the noise of floats: 0.548, not 0.548000037."""
        rounded: NDArray[np.float64] = values.round(self.digits)
        return rounded


def _steps(scene: Scene, strip_rows: int) -> Steps:
    """The steps in which a raster is stored where they are few enough; else its range cut into as many as fit."""
    band = scene.bands[0]
    if band.dtype in ("uint8", "int8", "uint16", "int16"):
        ends = np.iinfo(band.dtype)
        first = ends.min if band.scale > 0 else ends.max
        size = abs(band.scale) or 1.0
        return Steps(band.offset + first * band.scale, size, DIGITS_WITHIN + _digits(size))
    low, high = np.inf, -np.inf
    for strip in _strips(scene.grid, strip_rows):
        values = scene.values(strip)
        low, high = np.fmin.reduce(values, None, initial=low), np.fmax.reduce(values, None, initial=high)
    if low > high:
        return Steps(0, 1, 0)
    finest = np.spacing(np.float32(max(abs(low), abs(high))))
    size = max((float(high) - float(low)) / CODES, float(finest))
    return Steps(float(low), size, _digits(size))


def _digits(size: float) -> int:
    return floor(-log10(size))


@dataclass(frozen=True)
class Histogram:
    """How often which value occurs in which region, by regions and values."""

    keys: NDArray[np.int64]  # the region's number, followed by 16 bits of a value's code
    counts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, kept: NDArray[np.bool_]) -> "Histogram":
        return Histogram(self.keys[kept], self.counts[kept])


def _joined(histograms: Sequence[Histogram]) -> Histogram:
    keys = np.concatenate([h.keys for h in histograms])
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    begins = _beginnings(keys)
    return Histogram(keys[begins], np.add.reduceat(np.concatenate([h.counts for h in histograms])[order], begins))


def _beginnings(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each run of equal keys begins."""
    return np.flatnonzero(np.diff(keys, prepend=-1))


def _count(regions: Indices, values: NDArray[np.float32], steps: Steps) -> Histogram:
    held = (regions != NOTHING) & ~np.isnan(values)
    region, codes = regions[held], steps.codes(values[held])
    # numpy counts numbers of 16 bits, which is several times quicker than comparing: regions get such numbers first.
    begins = _beginnings(region)
    _, place = np.unique(region[begins], return_inverse=True)
    local = np.repeat(place.astype(np.int32), np.diff(begins, append=len(region)))
    order = np.argsort(codes, kind="stable")
    order = order[stable_order(local[order])]
    keys = region[order].astype(np.int64) << CODE_BITS | codes[order]
    begins = _beginnings(keys)
    return Histogram(keys[begins], np.diff(begins, append=len(keys)))


def _finished(counted: Iterable[tuple[int, Histogram]], south: Indices) -> Iterator[Histogram]:
    """Joined histograms of the regions that end above the row to which counting has come.

    What is remembered are the regions that go on. They are joined when the new ones are as many, so that the effort
    stays in proportion.
    """
    waiting = Histogram(np.empty(0, np.int64), np.empty(0, np.int64))
    fresh: list[Histogram] = []
    for below, histogram in counted:
        fresh.append(histogram)
        if sum(map(len, fresh)) < len(waiting) + SLICE_PX and below < south.max(initial=0):
            continue
        waiting = _joined([waiting, *fresh])
        ends = south[waiting.keys >> CODE_BITS] <= below
        yield waiting.take(ends)
        waiting, fresh = waiting.take(~ends), []


def _fill(figures: NDArray[np.float64], histogram: Histogram, steps: Steps) -> None:
    """Mean, minimum and 10th percentile of the regions in a histogram."""
    region, counts = histogram.keys >> CODE_BITS, histogram.counts
    values = steps.values(histogram.keys & CODES)
    begins = _beginnings(region)
    pixels = np.add.reduceat(counts, begins)
    passed = np.cumsum(counts)
    rank = LOW_SHARE * (pixels - 1)
    lower = np.floor(rank).astype(np.int64)
    before = passed[begins] - counts[begins]
    low, high = (
        values[np.searchsorted(passed, before + place.clip(max=pixels - 1), side="right")]
        for place in (lower, lower + 1)
    )
    at = region[begins]
    figures[0, at] = np.add.reduceat(values * counts, begins) / pixels
    figures[1, at] = values[begins]
    figures[2, at] = low + (high - low) * (rank - lower)


def source_column(coverage: Coverage, masks: Masks, strip_rows: int = STRIP_ROWS) -> "pyarrow.Array":
    """The names of the masks that each region comes from, of lines that nothing has moved."""
    import pyarrow
    import pyarrow.compute  # type: ignore[import-untyped]

    names = pyarrow.array(masks.names, pyarrow.large_string())
    zones = _zones(coverage, masks.origins.read, strip_rows)
    keys = np.unique(np.concatenate([_pairs(regions, origins) for _, regions, origins in zones]))
    region, mask = keys >> CODE_BITS, keys & CODES
    offsets = np.searchsorted(region, np.arange(len(coverage) + 1))
    lists = pyarrow.LargeListArray.from_arrays(offsets, names.take(pyarrow.array(mask)))
    return pyarrow.compute.binary_join(lists, pyarrow.scalar(", ", names.type))


def _pairs(regions: Indices, origins: NDArray[np.uint16]) -> NDArray[np.int64]:
    """(region, mask) as one number, once each."""
    keys = (regions.astype(np.int64) << CODE_BITS | origins)[(regions != NOTHING) & (origins != NO_MASK)]
    return np.unique(keys[_beginnings(keys)])
