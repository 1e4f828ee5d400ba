"""Labels drawn as polygons: rasterised on a scene's grid, in its coordinate system.

Where polygons overlap, the later feature of the file lies on top. A pixel belongs to the polygon that holds its
centre. What no polygon covers is unlabelled, or `background` where the person says that it is a class.
"""

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import geopandas
import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.windows import Window

from rsseg_cli.classes import UNLABELLED, ClassScheme
from rsseg_cli.errors import RssegError
from rsseg_cli.labels import BACKGROUND, PolygonOptions
from rsseg_cli.raster.dataset import georeference_optional
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.labels import Labels
from rsseg_cli.vector.placing import in_pixels
from rsseg_cli.vector.reading import read_polygons

CLASS_FIELDS = (
    "class",
    "class_name",
    "classname",
    "label",
    "label_name",
    "category",
    "landcover",
    "land_cover",
    "type",
)

logger = logging.getLogger(__name__)


def open_label_polygons(text: str, grid: Grid, classes: ClassScheme | None, options: PolygonOptions) -> Labels:
    """The polygons of `FILE[:LAYER]` as labels on `grid`."""
    frame = read_polygons(text, options.where)
    field = _class_field(text, frame, options.class_field)
    frame = _usable(text, frame, field)
    scheme = classes or _scheme_of(frame[field], options.background)
    fill = _background_id(text, scheme) if options.background else UNLABELLED
    geometry = in_pixels(text, frame, grid)
    return Labels(text, grid, scheme, PolygonIds(geometry, _ids_of(text, frame[field], scheme), fill))


@dataclass(frozen=True, eq=False)
class PolygonIds:
    """Polygons in pixel coordinates of the grid, with the class id of each."""

    geometry: NDArray[Any]
    ids: NDArray[np.uint8]
    fill: int

    def read(self, window: Window) -> NDArray[np.uint8]:
        left, top = window.col_off, window.row_off
        found = np.sort(self._tree.query(shapely.box(left, top, left + window.width, top + window.height)))
        burnt = np.full((window.height, window.width), self.fill, np.uint8)
        if not len(found):
            return burnt
        # Whole-pixel shifts keep a polygon's edge on the same side of every pixel centre in each window.
        moved = shapely.transform(self.geometry[found], lambda xy: xy - (left, top))
        with georeference_optional():  # coordinates are pixels already
            rasterize(zip(moved, self.ids[found].tolist(), strict=True), out=burnt, dtype="uint8")
        return burnt

    @cached_property
    def _tree(self) -> shapely.STRtree:
        return shapely.STRtree(self.geometry)


def _class_field(text: str, frame: geopandas.GeoDataFrame, wanted: str | None) -> str:
    if wanted is not None:
        check_field(text, frame, wanted)
        return wanted
    fields = fields_of(frame)
    known = [field for name in CLASS_FIELDS for field in fields if field.lower() == name]
    if known or len(fields) == 1:
        return (known or fields)[0]
    raise RssegError(
        f"{text}: none of its fields is called {', '.join(CLASS_FIELDS[:4])} or the like",
        f"say which one holds the class with --class-field; the fields are: {', '.join(fields) or 'none'}",
        file=text,
    )


def check_field(text: str, frame: geopandas.GeoDataFrame, wanted: str) -> None:
    """Refuses a field that is not there."""
    if wanted not in (fields := fields_of(frame)):
        raise RssegError(
            f"{text}: has no field {wanted!r}", f"the fields are: {', '.join(fields) or 'none'}", file=text
        )


def fields_of(frame: geopandas.GeoDataFrame) -> list[str]:
    """What is known of the features besides their geometry."""
    return [str(name) for name in frame.columns if name != frame.geometry.name]


def _usable(text: str, frame: geopandas.GeoDataFrame, field: str) -> geopandas.GeoDataFrame:
    """The polygons that have a class."""
    kept = polygons_with(text, frame, field)
    if len(kept) == 0:
        raise RssegError(
            f"{text}: holds no polygon with a class", "check the layer, --where and --class-field", file=text
        )
    return kept


def polygons_with(text: str, frame: geopandas.GeoDataFrame, field: str) -> geopandas.GeoDataFrame:
    """The polygons that have a value in a field; the rest is counted aloud."""
    polygons = polygons_among(frame)
    named = frame[field].notna().to_numpy()
    for left_out, why in ((~polygons, "are no polygons"), (polygons & ~named, f"have no {field}")):
        if left_out.any():
            logger.warning("%s: %d of %d features %s and are left out", text, left_out.sum(), len(frame), why)
    return frame[polygons & named]


def polygons_among(frame: geopandas.GeoDataFrame) -> NDArray[np.bool_]:
    """Which features enclose ground."""
    shapes = frame.geometry
    return np.asarray(shapes.geom_type.isin(["Polygon", "MultiPolygon"]) & ~shapes.is_empty)


def _scheme_of(field: Any, background: bool) -> ClassScheme:
    """Whole numbers are class values; anything else is a class name, in alphabetical order, without a number."""
    named: list[tuple[str, tuple[int, ...], str | None]]
    if _is_whole(field):
        named = [(str(value), (value,), None) for value in sorted({int(v) for v in field})]
    else:
        named = [(name, (), None) for name in sorted({str(v) for v in field}, key=str.casefold)]
    return ClassScheme.of_names([*named, (BACKGROUND, (), None)] if background else named)


def _ids_of(text: str, field: Any, scheme: ClassScheme) -> NDArray[np.uint8]:
    """The id of every feature, by name, or by number where the field holds numbers."""
    by_name = {c.name.casefold(): c.id for c in scheme.classes}
    keys = [str(v).casefold() for v in field]
    if _is_whole(field):
        by_value = {str(v): c.id for c in scheme.classes for v in c.values}
        by_name, keys = by_value | {k: v for k, v in by_name.items() if k not in by_value}, [str(int(v)) for v in field]
    if foreign := sorted(set(keys) - set(by_name)):
        raise RssegError(
            f"{text}: holds classes that are not in the scheme: {', '.join(foreign[:8])}",
            f"the classes are: {', '.join(scheme.names)}; add the others to the --classes file, or leave them out "
            "with --where",
            file=text,
        )
    return np.array([by_name[key] for key in keys], np.uint8)


def _is_whole(field: Any) -> bool:
    if field.dtype.kind in "iu":
        return True
    return bool(field.dtype.kind == "f" and (field == field.round()).all())


def _background_id(text: str, scheme: ClassScheme) -> int:
    for c in scheme.classes:
        if c.name.casefold() == BACKGROUND:
            return c.id
    raise RssegError(
        f"{text}: the scheme has no class called {BACKGROUND}",
        f"add {BACKGROUND} to the --classes file for what no polygon covers",
        file=text,
    )
