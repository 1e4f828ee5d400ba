"""What is known of polygons, as columns that go to disk beside their outlines, batch by batch."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS

from rsseg_cli.classes import ClassScheme
from rsseg_cli.errors import RssegError
from rsseg_cli.vector.coverage import Coverage
from rsseg_cli.vector.measure import measure
from rsseg_cli.vector.polygons import Outlines, from_wkb, outline_batches, to_wkb
from rsseg_cli.vector.projection import crs_name, project
from rsseg_cli.vector.uids import hex_texts, uids

if TYPE_CHECKING:
    import geopandas
    import pyarrow  # type: ignore[import-untyped]

GEOMETRY = "geom"
UID_DIGITS = 16


@dataclass(frozen=True)
class Features:
    """Polygons and what is known of them, put together anew each time they are read."""

    schema: "pyarrow.Schema"  # attributes, then the outline as well-known binary
    batches: "Callable[[], Iterator[pyarrow.RecordBatch]]"
    rows: int
    vertices: int  # at most
    crs: CRS | None


def attributes(coverage: Coverage, scheme: ClassScheme, pixels: Coverage | None = None) -> "dict[str, pyarrow.Array]":
    """A uid, the class, and the size of each region; `pixels` is the coverage before its lines were moved."""
    import pyarrow

    sizes = measure(coverage)
    names = [next((c.name for c in scheme.classes if c.id == number), None) for number in range(256)]
    numbers = _numbers(scheme)
    return {
        "uid": _uid_texts(pixels or coverage, numbers),
        "class_id": pyarrow.array(numbers[coverage.ids]),
        "class_name": pyarrow.array(names, pyarrow.string()).take(pyarrow.array(coverage.ids)),
        f"area_{sizes.unit}{'2' if sizes.unit == 'm' else ''}": pyarrow.array(sizes.areas),
        f"perimeter_{sizes.unit}": pyarrow.array(sizes.perimeters),
    }


def _numbers(scheme: ClassScheme) -> NDArray[Any]:
    """By id, the number of each class."""
    fits = all(abs(number) < 1 << 31 for number in scheme.numbers)
    table = np.zeros(256, np.int32 if fits else np.int64)
    table[list(scheme.ids)] = scheme.numbers
    return table


def _uid_texts(coverage: Coverage, numbers: NDArray[Any]) -> "pyarrow.Array":
    import pyarrow

    digits = hex_texts(uids(coverage, numbers[coverage.ids]))
    # Offsets of 64 bits: those of 32 end at 2 GiB of text.
    offsets = np.arange(len(digits) + 1, dtype=np.int64) * UID_DIGITS
    buffers = [None, pyarrow.py_buffer(offsets), pyarrow.py_buffer(digits)]
    return pyarrow.Array.from_buffers(pyarrow.large_string(), len(digits), buffers)


def features_of(coverage: Coverage, columns: "Mapping[str, pyarrow.Array]", *, corners_only: bool) -> Features:
    """The columns with the outline of each region."""
    import pyarrow

    fields = [pyarrow.field(name, values.type) for name, values in columns.items()]
    schema = pyarrow.schema([*fields, pyarrow.field(GEOMETRY, pyarrow.large_binary())])

    def batches() -> "Iterator[pyarrow.RecordBatch]":
        first = 0
        for batch in outline_batches(coverage, corners_only=corners_only):
            rows = [values.slice(first, len(batch)) for values in columns.values()]
            yield pyarrow.record_batch([*rows, _wkb(batch)], schema)
            first += len(batch)

    return Features(schema, batches, len(coverage), _vertices(coverage), coverage.grid.crs)


def projected(features: Features, crs: CRS) -> Features:
    """The same in another CRS.

    There, what was straight is bent: neighbours fit only if their outlines hold all the points where they meet.
    """
    import pyarrow

    source = features.crs
    if source is None:
        raise RssegError(
            f"what has no CRS cannot be brought to {crs_name(crs)}: nobody knows where on Earth it lies",
            "leave the CRS out, or give the raster its own first: rio edit-info --crs EPSG:NUMBER FILE",
        )

    def batches() -> "Iterator[pyarrow.RecordBatch]":
        for batch in features.batches():
            outlines = project(from_wkb(batch[GEOMETRY].to_numpy(zero_copy_only=False)), source, crs)
            yield pyarrow.record_batch([*batch.columns[:-1], _wkb(outlines)], features.schema)

    return features if crs == source else replace(features, batches=batches, crs=crs)


def to_frame(features: Features) -> "geopandas.GeoDataFrame":
    """All of them in memory."""
    import geopandas
    import pyarrow
    import shapely

    table = pyarrow.Table.from_batches(features.batches(), features.schema)
    outlines = shapely.from_wkb(table[GEOMETRY].to_numpy())
    known = table.drop_columns([GEOMETRY]).to_pandas()
    return geopandas.GeoDataFrame(known, geometry=outlines, crs=features.crs and features.crs.to_wkt())


def _wkb(polygons: Outlines) -> "pyarrow.Array":
    import pyarrow

    buffers = [None, *(pyarrow.py_buffer(values) for values in to_wkb(polygons))]
    return pyarrow.Array.from_buffers(pyarrow.large_binary(), len(polygons), buffers)


def _vertices(coverage: Coverage) -> int:
    arcs = coverage.rings.sides >> 1
    return int(np.diff(coverage.lines.offsets)[arcs].sum())
