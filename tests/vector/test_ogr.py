from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow
import pytest

from rsseg_cli.errors import RssegError
from rsseg_cli.vector.ogr import write_layer
from rsseg_cli.vector.table import Features


@pytest.mark.parametrize("problem", [RssegError("no way", "go elsewhere"), KeyboardInterrupt(), ZeroDivisionError()])
@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize(("name", "driver"), [("map.gpkg", "GPKG"), ("map.fgb", "FlatGeobuf")])
def test_what_ends_the_batches_comes_out_as_it_is(
    tmp_path: Path, make_features, problem: BaseException, after: int, name: str, driver: str
) -> None:
    features: Features = make_features([[1, 2], [3, 1]])

    def broken() -> Iterator[pyarrow.RecordBatch]:
        yield from list(features.batches())[:after]
        raise problem

    with pytest.raises(type(problem)) as raised:
        write_layer(tmp_path / name, replace(features, batches=broken), "l", driver)
    assert raised.value is problem
