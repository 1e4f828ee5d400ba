"""Scenes in memory: georeferenced xarray.DataArrays in, and out again.

What says where an array lies: `crs` and `transform` in its attributes, as `Scene.read` gives them, or a coordinate
`spatial_ref`, as rioxarray does. Where there are x and y coordinates they count: they follow when an array is cut.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.windows import Window

from rsseg_cli.classes import UNLABELLED, ClassScheme
from rsseg_cli.errors import RssegError
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.labels import NO_AND_YES, SCAN_PX, Labels
from rsseg_cli.raster.scene import Band, Scene, measurements
from rsseg_cli.raster.tiles import blocks

if TYPE_CHECKING:
    from xarray import DataArray

REFERENCE = "spatial_ref"
NODATA_ATTRIBUTES = ("_FillValue", "missing_value", "nodata")
# Coordinates are rounded when they are stored: up to this part of a pixel they still mean the transform beside them.
ROUNDED_PX = 0.01
NO_NUMBER = np.iinfo(np.int64).min

logger = logging.getLogger(__name__)


def array_of(values: NDArray[np.float32], names: Sequence[str], grid: Grid, path: str) -> "DataArray":
    """Values (band, y, x) with band names and place."""
    from xarray import DataArray

    coordinates: dict[str, Any] = {"band": list(names)}
    t = grid.transform
    if t.b == t.d == 0:  # else x and y depend on both row and column
        coordinates["y"] = t.f + t.e * (np.arange(grid.height) + 0.5)
        coordinates["x"] = t.c + t.a * (np.arange(grid.width) + 0.5)
    attributes = {"crs": grid.crs, "transform": t, "path": path}
    return DataArray(values, dims=("band", "y", "x"), coords=coordinates, attrs=attributes)


def scene_of(array: "DataArray") -> Scene:
    """An array as a scene. Its values are taken window by window, so a lazy array stays lazy."""
    array = _in_order(array)
    path = str(array.attrs.get("path") or array.name or "the array")
    if array.dtype.kind not in "iuf" or 0 in array.shape:
        raise RssegError(f"{path}: holds {array.shape} values of {array.dtype}", "give it pixels that are numbers")
    grid = Grid(_crs_of(array, path), _transform_of(array, path), array.sizes["y"], array.sizes["x"])
    if grid.crs is None:
        logger.info("%s: has no coordinate system; sizes are in pixels", path)
    bands = _bands_of(array)
    return Scene(path, grid, bands, ArrayPixels(array, bands))


def labels_of(array: "DataArray") -> Labels:
    """Class numbers in an array, with the names that `labels_like` left in its attributes if there are any."""
    array = array.astype(np.uint8) if array.dtype == bool else array
    scene = scene_of(array)
    if len(scene.bands) > 1:
        raise RssegError(f"{scene.path}: has {len(scene.bands)} bands; a label map has one", "take one: array[0]")
    numbers = HeldNumbers(_in_order(array), scene.nodata, scene.path)
    found = (np.unique(numbers.read(window)) for window in blocks(scene.grid, SCAN_PX))
    values = {int(value) for some in found for value in some} - {NO_NUMBER}
    scheme = _scheme_of(values, array, may_be_unlabelled=array.dtype == np.uint8 and scene.nodata is None)
    return Labels(scene.path, scene.grid, scheme, HeldIds(numbers, scheme))


def _scheme_of(values: set[int], array: "DataArray", *, may_be_unlabelled: bool) -> ClassScheme:
    """What 255 means is settled as for a file."""
    if may_be_unlabelled and values in ({0, UNLABELLED}, {UNLABELLED}):
        return NO_AND_YES
    names = {int(number): str(name) for number, name in dict(array.attrs.get("classes") or {}).items()}
    return ClassScheme.of_values(values - ({UNLABELLED} if may_be_unlabelled else set()), names)


@dataclass(frozen=True, eq=False)
class HeldNumbers:
    """Whole numbers of an array, NO_NUMBER where there is none."""

    array: "DataArray"  # (band, y, x)
    nodata: float | None
    path: str

    def read(self, window: Window) -> NDArray[np.int64]:
        rows, cols = window.toslices()
        raw = self.array.isel(band=0, y=rows, x=cols).values
        missing = np.isnan(raw) if raw.dtype.kind == "f" else np.zeros(raw.shape, bool)
        missing |= raw == self.nodata if self.nodata is not None else False
        whole = np.where(missing, 0, raw).astype(np.int64)
        if (odd := (whole != raw) & ~missing).any():
            raise RssegError(
                f"{self.path}: holds {raw[odd][0]:g}, which is no class number", "a label map holds whole numbers"
            )
        return np.where(missing, NO_NUMBER, whole)


@dataclass(frozen=True, eq=False)
class HeldIds:
    """Class ids of an array's numbers."""

    numbers: HeldNumbers
    scheme: ClassScheme

    def read(self, window: Window) -> NDArray[np.uint8]:
        numbers = self.numbers.read(window)
        known = [value for c in self.scheme.classes for value in c.values]
        return self.scheme.to_ids(numbers, ~np.isin(numbers, known), self.numbers.path)


