"""GeoPackage: several layers in one file, each with its spatial index."""

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
from numpy.typing import NDArray
from pyogrio.errors import DataSourceError
from rasterio.crs import CRS

from rsseg_cli.delivery import OPEN_DATABASE
from rsseg_cli.errors import RssegError
from rsseg_cli.vector.ogr import write_layer
from rsseg_cli.vector.projection import crs_name
from rsseg_cli.vector.table import Features

DRIVER = "GPKG"
# What there is once of each layer.
LISTED = {
    "coordinate system": "SELECT count(*) FROM gpkg_contents JOIN gpkg_geometry_columns USING (table_name, srs_id) "
    "JOIN gpkg_spatial_ref_sys USING (srs_id) WHERE table_name = ?",
    "spatial index": "SELECT count(*) FROM gpkg_extensions "
    "WHERE table_name = ? AND extension_name = 'gpkg_rtree_index'",
}
# Of SQLite's spatial index, which describes its tables for those who read them: west, east, south, north.
RTREE_CELL = np.dtype([("number", ">i8"), ("sides", ">f4", 4)])


@dataclass(frozen=True)
class Place:
    """Where features go, and what is there already: (rows, rows with an outline)."""

    layer: str
    rows: int = 0
    shapes: int = 0


def write_geopackage(file: Path, features: Features, layer: str) -> tuple[object, ...]:
    """A new file, a new layer of a file that is there, or more rows of a layer that is there.

    Gives (name, rows) of all other tables: a file that it cannot open for a moment, GDAL makes anew.
    """
    if not file.exists():
        write_layer(file, features, layer, DRIVER)
        return ()
    with _opened(file) as database:
        others = _others(database, layer)
    is_there = layer in pyogrio.list_layers(file)[:, 0]
    write_layer(file, features, layer, DRIVER, append=is_there)
    return others


def read_back_geopackage(file: Path, layer: str) -> tuple[object, ...]:
    """As `count_geopackage`, and the others; the tables by which readers find the CRS, extent and index are whole.

    Where a disk is full for a moment, GDAL leaves out any of these and says nothing.
    """
    with _opened(file) as database:
        rows, indexed = _counts(database, layer)
        _check_catalogue(database, layer, rows)
        _check_extent(database, layer)
        return rows, indexed, *_others(database, layer)


def count_geopackage(file: Path, layer: str) -> tuple[int, int]:
    """(features, features in the spatial index). Rows whose geometry is missing or empty are not in the index."""
    with _opened(file) as database:
        return _counts(database, layer)


@contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    """A database that is finished and whole."""
    unfinished = [suffix for suffix in OPEN_DATABASE if file.with_name(file.name + suffix).exists()]
    if unfinished:
        raise ValueError(f"not finished, {', '.join(unfinished)} left")
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as database:
        (check,) = database.execute("PRAGMA quick_check").fetchone()
        if check != "ok":
            raise ValueError(check)
        yield database


def _counts(database: sqlite3.Connection, layer: str) -> tuple[int, int]:
    quoted, index = layer.replace('"', '""'), _index_of(database, layer)
    (rows,) = database.execute(f'SELECT count(*) FROM "{quoted}"').fetchone()  # noqa: S608 - quoted above
    (indexed,) = database.execute(f'SELECT count(*) FROM "{index}_rowid"').fetchone()  # noqa: S608 - quoted there
    return rows, indexed


def _others(database: sqlite3.Connection, layer: str) -> tuple[object, ...]:
    """(name, rows) of all that the file tells of, but the layer and the styles, to which rows are added."""
    listed = "SELECT table_name FROM gpkg_contents WHERE table_name NOT IN (?, 'layer_styles') ORDER BY table_name"
    quoted = [name.replace('"', '""') for (name,) in database.execute(listed, (layer,)).fetchall()]
    counts = "SELECT count(*) FROM"
    return tuple((name, *database.execute(f'{counts} "{name}"').fetchone()) for name in quoted)


def _index_of(database: sqlite3.Connection, layer: str) -> str:
    """The name of the table, for use between double quotes."""
    listed = database.execute("SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?", (layer,)).fetchone()
    if listed is None:
        raise ValueError(f"the layer {layer} is not listed")
    return f"rtree_{layer}_{listed[0]}".replace('"', '""')


def _check_catalogue(database: sqlite3.Connection, layer: str, rows: int) -> None:
    for what, query in LISTED.items():
        if database.execute(query, (layer,)).fetchone() != (1,):
            raise ValueError(f"the layer {layer} has lost its {what}")
    # GDAL's own table, from which it takes how many features there are; others do without.
    if database.execute("SELECT 1 FROM sqlite_master WHERE name = 'gpkg_ogr_contents'").fetchone():
        counted = database.execute("SELECT feature_count FROM gpkg_ogr_contents WHERE table_name = ?", (layer,))
        if counted.fetchone() != (rows,):
            raise ValueError(f"the layer {layer} has lost its number of features")


