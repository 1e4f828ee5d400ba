"""Opening a raster with GDAL, and saying in words what is wrong when that fails."""

import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio._path import _parse_path
from rasterio.drivers import driver_from_extension
from rasterio.enums import Interleaving
from rasterio.env import ensure_env_with_credentials, env_ctx_if_needed
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from rsseg_cli.environment import free_memory
from rsseg_cli.errors import RssegError
from rsseg_cli.raster.files import is_local, refuse_special, stamps_of
from rsseg_cli.raster.vrt import check_vrt, holds_vrt, is_called_vrt

# What imagery and label maps come in. GDAL knows a hundred formats more; some of them, by what a file says, ask servers
# or read other files, and each is more code that a damaged file can break. JPEG 2000, ECW and MrSID have several
# drivers, of which a GDAL has some.
DRIVERS = (
    *("GTiff", "PNG", "JPEG", "JPEGXL", "WEBP", "BMP", "JP2OpenJPEG", "JP2KAK", "JP2ECW", "JP2MrSID", "ECW", "MrSID"),
    *("HFA", "ENVI", "EHdr", "NITF", "AAIGrid", "GPKG", "SENTINEL2", "DIMAP"),
)
# Less than this is had in any case.
SMALL_BYTES = 64 << 20
# An empty JPEG 2000 comes to 57,000. For every few thousand pixels that one claims, GDAL has something in memory.
MOST_PIXELS_A_BYTE = 200_000
# A file beside the raster.
OWN_OVERVIEWS = re.compile(r":::BASE:::[^/\\]+")

# Python's list of warning filters is one for all threads. Blocks under it are short, and may lie in one another.
WARNINGS_LOCK = threading.RLock()


@contextmanager
def open_raster(path: str) -> Iterator[DatasetReader]:
    """The dataset behind anything GDAL reads; `path` is handed over untouched."""
    with opened(path) as dataset:
        yield dataset


def opened(path: str) -> DatasetReader:
    """The same, for whoever closes it."""
    refuse_special(path)
    try:
        with georeference_optional():
            dataset = _by_name(path)
    except (RasterioError, UnicodeError, ValueError, TypeError) as problem:
        raise _unreadable(path, problem) from problem
    with ExitStack() as stack:
        stack.callback(dataset.close)
        with env_ctx_if_needed():
            _refuse_other_overviews(path, dataset)
            _refuse_large_blocks(path, dataset)
            _refuse_impossible_size(path, dataset)
        stack.pop_all()
    return dataset


def _by_name(path: str) -> DatasetReader:
    if not is_called_vrt(path):
        return _open_as(path, DRIVERS)
    check_vrt(path, stamps_of([path]))
    return _open_as(path, ("VRT",))


@ensure_env_with_credentials  # type: ignore[untyped-decorator]
def _open_as(path: str, drivers: tuple[str, ...]) -> DatasetReader:
    # rasterio.open takes one driver, or any.
    return DatasetReader(_parse_path(path), driver=list(drivers))


def _refuse_other_overviews(path: str, dataset: DatasetReader) -> None:
    # Whatever a raster or the .aux.xml beside it names here, GDAL opens when it looks for masks: a server, a pipe.
    named = dataset.tags(ns="OVERVIEWS").get("OVERVIEW_FILE")
    if named and not OWN_OVERVIEWS.fullmatch(named):
        raise RssegError(
            f"{path}: says that its overviews are elsewhere, in {named}",
            f"if you trust it, copy it without them: gdal_translate {path} OUT.tif",
            file=path,
        )


def _refuse_large_blocks(path: str, dataset: DatasetReader) -> None:
    """GDAL reads a block whole, whatever is wanted of it."""
    if dataset.count == 0:
        return
    rows, cols = dataset.block_shapes[0]
    together = dataset.count if dataset.interleaving == Interleaving.pixel else 1
    needed = rows * cols * np.dtype(dataset.dtypes[0]).itemsize * together
    if needed > SMALL_BYTES and needed > free_memory():
        raise RssegError(
            f"{path}: is stored in blocks of {cols} x {rows} pixels, of {_mib(needed)} each, and one is read whole; "
            f"{_mib(free_memory())} of memory are free",
            "rewrite it on a machine with more memory: gdal_translate -co TILED=YES -co BIGTIFF=IF_SAFER IN OUT.tif",
            file=path,
            kind="environment",
        )