def labels_like(
    array: "DataArray", ids: NDArray[np.uint8], scheme: ClassScheme, transform: Affine, window: Window
) -> "DataArray":
    """Class ids (y, x) in the place of a window of `array`."""
    from xarray import DataArray

    rows, cols = window.toslices()
    place = _in_order(array).isel(band=0, y=rows, x=cols, drop=True)
    if REFERENCE in place.coords:
        attributes = {**_reference_of(array), "GeoTransform": " ".join(map(str, transform.to_gdal()))}
        place = place.assign_coords({REFERENCE: ((), place.coords[REFERENCE].values, attributes)})
    attributes = {"transform": transform, "nodata": UNLABELLED, "classes": {c.id: c.name for c in scheme.classes}}
    if "crs" in array.attrs:
        attributes["crs"] = array.attrs["crs"]
    return DataArray(ids, dims=("y", "x"), coords=place.coords, attrs=attributes, name="labels")


@dataclass(frozen=True, eq=False)
class ArrayPixels:
    """Bands of an array (band, y, x)."""

    array: "DataArray"
    bands: tuple[Band, ...]

    def read(self, window: Window, bands: Sequence[int]) -> NDArray[np.float32]:
        rows, cols = window.toslices()
        raw = self.array.isel(band=list(bands), y=rows, x=cols).values
        return measurements(raw, [self.bands[at] for at in bands])


def _in_order(array: "DataArray") -> "DataArray":
    """(band, y, x), whatever the order given; a single band may do without the dimension."""
    if not {"y", "x"} <= set(array.dims) <= {"band", "y", "x"}:
        raise RssegError(
            f"the array has the dimensions {', '.join(map(str, array.dims))}; a scene has band, y and x",
            "rename them, or take one of several scenes: array.isel(time=0)",
        )
    if "band" not in array.dims:
        array = array.expand_dims("band")
    return array.transpose("band", "y", "x")


def _bands_of(array: "DataArray") -> tuple[Band, ...]:
    names = _names_of(array)
    scales = array.attrs.get("scales") or [array.attrs.get("scale_factor", 1.0)] * len(names)
    offsets = array.attrs.get("offsets") or [array.attrs.get("add_offset", 0.0)] * len(names)
    nodata = next((float(array.attrs[name]) for name in NODATA_ATTRIBUTES if array.attrs.get(name) is not None), None)
    return tuple(
        Band(name, str(array.dtype), nodata, float(scale), float(offset))
        for name, scale, offset in zip(names, scales, offsets, strict=True)
    )


def _names_of(array: "DataArray") -> list[str]:
    """The band coordinate; where that only counts, the names that rioxarray keeps in `long_name`."""
    count = array.sizes["band"]
    names = [str(name) for name in array["band"].values] if "band" in array.coords else []
    if names and not all(name.isdigit() for name in names):
        return names
    described = array.attrs.get("long_name", ())
    described = [described] if isinstance(described, str) else [str(name) for name in described]
    return described if len(described) == count else names or [str(number) for number in range(1, count + 1)]


def _reference_of(array: "DataArray") -> dict[str, Any]:
    return dict(array.coords[REFERENCE].attrs) if REFERENCE in array.coords else {}


def _crs_of(array: "DataArray", path: str) -> CRS | None:
    reference = _reference_of(array)
    stated = array.attrs.get("crs") or reference.get("crs_wkt") or reference.get(REFERENCE)
    try:
        return CRS.from_user_input(stated) if stated else None
    except CRSError as problem:
        raise RssegError(
            f"{path}: its coordinate system cannot be read: {problem}", "say it as in array.attrs['crs'] = 'EPSG:32633'"
        ) from problem


def _transform_of(array: "DataArray", path: str) -> Affine:
    """What is stored, moved to where the coordinates say that the array begins; the coordinates if the two differ."""
    stored = _stored_transform(array)
    if stored is not None and (stored.b or stored.d):
        return stored
    placed = _placed_transform(array, stored, path)
    if stored is None or placed is None:
        return stored or placed or Affine.identity()
    col, row = (round(at) for at in ~stored @ (placed.c, placed.f))
    moved = stored @ Affine.translation(col, row)
    far = (array.sizes["x"], array.sizes["y"])
    drift = np.subtract(~stored @ (placed @ far), ~stored @ (moved @ far))
    return moved if np.abs(drift).max() < ROUNDED_PX else placed


def _stored_transform(array: "DataArray") -> Affine | None:
    if array.attrs.get("transform") is not None:
        return Affine(*tuple(array.attrs["transform"])[:6])
    text = _reference_of(array).get("GeoTransform")
    return Affine.from_gdal(*map(float, text.split())) if text else None


def _placed_transform(array: "DataArray", stored: Affine | None, path: str) -> Affine | None:
    """From the coordinates of the pixels' centres; None where there are none."""
    if not {"x", "y"} <= set(array.coords):
        return None
    x, across = _start_and_step(array, "x", stored.a if stored else None, path)
    y, down = _start_and_step(array, "y", stored.e if stored else None, path)
    return Affine(across, 0, x, 0, down, y)


def _start_and_step(array: "DataArray", axis: str, stored_step: float | None, path: str) -> tuple[float, float]:
    centres = np.asarray(array[axis].values, np.float64)
    steps = np.diff(centres)
    step = float(np.mean(steps)) if len(steps) else stored_step
    if not step or np.abs(steps - step).max(initial=0) > ROUNDED_PX * abs(step):
        raise RssegError(
            f"{path}: its {axis} coordinates do not say where evenly spaced pixels lie",
            "bring it onto a grid of equal pixels, or say where it lies: array.attrs['transform'] = Affine(...)",
        )
    return float(centres[0]) - step / 2, step
