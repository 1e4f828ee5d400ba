"""Label maps: which class every pixel of a Grid has, whatever way the file spells it.

A label raster holds class numbers (of any integer type, or whole numbers in floats), a palette, or the classes'
colours in three bands. A vector file is rasterised by `rsseg_cli.vector.labels`. Every read gives 8-bit ids,
255 where nothing is labelled.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.windows import Window

from rsseg_cli.class_files import read_classes
from rsseg_cli.classes import UNLABELLED, ClassScheme
from rsseg_cli.errors import RssegError
from rsseg_cli.raster.align import align
from rsseg_cli.raster.dataset import open_raster, read_window
from rsseg_cli.raster.files import Stamp, is_local, refuse_changed, stamps_of
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.kept_open import reading
from rsseg_cli.raster.scene import Band, Scene
from rsseg_cli.raster.tiles import blocks
from rsseg_cli.raster.validity import alpha_index, missing_by_mask, missing_values

CLASSES_TAG = "RSSEG_CLASSES"
# A map with more classes than this is an image that somebody took for a label map.
MAX_VALUES = 4096
SCAN_PX = 2048
# What a mask of 0 and 255 alone says.
NO_AND_YES = ClassScheme.of_names([("0", (0,), "#d9d9d9"), ("1", (UNLABELLED,), None)])

logger = logging.getLogger(__name__)


class Ids(Protocol):
    """Where the class ids of a window come from."""

    def read(self, window: Window) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class Labels:
    """A label map on a Grid."""

    path: str
    grid: Grid
    scheme: ClassScheme
    source: Ids

    def read(self, window: Window | None = None) -> NDArray[np.uint8]:
        """Class ids of a window, (y, x); 255 where nothing is labelled."""
        return self.source.read(window or self.grid.window)


@dataclass(frozen=True)
class RasterIds:
    """A label raster read through its scheme."""

    path: str
    scheme: ClassScheme
    indexes: tuple[int, ...]  # one band of numbers, or three of colours
    unlabelled: tuple[int, ...]  # values that mean 'no label' though the file does not say so
    stamps: tuple[Stamp, ...] = ()  # of the files as they were when the map was opened

    def read(self, window: Window) -> NDArray[np.uint8]:
        with reading(self.path, self.stamps) as dataset:
            values, missing = _read_values(dataset, self.indexes, window)
        refuse_changed(self.stamps)
        if self.unlabelled:
            missing |= np.isin(values, self.unlabelled)
        return self.scheme.to_ids(values, missing, self.path)


@dataclass(frozen=True, eq=False)
class MappedIds:
    """Labels with other ids."""

    source: Ids
    table: NDArray[np.uint8]  # from each of the 256 ids to another

    def read(self, window: Window) -> NDArray[np.uint8]:
        return self.table[self.source.read(window)]


@dataclass(frozen=True)
class AlignedIds:
    """Labels on another grid, each pixel from the nearest one."""

    scene: Scene

    def read(self, window: Window) -> NDArray[np.uint8]:
        values = self.scene.pixels.read(window, (0,))[0]
        return np.where(np.isnan(values), UNLABELLED, values).astype(np.uint8)


@dataclass(frozen=True)
class _IdPixels:
    """Class ids in the shape that `align` warps: floats, NaN where nothing is labelled."""

    source: Ids

    def read(self, window: Window, bands: Sequence[int]) -> NDArray[np.float32]:
        ids = self.source.read(window)
        return np.where(ids == UNLABELLED, np.float32(np.nan), ids.astype(np.float32))[np.newaxis]


def open_label_raster(path: str, classes: ClassScheme | None = None) -> Labels:
    """A label raster on its own grid, its classes from `classes` or from what the file and its sidecars say."""
    with open_raster(path) as dataset:
        indexes = _label_bands(path, dataset)
        grid = Grid.of(dataset)
        stamps = stamps_of(dataset.files)
        scheme = classes or _tagged(dataset)
        if scheme is not None:
            values = [value for c in scheme.classes for value in c.values]
            unlabelled = _implied_unlabelled(dataset, indexes) if UNLABELLED not in values else ()
        else:
            values = _values_in(path, dataset, indexes)
            unlabelled = _implied_unlabelled(dataset, indexes) if not set(values) <= {0, UNLABELLED} else ()
            scheme = _discovered(path, dataset, [v for v in values if v not in unlabelled], indexes)
            if unlabelled and UNLABELLED in values:
                logger.info(
                    "%s: 255 counts as unlabelled (a --classes file can give it a name)",
                    path,
                    extra={"topic": "255 is unlabelled"},
                )
    if not scheme.classes:
        logger.warning("%s: no pixel is labelled", path)
    return Labels(path, grid, scheme, RasterIds(path, scheme, indexes, unlabelled, stamps))


def align_labels(labels: Labels, grid: Grid) -> Labels:
    """The labels on another grid, by nearest neighbour."""
    if labels.grid == grid:
        return labels
    scene = Scene(labels.path, labels.grid, (Band("labels", "uint8"),), _IdPixels(labels.source))
    return replace(labels, grid=grid, source=AlignedIds(align(scene, grid, Resampling.nearest)))


def _label_bands(path: str, dataset: DatasetReader) -> tuple[int, ...]:
    if (dataset.scales[0], dataset.offsets[0]) != (1, 0):
        raise RssegError(
            f"{path}: its numbers have a scale ({dataset.scales[0]:g}): they are measurements, such as a confidence, "
            "and no classes",
            "name the label map instead",
            file=path,
        )
    if dataset.dtypes[0].startswith("complex"):
        raise RssegError(
            f"{path}: holds complex numbers, which are no class numbers",
            "is this a radar image? Name the label map instead",
            file=path,
        )
    alpha = alpha_index(dataset)
    indexes = tuple(index for index in dataset.indexes if index != alpha or dataset.count == 1)
    eight_bit = set(dataset.dtypes) == {"uint8"}
    if len(indexes) == 1 or (len(indexes) == 3 and eight_bit):
        return indexes
    raise RssegError(
        f"{path}: has {len(indexes)} bands of {dataset.dtypes[0]}; a label map has one (class numbers) or three of "
        "8 bit (class colours)",
        "is this the image? Name the label map instead",
        file=path,
    )


def _read_values(
    dataset: DatasetReader, indexes: Sequence[int], window: Window
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """(class numbers, where there are none); colours become numbers 0xRRGGBB."""
    raw = read_window(dataset, list(indexes), window)
    missing = np.asarray(missing_values(raw, [dataset.nodatavals[index - 1] for index in indexes]).all(axis=0))
    alpha = alpha_index(dataset) if dataset.count > 1 else None
    masked = missing_by_mask(dataset, list(indexes), window, alpha)
    if masked is not None:
        missing |= masked.all(axis=0)
    if len(raw) == 3:
        red, green, blue = raw.astype(np.uint32)
        return red << 16 | green << 8 | blue, missing
    return _whole(raw[0], missing, dataset.name), missing


def _whole(values: NDArray[Any], missing: NDArray[np.bool_], path: str) -> NDArray[Any]:
    if not np.issubdtype(values.dtype, np.floating):
        return values
    with np.errstate(invalid="ignore"):
        whole = np.where(missing, 0, values).astype(np.int64)
    if (odd := (whole != values) & ~missing).any():
        raise RssegError(
            f"{path}: holds {values[odd][0]:g}, which is no class number",
            "a label map holds whole numbers; is this an image or a probability? Make classes of it first, for example "
            f"with: gdal_calc.py -A {path} --calc='A>0.5' --type=Byte --outfile=mask.tif",
            file=path,
        )
    return whole


def _values_in(path: str, dataset: DatasetReader, indexes: Sequence[int]) -> list[int]:
    """Every class number that occurs."""
    found: set[int] = set()
    for window in blocks(Grid.of(dataset), SCAN_PX):
        values, missing = _read_values(dataset, indexes, window)
        here = values[~missing]
        if here.dtype == np.uint64 and here.size and here.max() > np.iinfo(np.int64).max:
            raise RssegError(f"{path}: holds {here.max()}, too large for a class number", "map it to smaller numbers")
        if here.dtype == np.uint8:  # counting is many times quicker than sorting
            found.update(np.flatnonzero(np.bincount(here, minlength=256)).tolist())
        else:
            found.update(np.unique(here).tolist())
        if len(found) > MAX_VALUES:
            raise RssegError(
                f"{path}: holds more than {MAX_VALUES} different values; this is no label map",
                "name the label map, not the image; a map of scores is one for `rsseg evaluate --threshold` alone",
                file=path,
            )
    return sorted(found)


def _implied_unlabelled(dataset: DatasetReader, indexes: Sequence[int]) -> tuple[int, ...]:
    """255 in an 8-bit map without a nodata value means 'no label'; a mask of 0 and 255 is the caller's exception."""
    is_plain = len(indexes) == 1 and dataset.dtypes[0] == "uint8" and dataset.nodata is None
    return (UNLABELLED,) if is_plain else ()


