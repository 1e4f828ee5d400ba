"""The formats that polygons are written in, and which one a file name means."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rsseg_cli.errors import RssegError
from rsseg_cli.vector.flatgeobuf import count_flatgeobuf, write_flatgeobuf
from rsseg_cli.vector.geojson import count_collection, count_sequence, write_collection, write_sequence
from rsseg_cli.vector.geopackage import DRIVER, read_back_geopackage, write_geopackage
from rsseg_cli.vector.geoparquet import count_geoparquet, write_geoparquet
from rsseg_cli.vector.table import Features


@dataclass(frozen=True)
class Format:
    """A way to write features, and to count what came out: (rows, rows with an outline, more).

    More is what else writing said must come back, if it said anything.
    """

    name: str  # as GDAL calls it
    suffixes: tuple[str, ...]
    write: Callable[[Path, Features, str], tuple[object, ...] | None]
    count: Callable[[Path, str], tuple[object, ...]]
    # What a vertex and a feature take on the disk while they are written; on the safe side.
    bytes_a_vertex: int
    bytes_a_feature: int
    is_lonlat: bool = False  # whatever the CRS of the features: they need all points where neighbours meet

    @property
    def holds_layers(self) -> bool:
        return self is GEOPACKAGE


GEOPACKAGE = Format(DRIVER, (".gpkg",), write_geopackage, read_back_geopackage, 24, 400)
FORMATS = (
    GEOPACKAGE,
    Format("FlatGeobuf", (".fgb",), write_flatgeobuf, count_flatgeobuf, 40, 800),
    Format("Parquet", (".parquet", ".geoparquet"), write_geoparquet, count_geoparquet, 20, 300),
    Format("GeoJSON", (".geojson", ".json"), write_collection, count_collection, 32, 400, is_lonlat=True),
    Format("GeoJSONSeq", (".geojsonl", ".geojsons"), write_sequence, count_sequence, 32, 400, is_lonlat=True),
)


def format_of(path: Path, kind: str | None = None, *, append: bool = False) -> Format:
    """By the name of the format, else by the file's suffix."""
    by_suffix = next((form for form in FORMATS if path.suffix.lower() in form.suffixes), None)
    form = by_suffix if kind is None else _format_named(kind)
    if form is None:
        raise _refusal(path, "what format is that?", _advice(path))
    if by_suffix not in (None, form):
        raise _refusal(
            path,
            f"the name says {by_suffix.name}, --format says {form.name}",
            f"end the name with {form.suffixes[0]}, or leave --format out",
        )
    if append and not form.holds_layers:
        raise _refusal(path, f"{form.name} cannot be added to", "append to a GeoPackage (.gpkg)")
    return form


def _format_named(kind: str) -> Format:
    for form in FORMATS:
        if form.name.lower() == kind.lower():
            return form
    raise RssegError(f"{kind}: polygons are not written in this format", f"there are {_all_formats()}")


def _advice(path: Path) -> str:
    if path.suffix.lower() == ".shp":
        return "a GeoPackage (.gpkg) does what a Shapefile does, without its limits on names and sizes"
    return f"choose by the end of the name: {_all_formats()}"


def _all_formats() -> str:
    return ", ".join(f"{form.name} ({', '.join(form.suffixes)})" for form in FORMATS)


def _refusal(path: Path, problem: str, hint: str) -> RssegError:
    return RssegError(f"{path}: {problem}", hint, file=str(path), kind="output")
