"""GeoParquet 1.1: columns, compressed, with a box around each polygon by which readers skip what they do not need."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyproj

from rsseg_cli.vector.polygons import BATCH
from rsseg_cli.vector.table import GEOMETRY, Features

if TYPE_CHECKING:
    import pyarrow  # type: ignore[import-untyped]

VERSION = "1.1.0"
OUTLINE = "geometry"  # the name that the specification recommends
BOX = "bbox"
SIDES = ("xmin", "ymin", "xmax", "ymax")


def write_geoparquet(file: Path, features: Features, _: str) -> None:
    """Batch by batch, so that memory does not grow with the file."""
    from pyarrow.parquet import ParquetWriter  # type: ignore[import-untyped]

    schema = _schema(features)
    with file.open("wb") as out:
        writer = ParquetWriter(out, schema, compression="zstd", write_page_checksum=True)
        try:
            for batch in features.batches():
                writer.write_batch(_with_boxes(batch, schema))
            writer.close()
        finally:
            writer.is_open = False  # else it closes once more when it is thrown away, and prints what goes wrong then


def count_geoparquet(file: Path, _: str) -> tuple[int, int]:
    """(rows, rows with an outline); all is read, so that the sums of every page are checked."""
    from pyarrow.parquet import ParquetFile

    rows = shapes = 0
    with ParquetFile(file, page_checksum_verification=True) as parquet:
        json.loads((parquet.schema_arrow.metadata or {})[b"geo"])
        for batch in parquet.iter_batches(BATCH):
            rows += batch.num_rows
            shapes += batch.num_rows - batch[OUTLINE].null_count
    return rows, shapes


def _schema(features: Features) -> "pyarrow.Schema":
    import pyarrow

    known = [field for field in features.schema if field.name != GEOMETRY]
    box = pyarrow.struct([(side, pyarrow.float64()) for side in SIDES])
    fields = [*known, pyarrow.field(OUTLINE, pyarrow.large_binary()), pyarrow.field(BOX, box)]
    return pyarrow.schema(fields, {"geo": json.dumps(_description(features))})


def _description(features: Features) -> dict[str, Any]:
    """What makes it GeoParquet. Without a word about the CRS, it would be longitude and latitude: none is `null`."""
    column = {
        "encoding": "WKB",
        "geometry_types": ["Polygon"],
        "crs": pyproj.CRS(features.crs.to_wkt()).to_json_dict() if features.crs else None,
        "covering": {BOX: {side: [BOX, side] for side in SIDES}},
    }
    return {"version": VERSION, "primary_column": OUTLINE, "columns": {OUTLINE: column}}


def _with_boxes(batch: "pyarrow.RecordBatch", schema: "pyarrow.Schema") -> "pyarrow.RecordBatch":
    import pyarrow
    import shapely

    outlines = batch[GEOMETRY]
    sides = shapely.bounds(shapely.from_wkb(outlines.to_numpy(zero_copy_only=False))).T
    box = pyarrow.StructArray.from_arrays([pyarrow.array(side) for side in sides], SIDES)
    known = [column for name, column in zip(batch.schema.names, batch.columns, strict=True) if name != GEOMETRY]
    return pyarrow.record_batch([*known, outlines, box], schema)
