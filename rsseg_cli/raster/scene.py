"""Scene: a raster on disk seen as named bands on a Grid. It holds no pixels, it reads them."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rasterio.io import DatasetReader
from rasterio.warp import transform as warp_points
from rasterio.windows import Window

from rsseg_cli.errors import RssegError
from rsseg_cli.raster.dataset import open_raster, read_window
from rsseg_cli.raster.dates import date_of
from rsseg_cli.raster.files import BESIDE, Stamp, is_local, refuse_changed, stamps_of
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.kept_open import reading
from rsseg_cli.raster.validity import (
    alpha_index,
    color_interpretation,
    is_mask_like,
    missing_by_mask,
    missing_values,
)

if TYPE_CHECKING:
    from xarray import DataArray

COLORS = ("red", "green", "blue", "cyan", "magenta", "yellow", "black", "alpha")
ALPHA_CHOICES = ("auto", "yes", "no")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Band:
    """One band of a scene, and how its stored values become measurements."""

    name: str
    dtype: str
    nodata: float | None = None
    scale: float = 1.0
    offset: float = 0.0


class Pixels(Protocol):
    """Where a scene's values come from."""

    def read(self, window: Window, bands: Sequence[int]) -> NDArray[np.float32]:
        """Bands by position, (band, y, x); NaN where there is nothing."""
        ...


@dataclass(frozen=True)
class Scene:
    """A raster, or several seen as one. Every read gives float32 with NaN where there is nothing."""

    path: str  # what the person typed; for messages and default names
    grid: Grid
    bands: tuple[Band, ...]
    pixels: Pixels
    date: str | None = None  # ISO, to the precision known
    chosen: tuple[int, ...] | None = None  # positions in `pixels` of `bands`, if not all in order
    files: tuple[str, ...] = ()  # every file that is read; no output may replace one

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(band.name for band in self.bands)

    @property
    def dtype(self) -> str:
        """The type that holds every band as stored."""
        return str(np.result_type(*(band.dtype for band in self.bands)))

    @property
    def nodata(self) -> float | None:
        """The first band's nodata value, as stored."""
        return self.bands[0].nodata

    @property
    def listed(self) -> list[str]:
        """The files that a VRT takes its pixels from."""
        return [file for file in self.files if file != self.path and not file.endswith(BESIDE)]

    def read(self, window: Window | None = None) -> "DataArray":
        """The values of a window, (band, y, x), with band names and place."""
        # xarray takes half a second to import, and maps are made without it.
        from rsseg_cli.raster.arrays import array_of

        window = window or self.grid.window
        return array_of(self.values(window), self.names, self.grid.crop(window), self.path)

    def values(self, window: Window | None = None) -> NDArray[np.float32]:
        """The values of a window alone, (band, y, x)."""
        window = window or self.grid.window
        _check_inside(window, self.grid)
        return self.pixels.read(window, self.chosen or tuple(range(len(self.bands))))

    def select(self, wanted: str | None) -> "Scene":
        """The same scene with the bands of a list such as `red,green`, `3,2,1` or `red=3,nir=4`."""
        if wanted is None:
            return self
        pairs = [_band_of(self, item.strip()) for item in wanted.split(",")]
        names = [name for name, _ in pairs]
        if twice := {name for name in names if names.count(name) > 1}:
            raise RssegError(f"--bands {wanted}: {', '.join(sorted(twice))} is named twice", "name each band once")
        positions = self.chosen or tuple(range(len(self.bands)))
        bands = tuple(replace(self.bands[at], name=name) for name, at in pairs)
        return replace(self, bands=bands, chosen=tuple(positions[at] for _, at in pairs))