def _tagged(dataset: DatasetReader) -> ClassScheme | None:
    """The scheme that rsseg itself wrote into the file."""
    text = dataset.tags().get(CLASSES_TAG)
    try:
        return ClassScheme.from_json(json.loads(text)) if text else None
    except (ValueError, KeyError, TypeError) as problem:
        raise RssegError(
            f"{dataset.name}: its tag {CLASSES_TAG} is damaged: {problem}",
            f"name the classes with --classes, or remove the tag: gdal_edit.py -unsetmd {dataset.name}",
            file=dataset.name,
        ) from problem


def _discovered(path: str, dataset: DatasetReader, values: list[int], indexes: Sequence[int]) -> ClassScheme:
    """One class a value, with the names and colours that the file or its sidecars give."""
    try:
        return _scheme_of(path, dataset, values, indexes)
    except RssegError as problem:
        raise RssegError(f"{path}: {problem.problem}", problem.hint, file=path) from problem


def _scheme_of(path: str, dataset: DatasetReader, values: list[int], indexes: Sequence[int]) -> ClassScheme:
    if len(indexes) == 3:
        colors = {value: f"#{value:06x}" for value in values}
        return ClassScheme.of_values(values, colors, colors)
    if values in ([0, UNLABELLED], [UNLABELLED]):
        return NO_AND_YES
    named = _style_beside(path)
    names = _category_names(path) | {v: c.name for c in named for v in c.values}
    colors = _palette(dataset) | {v: c.color for c in named for v in c.values}
    return ClassScheme.of_values(values, names, colors)


