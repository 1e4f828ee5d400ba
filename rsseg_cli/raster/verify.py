"""What was written, read back: GDAL as rasterio drives it may lose data and say nothing."""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyproj
import rasterio
from rasterio.crs import CRS
from rasterio.enums import Interleaving
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from rsseg_cli.delivery import failure
from rsseg_cli.errors import RssegError
from rsseg_cli.raster.dataset import georeference_optional
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.layout import Layout


def verify_raster(path: Path, grid: Grid, layout: Layout, target: Path) -> None:
    """Re-opens what was written for `target`: the grid, the bands, and every block of every zoom level."""
    with _reopened(path, target) as dataset:
        changed = _differences(dataset, grid, layout)
        lost = 0 if changed else _lost_blocks(dataset, path, target)
    if changed:
        raise RssegError(
            f"{target}: came out changed: {'; '.join(changed)}",
            "leave creation options away that change grid or data type",
            file=str(target),
            kind="output",
        )
    if lost:
        raise RssegError(
            f"{target}: blocks are missing: {lost}",
            "the disk filled up, or failed; free some space, or choose another disk, and run again",
            file=str(target),
            kind="space",
        )


def verify_pixels(path: Path, checksums: Iterable[tuple[Window, int]], exact: bool, target: Path) -> None:
    """Decodes everything once: a disk that is full for a moment leaves a hole that only its content gives away."""
    with _reopened(path, target) as dataset:
        levels = len(dataset.overviews(1))
        for window, checksum in checksums:
            found = zlib.crc32(np.ascontiguousarray(dataset.read(window=window)).data)
            if exact and found != checksum:
                first, last = int(window.row_off), int(window.row_off + window.height - 1)
                raise RssegError(
                    f"{target}: rows {first} to {last} are not what was written",
                    "the disk filled up, or failed, or a --co option alters values; run again elsewhere or without it",
                    file=str(target),
                    kind="space",
                )
    for level in range(levels):
        with _reopened(path, target, OVERVIEW_LEVEL=level) as overview:
            for _, window in overview.block_windows(1):
                overview.read(window=window)


def _differences(dataset: DatasetReader, grid: Grid, layout: Layout) -> list[str]:
    """What is not as it was asked for, in words."""
    number = None if layout.nodata is None else float(np.dtype(layout.dtype).type(layout.nodata))
    pairs = {
        "transform": (tuple(dataset.transform)[:6], tuple(grid.transform)[:6]),
        "height and width": (dataset.shape, grid.shape),
        "number of bands": (dataset.count, len(layout.bands)),
        "data type": (set(dataset.dtypes), {layout.dtype}),
        "nodata": (str(dataset.nodata), str(number)),  # as text, because one NaN is not equal to another
    }
    changed = [f"{what} is {found}, not {wanted}" for what, (found, wanted) in pairs.items() if found != wanted]
    if not _same_crs(dataset.crs, grid.crs):
        changed.append(f"CRS is {dataset.crs}, not {grid.crs}")
    return changed


def _same_crs(found: CRS | None, wanted: CRS | None) -> bool:
    if found == wanted or found is None or wanted is None:
        return bool(found == wanted)
    mine, theirs = pyproj.CRS(found.to_wkt()), pyproj.CRS(wanted.to_wkt())
    # GeoTIFF writes down neither the order of axes, which rasters do not use, nor a building site's own datum.
    return mine.equals(theirs, ignore_axis_order=True) or (mine.is_engineering and theirs.is_engineering)


def _lost_blocks(dataset: DatasetReader, path: Path, target: Path) -> int:
    """How many blocks of the TIFF, overviews included, are not in the file."""
    size = path.stat().st_size
    bands = dataset.indexes[:1] if dataset.interleaving == Interleaving.pixel else dataset.indexes
    lost = _lost_in_level(dataset, None, dataset, bands, size)
    for level in range(len(dataset.overviews(1))):
        with _reopened(path, target, OVERVIEW_LEVEL=level) as overview:
            lost += _lost_in_level(dataset, level, overview, bands, size)
    return lost


def _lost_in_level(
    dataset: DatasetReader, level: int | None, shape: DatasetReader, bands: Sequence[int], size: int
) -> int:
    """In one level of `dataset`; `shape` is that level opened by itself."""
    rows, cols = shape.block_shapes[0]
    lost = 0
    for band in bands:
        for row in range(-(-shape.height // rows)):
            for col in range(-(-shape.width // cols)):
                offset, length = (
                    dataset.get_tag_item(f"BLOCK_{what}_{col}_{row}", "TIFF", bidx=band, ovr=level)
                    for what in ("OFFSET", "SIZE")
                )
                lost += offset is None or length is None or int(offset) + int(length) > size
    return lost


@contextmanager
def _reopened(path: Path, target: Path, **options: int) -> Iterator[DatasetReader]:
    with (
        gdal_errors(target),
        georeference_optional(),
        rasterio.open(path.absolute(), driver="GTiff", **options) as dataset,
    ):
        yield dataset


@contextmanager
def gdal_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except (RasterioError, rasterio._err.CPLE_BaseError, OSError) as problem:
        raise failure(target, problem) from problem
