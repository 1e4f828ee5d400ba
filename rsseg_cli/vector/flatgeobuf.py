"""FlatGeobuf: one layer that readers can ask for a window of over the web."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pyogrio import read_info
from pyogrio.raw import open_arrow

from rsseg_cli.vector.ogr import write_layer
from rsseg_cli.vector.polygons import BATCH
from rsseg_cli.vector.table import Features


def write_flatgeobuf(file: Path, features: Features, layer: str) -> None:
    write_layer(file, features, layer, "FlatGeobuf")


def count_flatgeobuf(file: Path, _: str) -> tuple[int, int]:
    """(features that the head tells of, those that are found by the index and can be read)."""
    info = read_info(file)
    if info["features"] <= 0:  # -1: of nothing, the head does not tell; there is no index of it either
        return 0, 0
    if not info["capabilities"]["fast_spatial_filter"]:
        raise ValueError("no spatial index")
    west, south, east, north = info["total_bounds"]
    # In halves: for a window of all there is, GDAL does without the index.
    middle = (west + east) / 2
    found = [_ids(file, window) for window in ((west, south, middle, north), (middle, south, east, north))]
    return info["features"], len(np.unique(np.concatenate(found)))


def _ids(file: Path, window: tuple[float, ...]) -> NDArray[np.int64]:
    with open_arrow(file, bbox=window, columns=[], return_fids=True, batch_size=BATCH, use_pyarrow=True) as (
        _,
        batches,
    ):
        found = [np.empty(0, np.int64), *(batch["OGC_FID"].to_numpy() for batch in batches)]
    return np.concatenate(found)
