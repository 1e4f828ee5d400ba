"""Opening a raster with GDAL, and saying in words what is wrong when that fails."""

import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from rsseg_cli.errors import RssegError

# Python's list of warning filters is one for all threads. Blocks under it are short, and may lie in one another.
WARNINGS_LOCK = threading.RLock()


@contextmanager
def open_raster(path: str) -> Iterator[DatasetReader]:
    """The dataset behind anything GDAL reads; `path` is handed over untouched."""
    try:
        with georeference_optional():
            dataset = rasterio.open(path)
    except (RasterioError, UnicodeError, ValueError, TypeError) as problem:
        raise _unreadable(path, problem) from problem
    with dataset:
        _refuse_disguised_vrt(path, dataset)
        yield dataset


@contextmanager
def georeference_optional() -> Iterator[None]:
    """Scenes without georeference are said once, in our own words, by whoever opens the scene."""
    with WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def read_window(dataset: DatasetReader, indexes: list[int], window: Window, **options: Any) -> NDArray[Any]:
    """Bands (band, y, x) of a window as they are stored."""
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


def is_local(path: str) -> bool:
    """Whether a path names a file on this machine's disks, not GDAL's own kinds of names."""
    return not path.startswith(("/vsi", "<")) and not re.match(r"^[A-Za-z][A-Za-z0-9+.]+:", path)


def _unreadable(path: str, problem: Exception) -> RssegError:
    local = Path(path)
    if not path.strip():
        return RssegError("a scene has an empty name", "name a raster file, a folder, or a pattern such as 'x/*.tif'")
    if is_local(path) and not _exists(local):
        return RssegError(f"{path}: no such file", _nearby(local), file=path)
    if is_local(path) and local.is_dir():
        return RssegError(f"{path}: is a folder", "name one raster in it", file=path)
    if is_local(path) and not os.access(local, os.R_OK):
        return RssegError(f"{path}: no right to read it", "ask for the right, or copy it to where you may", file=path)
    if is_local(path) and local.is_file() and local.stat().st_size == 0:
        return RssegError(f"{path}: the file is empty", "copy or download it again", file=path)
    return RssegError(
        f"{path}: not a raster that GDAL can read: {_reason(problem)}",
        "check it with `gdalinfo`; rsseg reads GeoTIFF, JPEG 2000, VRT, PNG, JPEG and what else GDAL knows",
        file=path,
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return True  # a folder on the way may not be entered


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


def _refuse_disguised_vrt(path: str, dataset: DatasetReader) -> None:
    # A VRT is a program of sorts: it names other files. Whoever calls it .tif may be hiding that.
    if dataset.driver == "VRT" and not re.search(r"\.vrt$|^<VRT|^vrt://", path, re.IGNORECASE):
        raise RssegError(
            f"{path}: is a VRT, a list of other files, under another name",
            "if you trust it, rename it to .vrt",
            file=path,
        )
