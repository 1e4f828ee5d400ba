"""Polygon layers on disk, complete and checked before they have their name."""

import sqlite3
import warnings
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import geopandas
import pyogrio

from rsseg_cli.delivery import OPEN_DATABASE, deliver, failure
from rsseg_cli.errors import RssegError
from rsseg_cli.vector.names import refuse_disguised

# Bytes a vertex and a feature take in a GeoPackage, its spatial index included; on the safe side.
BYTES_A_VERTEX = 24
BYTES_A_FEATURE = 400


def write_geopackage(
    path: Path,
    frame: geopandas.GeoDataFrame,
    layer: str,
    *,
    overwrite: bool = False,
    inputs: Iterable[str] = (),
) -> None:
    """One layer in a new GeoPackage, with its spatial index."""
    if path.suffix.lower() != ".gpkg":
        raise RssegError(
            f"{path}: polygons are written as GeoPackage", "end the name with .gpkg", file=str(path), kind="output"
        )
    refuse_disguised(path, "output")
    expected = int(frame.geometry.count_coordinates().sum()) * BYTES_A_VERTEX + len(frame) * BYTES_A_FEATURE
    shapes = int((~(frame.geometry.isna() | frame.geometry.is_empty)).sum())

    def verify(finished: Path) -> None:
        verify_geopackage(finished, layer, len(frame), shapes, path)

    with deliver(path, verify, overwrite=overwrite, inputs=inputs, expected_bytes=expected) as folder:
        try:
            _write(frame, (folder / path.name).absolute(), layer)
        except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, OSError) as problem:
            raise failure(path, problem) from problem


def _write(frame: geopandas.GeoDataFrame, file: Path, layer: str) -> None:
    several = bool((frame.geom_type == "MultiPolygon").any())  # a GeoPackage layer holds one kind of geometry
    with warnings.catch_warnings():
        # Layers without a CRS are meant: of scenes without georeference, which are said once when opened.
        warnings.filterwarnings("ignore", "'crs' was not provided", UserWarning)
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