def _style_beside(path: str) -> tuple[Any, ...]:
    style = Path(path).with_suffix(".qml")
    if not is_local(path) or not style.is_file():
        return ()
    try:
        return read_classes(style).classes if "paletteEntry" in style.read_text(encoding="utf-8") else ()
    except (RssegError, UnicodeError) as problem:
        logger.warning("%s: left out, it cannot be read: %s", style, problem)
        return ()


def _category_names(path: str) -> dict[int, str]:
    """GDAL's category names, which rasterio does not hand out: read from the .aux.xml beside the file."""
    sidecar = Path(path + ".aux.xml")
    if not is_local(path) or not sidecar.is_file():
        return {}
    try:
        text = sidecar.read_text(encoding="utf-8")
        if "<!ENTITY" in text:
            raise ValueError("it declares XML entities")
        root = ElementTree.fromstring(text)  # noqa: S314 - see above
    except (ValueError, ElementTree.ParseError) as problem:
        logger.warning("%s: left out, it cannot be read: %s", sidecar, problem)
        return {}
    categories = root.iterfind("./PAMRasterBand[@band='1']/CategoryNames/Category")
    return {value: category.text for value, category in enumerate(categories) if category.text}


def _palette(dataset: DatasetReader) -> dict[int, str]:
    try:
        table = dataset.colormap(1)
    except ValueError:
        return {}  # there is none
    return {value: f"#{r:02x}{g:02x}{b:02x}" for value, (r, g, b, _) in table.items()}


def described_classes(path: str) -> list[dict[str, Any]] | None:
    """The classes that a file itself, its palette or a style beside it names; None for any other raster."""
    if not is_local(path) or not Path(path).is_file():
        return None
    with open_raster(path) as dataset:
        if dataset.count > 1 or dataset.dtypes[0].startswith("float"):
            return None
        is_named = CLASSES_TAG in dataset.tags() or _palette(dataset) or _style_beside(path) or _category_names(path)
    try:
        return open_label_raster(path).scheme.to_json() if is_named else None
    except RssegError as problem:  # a palette of a scanned map, say: a raster all the same
        logger.info("%s", problem.problem)
        return None
