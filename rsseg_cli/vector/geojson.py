"""GeoJSON (RFC 7946): longitude and latitude on WGS 84, one feature a line, in a collection or as a sequence."""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from rasterio.crs import CRS

from rsseg_cli.vector.polygons import Outlines, from_wkb
from rsseg_cli.vector.projection import oriented
from rsseg_cli.vector.table import GEOMETRY, Features, projected

if TYPE_CHECKING:
    import pyarrow  # type: ignore[import-untyped]

LONLAT = CRS.from_epsg(4326)
# A tenth of a millimetre on the ground. What rounding may move must stay far below what lies between two points.
DECIMALS = 9
BEGIN, END = b'{"type":"Feature",', b"}}"

logger = logging.getLogger(__name__)


def stream(features: Features, out: BinaryIO) -> None:
    """A feature a line, as soon as each batch is put together."""
    for lines in _lines(features):
        out.write(b"".join(line + b"\n" for line in lines))
        out.flush()


def write_sequence(file: Path, features: Features, _: str) -> None:
    with file.open("wb") as out:
        stream(features, out)


def write_collection(file: Path, features: Features, layer: str) -> None:
    before = b"\n"
    with file.open("wb") as out:
        out.write(b'{"type":"FeatureCollection","name":%b,"features":[' % json.dumps(layer).encode())
        for lines in _lines(features):
            out.write(before + b",\n".join(lines))
            before = b",\n"
        out.write(b"\n]}\n")


def count_sequence(file: Path, _: str) -> tuple[int, int]:
    """(lines, those that are whole features)."""
    rows = shapes = 0
    with file.open("rb") as lines:
        for line in lines:
            rows += 1
            shapes += line.startswith(BEGIN) and line.endswith((END + b"\n", END + b",\n")) and b"\0" not in line
    return rows, shapes


def count_collection(file: Path, layer: str) -> tuple[int, int]:
    rows, shapes = count_sequence(file, layer)
    with file.open("rb") as lines:
        first = lines.readline()
        lines.seek(-min(4, file.stat().st_size), 2)
        if not first.startswith(b'{"type":"FeatureCollection"') or lines.read() != b"\n]}\n":
            raise ValueError("the beginning or the end is missing")
    return rows - 2, shapes


def _lines(features: Features) -> Iterator[list[bytes]]:
    import shapely

    for batch in _lonlat(features).batches():
        if batch.num_rows:
            outlines = oriented(from_wkb(batch[GEOMETRY].to_numpy(zero_copy_only=False)))
            known = (json.dumps(row, ensure_ascii=False, allow_nan=False) for row in _known(batch))
            yield [
                f'{{"type":"Feature","properties":{row},"geometry":{shape}}}'.encode()
                for row, shape in zip(known, shapely.to_geojson(_rounded(outlines)), strict=True)
            ]


def _lonlat(features: Features) -> Features:
    if features.crs is None:
        logger.warning("GeoJSON is longitude and latitude; without a CRS, coordinates are written as they are")
        return features
    return projected(features, LONLAT)


def _rounded(polygons: Outlines) -> Any:
    import shapely

    rounded = replace(polygons, xy=np.round(polygons.xy, DECIMALS))
    offsets = (rounded.rings, rounded.polygons)
    return shapely.from_ragged_array(shapely.GeometryType.POLYGON, rounded.xy, offsets)


def _known(batch: "pyarrow.RecordBatch") -> list[dict[str, Any]]:
    """The attributes row by row; JSON has no word for a number that is none."""
    import pyarrow
    from pyarrow import compute

    def column(values: "pyarrow.Array") -> "pyarrow.Array":
        if not pyarrow.types.is_floating(values.type):
            return values
        return compute.if_else(compute.is_finite(values), values, None)

    names = [name for name in batch.schema.names if name != GEOMETRY]
    rows: list[dict[str, Any]] = pyarrow.record_batch([column(batch[name]) for name in names], names).to_pylist()
    return rows or [{}] * batch.num_rows  # without columns, Arrow knows of no rows
