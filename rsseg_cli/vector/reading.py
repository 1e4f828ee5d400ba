"""Reading vector files: what is in them, and what is wrong in words."""

import re
from pathlib import Path
from typing import Any

import geopandas
import pyogrio
from shapely.errors import ShapelyError

from rsseg_cli.errors import RssegError
from rsseg_cli.labels import split_layer
from rsseg_cli.raster.files import refuse_changed, refuse_special, stamps_of
from rsseg_cli.vector.names import refuse_disguised

# How files begin that are what their names say.
BEGINNINGS = {
    ".gpkg": re.compile(rb"SQLite format 3\0"),
    ".fgb": re.compile(rb"fgb"),
    ".shp": re.compile(rb"\0\0\x27\x0a"),
    ".parquet": re.compile(rb"PAR1"),
    ".geoparquet": re.compile(rb"PAR1"),
    ".geojson": re.compile(rb"(\xef\xbb\xbf)?[\s\x1e]*\{"),
    ".json": re.compile(rb"(\xef\xbb\xbf)?[\s\x1e]*\{"),
}
# The JSON of a command that GDAL runs, on whatever files it names.
STEPS_OF_GDAL = b"gdal_streamed_alg"
HEAD_BYTES = 1 << 20
# What GDAL, PROJ, GEOS and Arrow raise over a damaged file, a wrong layer or a wrong --where.
UNREADABLE = (RuntimeError, ShapelyError, ValueError, OSError)


def read_polygons(text: str, where: str | None = None) -> geopandas.GeoDataFrame:
    """The features of `FILE[:LAYER]`."""
    path, layer = split_layer(text)
    check_vector_file(path)
    stamps = stamps_of([path])
    try:
        frame = _read(path, layer, where)
    except UNREADABLE as problem:
        raise _unreadable(text, problem, _remedy(path, layer, where)) from problem
    except MemoryError as problem:
        raise _too_large(path) from problem
    refuse_changed(stamps)
    if not isinstance(frame, geopandas.GeoDataFrame):
        raise RssegError(f"{text}: is a table without geometry", "name a layer of polygons", file=path)
    return frame


def _read(path: str, layer: str | None, where: str | None) -> geopandas.GeoDataFrame:
    if path.lower().endswith("parquet"):
        return _read_parquet(path, where)
    return pyogrio.read_dataframe(path, layer=layer or _only_layer(path), where=where)


def _unreadable(text: str, problem: Exception, hint: str) -> RssegError:
    reason = str(problem).partition(".; It might help")[0] or type(problem).__name__
    return RssegError(f"{text}: cannot be read: {reason}", hint, file=split_layer(text)[0])


def _too_large(path: str) -> RssegError:
    return RssegError(
        f"{path}: says that it holds more features than fit into memory",
        "it may be damaged: check it with `ogrinfo -so -al`; or give a part of it, cut out with ogr2ogr -spat",
        file=path,
        kind="environment",
    )


def check_vector_file(path: str) -> None:
    """Says in words what pyogrio would say in riddles."""
    if path.startswith("/vsi"):
        return
    if not Path(path).exists():
        raise RssegError(f"{path}: no such file", "check the name", file=path)
    refuse_special(path)
    if Path(path).is_dir():
        raise RssegError(f"{path}: is a folder", "name one file in it", file=path)
    if Path(path).stat().st_size == 0:
        raise RssegError(f"{path}: the file is empty", "copy or download it again", file=path)
    refuse_disguised(path, "input")
    _refuse_other_content(path)


def _refuse_other_content(path: str) -> None:
    """Of what calls itself a GeoJSON, GDAL would also follow a list of other files and servers, if it is one inside."""
    with Path(path).open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not BEGINNINGS[Path(path).suffix.lower()].match(head) or STEPS_OF_GDAL in head:
        raise RssegError(
            f"{path}: holds something else than its name says, or is damaged",
            "copy it again; or make a GeoPackage of it where you trust it: ogr2ogr OUT.gpkg IN",
            file=path,
        )


def _remedy(path: str, layer: str | None, where: str | None) -> str:
    try:
        layers = [str(name) for name, _ in pyogrio.list_layers(path)]
    except UNREADABLE:
        return "polygons come as GeoPackage, GeoJSON, Shapefile, FlatGeobuf or GeoParquet; check it with `ogrinfo`"
    if layer is not None and layer not in layers:
        return f"the layers are: {', '.join(layers)}"
    return f"check the expression of --where: {where}" if where else "check it with `ogrinfo`"


def _only_layer(path: str) -> str:
    layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
    if len(layers) == 1:
        return layers[0]
    raise RssegError(
        f"{path}: has {len(layers)} layers with geometry: {', '.join(layers)}",
        f"name one: {path}:{layers[0] if layers else 'LAYER'}",
        file=path,
    )


def _read_parquet(path: str, where: str | None) -> geopandas.GeoDataFrame:
    if where:
        raise RssegError(
            f"{path}: --where works on GeoPackage, GeoJSON, Shapefile and FlatGeobuf, not on GeoParquet",
            "filter the file first, for example with ogr2ogr -where",
            file=path,
        )
    return geopandas.read_parquet(path)


def list_layers(path: str, only: str | None = None) -> list[dict[str, Any]]:
    """Name, geometry, number of features, coordinate system and fields of the layers with geometry."""
    check_vector_file(path)
    if path.lower().endswith("parquet"):
        return [_describe_parquet(path)]
    try:
        found = [(str(name), kind) for name, kind in pyogrio.list_layers(path) if kind is not None]
        infos = [(name, kind, pyogrio.read_info(path, layer=name)) for name, kind in found if only in (None, name)]
    except UNREADABLE as problem:
        raise _unreadable(path, problem, "check it with `ogrinfo`") from problem
    if not infos:
        layers = ", ".join(name for name, _ in found) or "none"
        raise RssegError(f"{path}: has no layer {only or 'with geometry'}", f"the layers are: {layers}", file=path)
    return [
        {
            "name": name,
            "geometry": kind,
            "features": info["features"],
            "crs": info["crs"],
            "fields": list(info["fields"]),
        }
        for name, kind, info in infos
    ]


def _describe_parquet(path: str) -> dict[str, Any]:
    frame = read_polygons(path)
    kinds = sorted(set(frame.geometry.geom_type.dropna()))
    return {
        "name": Path(path).stem,
        "geometry": ", ".join(kinds),
        "features": len(frame),
        "crs": frame.crs.to_string() if frame.crs else None,
        "fields": [str(name) for name in frame.columns if name != frame.geometry.name],
    }
