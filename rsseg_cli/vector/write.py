"""Polygon layers on disk, complete and checked before they have their name."""

import sqlite3
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyogrio
from pyogrio.raw import write_arrow

from rsseg_cli.classes import ClassScheme
from rsseg_cli.delivery import OPEN_DATABASE, deliver, failure
from rsseg_cli.errors import RssegError
from rsseg_cli.vector.coverage import Coverage
from rsseg_cli.vector.names import refuse_disguised
from rsseg_cli.vector.styles import add_style
from rsseg_cli.vector.table import GEOMETRY, record_batches

if TYPE_CHECKING:
    import geopandas
    import pyarrow  # type: ignore[import-untyped]

# Bytes a vertex and a feature take in a GeoPackage, its spatial index included; on the safe side.
BYTES_A_VERTEX = 24
BYTES_A_FEATURE = 400


def write_geopackage(
    path: Path,
    frame: "geopandas.GeoDataFrame",
    layer: str,
    *,
    overwrite: bool = False,
    inputs: Iterable[str] = (),
) -> None:
    """One layer in a new GeoPackage, with its spatial index."""
    _check_name(path)
    expected = int(frame.geometry.count_coordinates().sum()) * BYTES_A_VERTEX + len(frame) * BYTES_A_FEATURE
    shapes = int((~(frame.geometry.isna() | frame.geometry.is_empty)).sum())

    def verify(finished: Path) -> None:
        verify_geopackage(finished, layer, len(frame), shapes, path)

    delivered = deliver(path, verify, overwrite=overwrite, inputs=inputs, expected_bytes=expected)
    with delivered as folder, _library_errors(path):
        _write(frame, (folder / path.name).absolute(), layer)


def write_polygons(
    path: Path,
    coverage: Coverage,
    columns: "Mapping[str, pyarrow.Array]",
    scheme: ClassScheme,
    layer: str,
    *,
    corners_only: bool = True,
    overwrite: bool = False,
    inputs: Iterable[str] = (),
) -> None:
    """The regions of a label map and what is known of them as one layer of a new GeoPackage, in the classes' colours.

    Polygons are put together while they are written, so that memory does not grow with them.
    """
    _check_name(path)

    def verify(finished: Path) -> None:
        verify_geopackage(finished, layer, len(coverage), len(coverage), path)

    expected = _vertices(coverage) * BYTES_A_VERTEX + len(coverage) * BYTES_A_FEATURE
    delivered = deliver(path, verify, overwrite=overwrite, inputs=inputs, expected_bytes=expected)
    with delivered as folder, _library_errors(path), _no_crs_is_meant():
        file = (folder / path.name).absolute()
        write_arrow(
            record_batches(coverage, columns, corners_only=corners_only),
            file,
            layer=layer,
            driver="GPKG",
            geometry_name=GEOMETRY,
            geometry_type="Polygon",
            crs=coverage.grid.crs and coverage.grid.crs.to_wkt(),
        )
        add_style(file, layer, scheme)


def _vertices(coverage: Coverage) -> int:
    arcs = coverage.rings.sides >> 1
    return int(np.diff(coverage.lines.offsets)[arcs].sum())


def _check_name(path: Path) -> None:
    if path.suffix.lower() != ".gpkg":
        raise RssegError(
            f"{path}: polygons are written as GeoPackage", "end the name with .gpkg", file=str(path), kind="output"
        )
    refuse_disguised(path, "output")


@contextmanager
def _library_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, sqlite3.Error, OSError) as problem:
        raise failure(path, problem) from problem


@contextmanager
def _no_crs_is_meant() -> Iterator[None]:
    with warnings.catch_warnings():
        # Layers without a CRS are of scenes without georeference, which are said once when opened.
        warnings.filterwarnings("ignore", "'crs' was not provided", UserWarning)
        yield


def _write(frame: "geopandas.GeoDataFrame", file: Path, layer: str) -> None:
    several = bool((frame.geom_type == "MultiPolygon").any())  # a GeoPackage layer holds one kind of geometry
    with _no_crs_is_meant():
        pyogrio.write_dataframe(
            frame,
            file,
            layer=layer,
            driver="GPKG",
            geometry_type="MultiPolygon" if several else "Polygon",
            promote_to_multi=several,
        )


def verify_geopackage(path: Path, layer: str, rows: int, shapes: int, target: Path) -> None:
    """Re-opens what was written for `target`: GDAL may lose a spatial index without a word when the disk is full.

    Only shapes are in the index; rows whose geometry is missing or empty are not.
    """
    wanted = (rows, shapes, "ok")
    found: tuple[int, int, str] | str
    try:
        unfinished = [suffix for suffix in OPEN_DATABASE if path.with_name(path.name + suffix).exists()]
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            found = f"not finished ({', '.join(unfinished)} left)" if unfinished else _counts(database, layer)
    except (sqlite3.Error, TypeError) as problem:  # TypeError: the layer is not listed
        found = f"unreadable ({problem})"
    if found != wanted:
        raise RssegError(
            f"{target}: came out damaged: rows, index rows and check are {found}, not {wanted}",
            "the disk filled up, or failed; free some space and run again",
            file=str(target),
            kind="space",
        )


def _counts(database: sqlite3.Connection, layer: str) -> tuple[int, int, str]:
    """(features, features in the spatial index, SQLite's own check)."""
    quoted = layer.replace('"', '""')
    (column,) = database.execute(
        "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?", (layer,)
    ).fetchone()
    (rows,) = database.execute(f'SELECT count(*) FROM "{quoted}"').fetchone()  # noqa: S608 - quoted above
    (indexed,) = database.execute(f'SELECT count(*) FROM "rtree_{quoted}_{column}_rowid"').fetchone()  # noqa: S608
    (check,) = database.execute("PRAGMA quick_check").fetchone()
    return rows, indexed, check