@dataclass(frozen=True)
class FilePixels:
    """Bands of one file."""

    path: str
    bands: tuple[Band, ...]
    indexes: tuple[int, ...]  # GDAL's band numbers, from 1
    alpha: int | None  # number of the band that masks the others
    stamps: tuple[Stamp, ...] = ()  # of the files as they were when the scene was opened

    def read(self, window: Window, bands: Sequence[int]) -> NDArray[np.float32]:
        chosen = [self.bands[at] for at in bands]
        indexes = [self.indexes[at] for at in bands]
        with reading(self.path, self.stamps) as dataset:
            raw = _read_bands(dataset, indexes, window)
            masked = missing_by_mask(dataset, indexes, window, self.alpha)
        refuse_changed(self.stamps)
        values = measurements(raw, chosen)
        if masked is not None:
            values[np.broadcast_to(masked, values.shape)] = np.nan
        return values


def measurements(raw: NDArray[Any], bands: Sequence[Band]) -> NDArray[np.float32]:
    """What stored values (band, y, x) mean; NaN where there is nothing."""
    missing = missing_values(raw, [band.nodata for band in bands])
    values = raw.astype(np.float32)
    for layer, band in zip(values, bands, strict=True):
        if (band.scale, band.offset) != (1.0, 0.0):
            layer *= band.scale
            layer += band.offset
    values[missing] = np.nan
    return values


def _read_bands(dataset: DatasetReader, indexes: Sequence[int], window: Window) -> NDArray[Any]:
    """Bands as stored; of a VRT that mixes types, in a type that holds them all."""
    dtypes = dataset.dtypes  # what rasterio tells of all bands, it collects anew each time
    if len({dtypes[index - 1] for index in indexes}) == 1:
        return read_window(dataset, list(indexes), window)
    return np.concatenate([read_window(dataset, [index], window) for index in indexes])


def open_file(path: str, alpha: str = "auto") -> Scene:
    """A scene in one file, all its bands in order; a mask in an alpha band is no band."""
    if alpha not in ALPHA_CHOICES:
        raise RssegError(f"--alpha {alpha}: not one of auto, yes, no", "--alpha no keeps every band as a band")
    with open_raster(path) as dataset:
        _refuse_unusable(path, dataset)
        grid = Grid.of(dataset)
        _refuse_nowhere(path, grid)
        mask = _mask_band(path, dataset, alpha)
        indexes = tuple(index for index in dataset.indexes if index != mask)
        names = _band_names(dataset, indexes)
        stored = list(zip(dataset.dtypes, dataset.nodatavals, dataset.scales, dataset.offsets, strict=True))
        bands = tuple(Band(name, *stored[index - 1]) for name, index in zip(names, indexes, strict=True))
        date = date_of(path, dataset.tags() | dataset.tags(ns="IMAGERY"))
        files = tuple(dataset.files) if is_local(path) else ()  # of a VRT, all it lists; elsewhere that may take long
    if grid.crs is None:
        logger.info(
            "%s: has no coordinate system; sizes and areas are in pixels", path, extra={"topic": "no coordinate system"}
        )
    pixels = FilePixels(path, bands, indexes, mask, stamps_of(files))
    return Scene(path, grid, bands, pixels, date, files=files or (path,))


def _mask_band(path: str, dataset: DatasetReader, alpha: str) -> int | None:
    index = alpha_index(dataset)
    if index is None or dataset.count == 1:
        if alpha == "yes":
            raise RssegError(
                f"{path}: has no band tagged alpha beside its other bands",
                "leave --alpha away; nodata values and masks are honoured without it",
                file=path,
            )
        return None
    if alpha == "auto" and not is_mask_like(dataset, index):
        logger.info(
            "%s: band %d is tagged alpha but is no mask of 0 and its maximum: used as a band "
            "(--alpha yes makes it the mask)",
            path,
            index,
            extra={"topic": "alpha is a band"},
        )
        return None
    if alpha == "auto":
        logger.info(
            "%s: band %d is tagged alpha and is a mask: it is no band (--alpha no keeps it as one)",
            path,
            index,
            extra={"topic": "alpha is a mask"},
        )
    return None if alpha == "no" else index


