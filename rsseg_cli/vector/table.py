"""What is known of polygons, as columns that go to disk beside their outlines, batch by batch."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from rsseg_cli.classes import ClassScheme
from rsseg_cli.vector.coverage import Coverage
from rsseg_cli.vector.measure import measure
from rsseg_cli.vector.polygons import outline_batches, to_wkb
from rsseg_cli.vector.uids import hex_texts, uids

if TYPE_CHECKING:
    import pyarrow  # type: ignore[import-untyped]

GEOMETRY = "geom"
UID_DIGITS = 16


def attributes(coverage: Coverage, scheme: ClassScheme) -> "dict[str, pyarrow.Array]":
    """A uid, the class, and the size of each region."""
    import pyarrow

    sizes = measure(coverage)
    ids = pyarrow.array(coverage.ids)
    names = [next((c.name for c in scheme.classes if c.id == number), None) for number in range(256)]
    return {
        "uid": _uid_texts(coverage),
        "class_id": ids,
        "class_name": pyarrow.array(names, pyarrow.string()).take(ids),
        f"area_{sizes.unit}{'2' if sizes.unit == 'm' else ''}": pyarrow.array(sizes.areas),
        f"perimeter_{sizes.unit}": pyarrow.array(sizes.perimeters),
    }


def _uid_texts(coverage: Coverage) -> "pyarrow.Array":
    import pyarrow

    digits = hex_texts(uids(coverage))
    # Offsets of 64 bits: those of 32 end at 2 GiB of text.
    offsets = np.arange(len(digits) + 1, dtype=np.int64) * UID_DIGITS
    buffers = [None, pyarrow.py_buffer(offsets), pyarrow.py_buffer(digits)]
    return pyarrow.Array.from_buffers(pyarrow.large_string(), len(digits), buffers)


def record_batches(
    coverage: Coverage, columns: "Mapping[str, pyarrow.Array]", *, corners_only: bool
) -> "pyarrow.RecordBatchReader":
    """The columns with the outline of each region, put together while they are read."""
    import pyarrow

    fields = [pyarrow.field(name, values.type) for name, values in columns.items()]
    schema = pyarrow.schema([*fields, pyarrow.field(GEOMETRY, pyarrow.large_binary())])

    def batches() -> Iterator[pyarrow.RecordBatch]:
        first = 0
        for batch in outline_batches(coverage, corners_only=corners_only):
            buffers = [None, *(pyarrow.py_buffer(values) for values in to_wkb(batch))]
            wkb = pyarrow.Array.from_buffers(pyarrow.large_binary(), len(batch), buffers)
            rows = [values.slice(first, len(batch)) for values in columns.values()]
            yield pyarrow.record_batch([*rows, wkb], schema)
            first += len(batch)

    return pyarrow.RecordBatchReader.from_batches(schema, batches())
