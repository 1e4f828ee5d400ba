"""Polygon layers on disk, complete and checked before they have their name."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import geopandas
import pyogrio

from rsseg_cli.delivery import deliver
from rsseg_cli.errors import RssegError

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
    expected = int(frame.geometry.count_coordinates().sum()) * BYTES_A_VERTEX + len(frame) * BYTES_A_FEATURE

    def verify(finished: Path) -> None:
        verify_geopackage(finished, layer, len(frame), path)

    with deliver(path, verify, overwrite=overwrite, inputs=inputs, expected_bytes=expected) as folder:
        try:
            pyogrio.write_dataframe(frame, folder / path.name, layer=layer, driver="GPKG", geometry_type="Polygon")
        except (pyogrio.errors.FeatureError, pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as problem:
            raise RssegError(
                f"{path}: could not be written: {problem}",
                "is the disk full? Nothing was left half-written",
                file=str(path),
                kind="output",
            ) from problem


def verify_geopackage(path: Path, layer: str, rows: int, target: Path) -> None:
    """Re-opens what was written for `target`: GDAL may lose a spatial index without a word when the disk is full."""
    found: tuple[int, int, str] | str
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as database:
            found = _counts(database, layer)
    except (sqlite3.Error, TypeError) as problem:  # TypeError: the layer is not listed
        found = f"unreadable ({problem})"
    if found != (rows, rows, "ok"):
        raise RssegError(
            f"{target}: came out damaged: rows, index rows and check are {found}, not {(rows, rows, 'ok')}",
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
