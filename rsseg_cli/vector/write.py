"""Polygon layers on disk, complete and checked before they have their name."""

import sqlite3
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pyogrio
from pyogrio.errors import DataLayerError, DataSourceError

from rsseg_cli.classes import ClassScheme
from rsseg_cli.delivery import deliver, failure
from rsseg_cli.errors import RssegError
from rsseg_cli.vector.formats import GEOPACKAGE, Format, format_of
from rsseg_cli.vector.geopackage import Place, place_in_copy
from rsseg_cli.vector.names import refuse_disguised
from rsseg_cli.vector.ogr import no_crs_is_meant
from rsseg_cli.vector.styles import add_style
from rsseg_cli.vector.table import Features

if TYPE_CHECKING:
    import geopandas


def write_features(
    path: Path,
    features: Features,
    scheme: ClassScheme,
    layer: str,
    *,
    kind: str | None = None,
    append: bool = False,
    overwrite: bool = False,
    inputs: Iterable[str] = (),
) -> None:
    """Polygons in a new file, or beside and behind those that a GeoPackage has; there, in the classes' colours.

    They are put together while they are written, so that memory does not grow with them.
    """
    form = format_of(path, kind, append=append)
    refuse_disguised(path, "output")

    def verify(finished: Path) -> None:
        wanted = place.rows + features.rows, place.shapes + features.rows, *(more or ())
        _verify(form, finished, place.layer, wanted, path)

    before = path.stat().st_size if append and path.exists() else 0
    expected = before + _expected_bytes(form, features.vertices, features.rows)
    delivered = deliver(path, verify, overwrite=overwrite or append, inputs=inputs, expected_bytes=expected)
    with delivered as folder, _library_errors(path):
        # GDAL goes by the suffix: of a FlatGeobuf without one it makes a folder.
        suffix = "" if path.suffix.lower() in form.suffixes else form.suffixes[0]
        file = (folder / f"{path.name}{suffix}").absolute()
        place = Place(layer)
        if append and path.exists():
            place = place_in_copy(path, file, features, layer)
        more = form.write(file, features, place.layer)
        if form is GEOPACKAGE:
            add_style(file, place.layer, scheme)
        file.rename(folder / path.name)


def write_geopackage(
    path: Path,
    frame: "geopandas.GeoDataFrame",
    layer: str,
    *,
    overwrite: bool = False,
    inputs: Iterable[str] = (),
) -> None:
    """One layer in a new GeoPackage, with its spatial index."""
    form = format_of(path, GEOPACKAGE.name)
    refuse_disguised(path, "output")
    shapes = int((~(frame.geometry.isna() | frame.geometry.is_empty)).sum())

    def verify(finished: Path) -> None:
        _verify(form, finished, layer, (len(frame), shapes), path)

    expected = _expected_bytes(form, int(frame.geometry.count_coordinates().sum()), len(frame))
    delivered = deliver(path, verify, overwrite=overwrite, inputs=inputs, expected_bytes=expected)
    with delivered as folder, _library_errors(path):
        _write_frame(frame, (folder / path.name).absolute(), layer)


def _write_frame(frame: "geopandas.GeoDataFrame", file: Path, layer: str) -> None:
    several = bool((frame.geom_type == "MultiPolygon").any())  # a GeoPackage layer holds one kind of geometry
    with no_crs_is_meant():
        pyogrio.write_dataframe(
            frame,
            file,
            layer=layer,
            driver=GEOPACKAGE.name,
            geometry_type="MultiPolygon" if several else "Polygon",
            promote_to_multi=several,
        )


def _expected_bytes(form: Format, vertices: int, rows: int) -> int:
    return vertices * form.bytes_a_vertex + rows * form.bytes_a_feature


@contextmanager
def _library_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except _file_errors() as problem:
        raise failure(path, problem) from problem


def _verify(form: Format, file: Path, layer: str, wanted: tuple[object, ...], target: Path) -> None:
    """Re-opens what was written for `target`."""
    damage = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what GDAL says of damage comes in our words
            found = form.count(file.absolute(), layer)
        if found[:2] != wanted[:2]:
            damage = f"rows and shapes are {found[:2]}, not {wanted[:2]}"
        elif found != wanted:
            damage = "not all of what was written, or was there before, can be read again"
    except _file_errors(ValueError, LookupError, RuntimeError) as problem:
        damage = f"unreadable ({problem})"
    if damage:
        raise RssegError(
            f"{target}: came out damaged: {damage}",
            "the disk filled up, or failed; free some space and run again",
            file=str(target),
            kind="space",
        )


def _file_errors(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """What the libraries raise that write and read."""
    from pyarrow import ArrowException  # type: ignore[import-untyped]

    return OSError, DataSourceError, DataLayerError, sqlite3.Error, ArrowException, *others