def _band_names(dataset: DatasetReader, indexes: Sequence[int]) -> list[str]:
    """Description, else colour, else number; a name that stands twice gives way to the number."""
    kinds, descriptions = color_interpretation(dataset), dataset.descriptions
    names = []
    for index in indexes:
        kind = kinds[index - 1]
        color = kind if kind in COLORS and kind != "alpha" else ""
        names.append((descriptions[index - 1] or "").strip() or color or str(index))
    count = Counter(names)
    return [
        name if count[name] == 1 and "," not in name and "=" not in name else str(index)
        for name, index in zip(names, indexes, strict=True)
    ]


def _band_of(scene: Scene, item: str) -> tuple[str, int]:
    """(name to use, position) of one entry of a band list."""
    new_name, _, wanted = item.rpartition("=")
    wanted = wanted.strip()
    lower = [name.casefold() for name in scene.names]
    if wanted.casefold() in lower:
        at = lower.index(wanted.casefold())
    elif wanted.isdigit() and 1 <= int(wanted) <= len(scene.bands):
        at = int(wanted) - 1
    else:
        numbered = enumerate(scene.names, 1)
        known = ", ".join(name if name == str(number) else f"{number} {name}" for number, name in numbered)
        raise RssegError(
            f"{scene.path}: has no band {wanted!r}; it has {known}",
            "pick by name or number, or name a band yourself: --bands red=3,nir=4",
            file=scene.path,
        )
    return (new_name.strip() or scene.names[at]), at


def _refuse_unusable(path: str, dataset: DatasetReader) -> None:
    if dataset.count == 0:
        names = "\n       ".join(dataset.subdatasets[:5])
        raise RssegError(f"{path}: holds several rasters and none of its own", f"name one of them: {names}", file=path)
    if complex_bands := [i for i, dtype in enumerate(dataset.dtypes, 1) if dtype.startswith("complex")]:
        raise RssegError(
            f"{path}: band {complex_bands[0]} holds complex numbers ({dataset.dtypes[0]})",
            "make an amplitude image first, for example with: "
            f"gdal_calc.py -A {path} --calc='abs(A)' --type=Float32 --outfile=amplitude.tif",
            file=path,
        )
    if dataset.crs is None and dataset.gcps[0]:
        raise RssegError(
            f"{path}: is placed by {len(dataset.gcps[0])} ground control points only; it has no grid",
            f"warp it first: gdalwarp -tps -t_srs {_utm_of_gcps(dataset)} -r bilinear {path} warped.tif",
            file=path,
        )
    if dataset.crs is None and dataset.rpcs is not None:
        raise RssegError(
            f"{path}: is placed by a camera model (RPC) only; it has no grid",
            f"warp it first: gdalwarp -rpc -t_srs EPSG:4326 -r bilinear {path} warped.tif",
            file=path,
        )


def _refuse_nowhere(path: str, grid: Grid) -> None:
    """A coordinate system from which nothing leads to places on Earth: another planet's, or a damaged one."""
    try:
        _ = grid.gsd_m
    except RssegError as problem:
        raise RssegError(f"{path}: {problem.problem}", problem.hint, file=path) from problem


def _utm_of_gcps(dataset: DatasetReader) -> str:
    """The UTM zone in the middle of the control points, where it is known what they are measured in."""
    points, crs = dataset.gcps
    if crs is None:
        return "EPSG:..."
    xs, ys = warp_points(crs, "EPSG:4326", [p.x for p in points], [p.y for p in points])
    zone = int((np.mean(xs) + 180) // 6) % 60 + 1
    return f"EPSG:{(32600 if np.mean(ys) >= 0 else 32700) + zone}"


def _check_inside(window: Window, grid: Grid) -> None:
    inside = (
        window.row_off >= 0
        and window.col_off >= 0
        and window.row_off + window.height <= grid.height
        and window.col_off + window.width <= grid.width
    )
    if not inside:
        raise ValueError(f"{window} is not inside {grid.height} x {grid.width} pixels")
