import os
from pathlib import Path

import geopandas
import numpy as np
import pyarrow
import pytest
from pyarrow.parquet import ParquetFile

from rsseg_cli.classes import UNLABELLED
from rsseg_cli.vector.geoparquet import count_geoparquet, write_geoparquet
from rsseg_cli.vector.table import to_frame

MASK = np.random.default_rng(1).choice(np.array([1, 2, 3, UNLABELLED], np.uint8), (60, 80))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "map.parquet"


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("crs", ["UTM", None])
def test_geopandas_reads_it(path: Path, make_features, crs: str | None) -> None:
    features = make_features(MASK[:9, :9], **({} if crs else {"crs": None}))
    write_geoparquet(path, features, "l")
    back, frame = geopandas.read_parquet(path), to_frame(features)
    assert back.crs == frame.crs
    assert back.columns.tolist() == frame.columns.tolist()
    assert back.geometry.to_wkb().equals(frame.geometry.to_wkb())
    assert back["uid"].tolist() == frame["uid"].tolist()


def test_boxes_are_those_of_the_polygons_and_found_by_readers(path: Path, make_features) -> None:
    features = make_features(MASK)
    write_geoparquet(path, features, "l")
    frame = to_frame(features)
    boxes = np.array([list(box.values()) for box in ParquetFile(path).read()["bbox"].to_pylist()])
    np.testing.assert_array_equal(boxes, frame.bounds)
    west, south, _, _ = frame.total_bounds
    window = (west + 3, south + 3, west + 6, south + 6)
    found = geopandas.read_parquet(path, bbox=window)
    assert 0 < len(found) < len(frame)
    assert set(found["uid"]) >= set(frame.cx[window[0] : window[2], window[1] : window[3]]["uid"])


@pytest.mark.usefixtures("small_batches")
def test_batches_are_groups_so_that_readers_can_skip(path: Path, make_features) -> None:
    features = make_features(MASK[:9, :9])
    write_geoparquet(path, features, "l")
    assert ParquetFile(path).num_row_groups == -(-features.rows // 7)


def test_an_empty_layer_has_its_fields(path: Path, make_features) -> None:
    write_geoparquet(path, make_features([[UNLABELLED]]), "l")
    back = geopandas.read_parquet(path)
    assert len(back) == 0
    assert back.columns.tolist() == to_frame(make_features(MASK)).columns.tolist()
    assert back.crs.to_epsg() == 32633
    assert count_geoparquet(path, "l") == (0, 0)


@pytest.mark.parametrize("part", [0, 0.01, 0.5, 0.999])
def test_a_file_that_is_cut_short_is_seen(path: Path, make_features, part: float) -> None:
    write_geoparquet(path, make_features(MASK), "l")
    os.truncate(path, int(path.stat().st_size * part))
    with pytest.raises((pyarrow.ArrowException, OSError)):
        count_geoparquet(path, "l")


@pytest.mark.parametrize("place", [0.1, 0.3, 0.5, 0.7])
def test_damage_in_the_middle_is_seen(path: Path, make_features, place: float) -> None:
    features = make_features(MASK)
    write_geoparquet(path, features, "l")
    assert count_geoparquet(path, "l") == (features.rows, features.rows)
    with path.open("rb+") as file:
        file.seek(int(path.stat().st_size * place))
        file.write(bytes(64))
    with pytest.raises((pyarrow.ArrowException, OSError)):
        count_geoparquet(path, "l")
