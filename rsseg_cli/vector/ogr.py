"""Layers written by GDAL, handed over as Arrow."""

import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pyogrio.raw import write_arrow

from rsseg_cli.vector.table import GEOMETRY, Features

if TYPE_CHECKING:
    import pyarrow  # type: ignore[import-untyped]


def write_layer(file: Path, features: Features, layer: str, driver: str, *, append: bool = False) -> None:
    """A new layer, or more rows of one that is there."""
    with no_crs_is_meant(), _signals_later() as signals, _reader(features, signals) as reader:
        write_arrow(
            reader,
            file,
            layer=layer,
            driver=driver,
            geometry_name=GEOMETRY,
            geometry_type="Polygon",
            crs=features.crs and features.crs.to_wkt(),
            append=append,
            # Older GDAL warns of every newer version, each time it opens one.
            dataset_options={"VERSION": "1.3"} if driver == "GPKG" and not append else None,
        )


@contextmanager
def no_crs_is_meant() -> Iterator[None]:
    with warnings.catch_warnings():
        # Layers without a CRS are of scenes without georeference, which are said once when opened.
        warnings.filterwarnings("ignore", "'crs' was not provided", UserWarning)
        yield


@contextmanager
def _signals_later() -> Iterator[list[int]]:
    """Those that came in the block are heard at its end: what their handlers raise would be lost in Arrow."""
    waiting: list[int] = []
    heard = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    if threading.current_thread() is not threading.main_thread():  # which alone hears them
        heard = {}
    try:
        for number in heard:
            if callable(heard[number]):  # some callers have them ignored
                signal.signal(number, lambda number, _: waiting.append(number))
        yield waiting
    finally:
        for number, handler in heard.items():
            if callable(handler):
                signal.signal(number, handler)
        for came in waiting:
            signal.raise_signal(came)


@contextmanager
def _reader(features: Features, signals: list[int]) -> "Iterator[pyarrow.RecordBatchReader]":
    """Whatever ends the batches early comes out as it is; through Arrow and GDAL only its words would."""
    import pyarrow

    ended_by: list[BaseException] = []

    def batches() -> "Iterator[pyarrow.RecordBatch]":
        try:
            for batch in features.batches():
                if signals:
                    raise InterruptedError
                yield batch
        except BaseException as problem:
            ended_by.append(problem)
            raise

    try:
        yield pyarrow.RecordBatchReader.from_batches(features.schema, batches())
    except Exception:
        if not ended_by:
            raise
    if ended_by:
        raise ended_by[0]