@contextmanager
def georeference_optional() -> Iterator[None]:
    """Scenes without georeference are said once, in our own words, by whoever opens the scene."""
    with WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def read_window(dataset: DatasetReader, indexes: list[int], window: Window, **options: Any) -> NDArray[Any]:
    """Bands (band, y, x) of a window as they are stored."""
    _refuse_large_window(dataset, len(indexes), window)
    try:
        values: NDArray[Any] = dataset.read(indexes, window=window, **options)
    except RasterioIOError as problem:
        first, last = int(window.row_off), int(window.row_off + window.height - 1)
        hint = "the file is damaged or cut short; copy or download it again"
        if dataset.driver == "VRT":
            hint = "one of the files it lists is missing or damaged: gdalinfo shows the list"
        raise RssegError(
            f"{dataset.name}: rows {first} to {last} cannot be read: {_reason(problem)}", hint, file=dataset.name
        ) from problem
    return values


def _refuse_large_window(dataset: DatasetReader, bands: int, window: Window) -> None:
    """Asked for before it is had: a system that gives more than it has ends the process later, without a word."""
    itemsize = max(np.dtype(dataset.dtypes[0]).itemsize, np.dtype(np.float32).itemsize)
    needed = int(window.width) * int(window.height) * bands * itemsize * 2  # as stored, and as what it means
    if needed > SMALL_BYTES and needed > free_memory():
        raise RssegError(
            f"{dataset.name}: {_mib(needed)} of memory are needed for {window.width} x {window.height} pixels of "
            f"{bands} bands, and {_mib(free_memory())} are free",
            "take fewer bands with --bands, or close other programs",
            file=dataset.name,
            kind="environment",
        )


def _refuse_impossible_size(path: str, dataset: DatasetReader) -> None:
    if not dataset.driver.startswith("JP2") or not is_local(path):
        return
    size = Path(path).stat().st_size
    if dataset.width * dataset.height * dataset.count > size * MOST_PIXELS_A_BYTE:
        raise RssegError(
            f"{path}: says that it has {dataset.width} x {dataset.height} pixels of {dataset.count} bands, which its "
            f"{_mib(size)} cannot hold",
            "it is damaged; copy or download it again",
            file=path,
        )


def _mib(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MiB"


def _unreadable(path: str, problem: Exception) -> RssegError:
    local = Path(path)
    if not path.strip():
        return RssegError("a scene has an empty name", "name a raster file, a folder, or a pattern such as 'x/*.tif'")
    if is_local(path) and _is_dead_link(local):
        return RssegError(f"{path}: is a link that leads nowhere", f"see where to: ls -l {path}", file=path)
    if is_local(path) and not _exists(local):
        return RssegError(f"{path}: no such file", _nearby(local), file=path)
    if is_local(path) and local.is_dir():
        return RssegError(f"{path}: is a folder", "name one raster in it", file=path)
    if is_local(path) and not os.access(local, os.R_OK):
        return RssegError(f"{path}: no right to read it", "ask for the right, or copy it to where you may", file=path)
    if is_local(path) and local.is_file() and local.stat().st_size == 0:
        return RssegError(f"{path}: the file is empty", "copy or download it again", file=path)
    if is_local(path) and not is_called_vrt(path) and holds_vrt(path):
        # A VRT is a program of sorts: it names other files. Whoever calls it .tif may be hiding that.
        return RssegError(
            f"{path}: is a VRT, a list of other files, under another name",
            "if you trust it, rename it to .vrt",
            file=path,
        )
    return RssegError(
        f"{path}: not a raster that rsseg can read: {_reason(problem)}",
        f"{_other_format(path)}rsseg reads GeoTIFF, JPEG 2000, PNG, JPEG, VRT, HFA (.img), ENVI and NITF",
        file=path,
    )


def _other_format(path: str) -> str:
    try:
        driver = driver_from_extension(path)
    except ValueError:
        return "check it with `gdalinfo`; "
    if driver in (*DRIVERS, "VRT", "COG"):
        return "check it with `gdalinfo`, and copy or download it again; "
    return f"by its name it is {driver}: make a GeoTIFF of it with gdal_translate; "


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return True  # a folder on the way may not be entered


def _is_dead_link(path: Path) -> bool:
    """To nothing, or in a circle."""
    try:
        return path.is_symlink() and not path.exists()
    except (OSError, ValueError):
        return False


def _reason(problem: BaseException) -> str:
    """The deepest message GDAL gave: rasterio often says no more than 'see previous exception'."""
    while problem.__cause__ is not None:
        problem = problem.__cause__
    return str(problem).strip().rstrip(".") or type(problem).__name__


def _nearby(missing: Path) -> str:
    folder = missing.parent
    if not folder.is_dir():
        return f"there is no folder {folder} either; check the path"
    alike = sorted(p.name for p in folder.iterdir() if p.stem == missing.stem)[:3]
    return f"did you mean {' or '.join(alike)}?" if alike else "check the name"
