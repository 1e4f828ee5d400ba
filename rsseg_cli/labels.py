"""Labels from whatever a person names: a label raster, or polygons with a class field."""

import re
from dataclasses import dataclass

from rsseg_cli.classes import ClassScheme
from rsseg_cli.errors import RssegError
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.labels import Labels, open_label_raster

VECTOR = re.compile(
    r"(?P<file>.+\.(gpkg|geojson|json|shp|fgb|parquet|geoparquet))(:(?P<layer>[^:/\\]+))?", re.IGNORECASE
)


# The class of what no polygon covers, where the person says that it is one.
BACKGROUND = "background"


@dataclass(frozen=True)
class PolygonOptions:
    """How polygons become labels."""

    class_field: str | None = None  # the field that holds the class; None: the one whose name says so
    where: str | None = None  # SQL expression of the features to take
    background: bool = False  # what no polygon covers is the class `background`, not unlabelled


def open_labels(
    text: str, grid: Grid | None, classes: ClassScheme | None = None, polygons: PolygonOptions | None = None
) -> Labels:
    """A raster on its own grid, or the polygons of `FILE[:LAYER]` on `grid`."""
    polygons = polygons or PolygonOptions()
    if not is_vector(text):
        if polygons != PolygonOptions():
            raise RssegError(
                f"{text}: --where, --class-field and --background are for vector files",
                "leave them away; a --classes file names and merges the classes of a raster",
                file=text,
            )
        return open_label_raster(text, classes)
    # geopandas takes long to import, and label rasters do without it.
    from rsseg_cli.vector.labels import open_label_polygons

    assert grid is not None, "polygons have no grid of their own"
    return open_label_polygons(text, grid, classes, polygons)


def is_vector(text: str) -> bool:
    return VECTOR.fullmatch(text) is not None


def split_layer(text: str) -> tuple[str, str | None]:
    """(file, layer or None) of `FILE[:LAYER]`."""
    match = VECTOR.fullmatch(text)
    return (match["file"], match["layer"]) if match else (text, None)