def _check_extent(database: sqlite3.Connection, layer: str) -> None:
    told = database.execute("SELECT min_x, min_y, -max_x, -max_y FROM gpkg_contents WHERE table_name = ?", (layer,))
    found = _bounds(database, _index_of(database, layer))
    # An index holds 32 bits, rounded outwards.
    covered = np.array(told.fetchone(), float) <= found + 2 * np.spacing(np.abs(found).astype(np.float32))
    if not (covered | np.isinf(found)).all():
        raise ValueError(f"the layer {layer} has lost its extent")


def _bounds(database: sqlite3.Connection, index: str) -> NDArray[np.float64]:
    """(west, south, -east, -north) of all shapes, from the top of their index, which covers them; none: infinite.

    Asked for them, SQLite looks at each shape.
    """
    (top,) = database.execute(f'SELECT data FROM "{index}_node" WHERE nodeno = 1').fetchone()  # noqa: S608 - quoted
    cells = np.frombuffer(top, RTREE_CELL, int.from_bytes(top[2:4], "big"), offset=4)["sides"].astype(float)
    return np.asarray(np.min(cells[:, [0, 2, 1, 3]] * (1, 1, -1, -1), axis=0, initial=np.inf))


def place_in_copy(path: Path, copy: Path, features: Features, layer: str) -> Place:
    """Copies a GeoPackage to add to it; refused where features would come among others of another kind."""
    shutil.copyfile(path, copy)
    name = _layer_like(layer, _layers_of(copy, path))
    if name is None:
        return Place(layer)
    _check_kind(path, name, pyogrio.read_info(copy, layer=name), features)
    try:
        _give_extent(copy, name)
        return Place(name, *count_geopackage(copy, name))
    except (sqlite3.Error, ValueError) as problem:
        raise _refusal(
            path, f"the layer {name} cannot be added to: {problem}", "name another layer with --layer"
        ) from problem


def _give_extent(copy: Path, layer: str) -> None:
    """Where there is none, which is allowed, GDAL would give that of the new rows alone."""
    with closing(sqlite3.connect(copy)) as database, database:
        bounds = f'SELECT min(minx), min(miny), max(maxx), max(maxy) FROM "{_index_of(database, layer)}"'  # noqa: S608
        into = "UPDATE gpkg_contents SET (min_x, min_y, max_x, max_y)"
        database.execute(f"{into} = ({bounds}) WHERE table_name = ? AND min_x IS NULL", (layer,))


def _layers_of(copy: Path, path: Path) -> list[str]:
    try:
        with closing(sqlite3.connect(copy)) as database:
            # Who reads a database that keeps its log beside it (WAL) may leave that log behind.
            database.execute("PRAGMA journal_mode = DELETE")
        names: list[str] = pyogrio.list_layers(copy)[:, 0].tolist()
    except (sqlite3.DatabaseError, DataSourceError) as problem:
        raise _refusal(path, "cannot be added to: it is no GeoPackage", "choose another name") from problem
    return names


def _layer_like(layer: str, names: list[str]) -> str | None:
    """SQLite takes names in capitals for the same."""
    return next((name for name in names if name.lower() == layer.lower()), None)


def _check_kind(path: Path, layer: str, there: dict[str, Any], features: Features) -> None:
    if there["geometry_type"] != "Polygon":
        raise _refusal(path, f"the layer {layer} does not hold polygons", "name another layer with --layer")
    crs = CRS.from_user_input(there["crs"]) if there["crs"] else None
    if crs != features.crs:
        found, wanted = (crs_name(one) if one else "no CRS" for one in (crs, features.crs))
        raise _refusal(
            path,
            f"the layer {layer} has {found}, these polygons have {wanted}",
            "name another layer with --layer, or bring the polygons to the layer's CRS with --crs",
        )
    differing = _differences(_fields(there), _fields_of(features))
    if differing:
        raise _refusal(
            path,
            f"the layer {layer} has other fields than these polygons: {', '.join(differing)}",
            "name another layer with --layer",
        )


def _differences(there: dict[str, str], ours: dict[str, str]) -> list[str]:
    return [
        *(f"no {name}" for name in ours if name not in there),
        *(f"{name} besides" for name in there if name not in ours),
        *(f"{name} is {there[name]}, not {kind}" for name, kind in ours.items() if there.get(name, kind) != kind),
    ]


def _fields_of(features: Features) -> dict[str, str]:
    """As GDAL makes them: it has fewer types than Arrow."""
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "empty.gpkg"
        write_layer(empty, replace(features, batches=lambda: iter(())), "fields", DRIVER)
        return _fields(pyogrio.read_info(empty))


def _fields(info: dict[str, Any]) -> dict[str, str]:
    kinds = ("text" if kind == "object" else kind for kind in info["dtypes"])
    return dict(zip(info["fields"], kinds, strict=True))


def _refusal(path: Path, problem: str, hint: str) -> RssegError:
    return RssegError(f"{path}: {problem}", hint, file=str(path), kind="output")
