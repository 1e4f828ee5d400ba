"""FlatGeobuf: one layer that readers can ask for a window of over the web."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pyogrio import read_info
from pyogrio.raw import open_arrow

from rsseg_cli.vector.ogr import write_layer
from rsseg_cli.vector.polygons import BATCH
from rsseg_cli.vector.table import Features

if TYPE_CHECKING:
    import pyarrow  # type: ignore[import-untyped]


def write_flatgeobuf(file: Path, features: Features, layer: str) -> tuple[int, ...]:
    """Gives what the bytes of each column add up to: GDAL does not look whether the disk took all of a feature."""
    sums = np.zeros(len(features.schema), np.uint64)

    def added() -> "Iterator[pyarrow.RecordBatch]":
        for batch in features.batches():
            sums[:] += _sums(batch.columns)
            yield batch

    write_layer(file, replace(features, batches=added), layer, "FlatGeobuf")
    return tuple(sums.tolist())


def count_flatgeobuf(file: Path, _: str) -> tuple[int, ...]:
    """(features that the head tells of, those that are found by the index and can be read), and their sums."""
    info = read_info(file)
    if info["features"] <= 0:  # -1: of nothing, the head does not tell; there is no index of it either
        return 0, 0, *(0 for _ in info["fields"]), 0
    if not info["capabilities"]["fast_spatial_filter"]:
        raise ValueError("no spatial index")
    west, south, east, north = info["total_bounds"]
    # In halves: for a window of all there is, GDAL does without the index.
    middle = (west + east) / 2
    seen, sums = np.zeros(info["features"], bool), np.zeros(len(info["fields"]) + 1, np.uint64)
    for window in ((west, south, middle, north), (middle, south, east, north)):
        with open_arrow(file, bbox=window, return_fids=True, batch_size=BATCH, use_pyarrow=True) as (_, batches):
            for batch in batches:
                ids = batch["OGC_FID"].to_numpy()
                if ids.size and not 0 <= ids.min() <= ids.max() < seen.size:
                    raise ValueError("the index leads to what is no feature")
                sums += _sums(batch.filter(~seen[ids]).columns[1:])
                seen[ids] = True
    return info["features"], int(seen.sum()), *sums.tolist()


def _sums(columns: "list[pyarrow.Array]") -> NDArray[np.uint64]:
    """What the bytes of each column add up to, in whatever order its rows are."""
    return np.array([_bytes_of(values).sum(dtype=np.uint64) for values in columns], np.uint64)


def _bytes_of(values: "pyarrow.Array") -> NDArray[np.uint8]:
    import pyarrow

    if pyarrow.types.is_primitive(values.type):
        return np.asarray(values.fill_null(0).to_numpy(zero_copy_only=False)).view(np.uint8)
    values = values.cast(pyarrow.large_binary())
    _, offsets, content = values.buffers()
    first, last = np.frombuffer(offsets, np.int64)[[values.offset, values.offset + len(values)]]
    return np.frombuffer(content, np.uint8)[first:last]
