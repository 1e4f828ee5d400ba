import os
import struct
from pathlib import Path

import geopandas
import numpy as np
import pyarrow
import pyogrio
import pytest
from pyogrio.errors import DataLayerError, DataSourceError
from pyogrio.raw import write_arrow

from rsseg_cli.classes import UNLABELLED
from rsseg_cli.vector.flatgeobuf import count_flatgeobuf, write_flatgeobuf
from rsseg_cli.vector.table import Features, to_frame

MASK = np.random.default_rng(1).choice(np.array([1, 2, 3, UNLABELLED], np.uint8), (60, 80))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "map.fgb"


@pytest.mark.parametrize("crs", ["UTM", None])
def test_all_comes_back(path: Path, make_features, crs: str | None) -> None:
    features = make_features(MASK, **({} if crs else {"crs": None}))
    write_flatgeobuf(path, features, "lands")
    frame = to_frame(features).set_index("uid")
    back = geopandas.read_file(path).set_index("uid").loc[frame.index]  # the index has an order of its own
    assert back.crs == frame.crs
    assert back.geometry.to_wkb().equals(frame.geometry.to_wkb())
    assert back["class_name"].tolist() == frame["class_name"].tolist()
    assert pyogrio.list_layers(path).tolist() == [["lands", "Polygon"]]
    assert pyogrio.read_info(path)["capabilities"]["fast_spatial_filter"]
    assert count_flatgeobuf(path, "lands")[:2] == (features.rows, features.rows)


def test_an_empty_layer_has_its_fields(path: Path, make_features) -> None:
    write_flatgeobuf(path, make_features([[UNLABELLED]]), "lands")
    info = pyogrio.read_info(path)
    assert info["geometry_type"] == "Polygon"
    assert info["crs"] == "EPSG:32633"
    assert info["fields"].tolist() == ["uid", "class_id", "class_name", "area_m2", "perimeter_m"]
    assert len(geopandas.read_file(path)) == 0
    assert count_flatgeobuf(path, "lands")[:2] == (0, 0)


@pytest.mark.parametrize("part", [0, 0.01, 0.3, 0.5, 0.999])
def test_a_file_that_is_cut_short_is_seen(path: Path, make_features, part: float) -> None:
    features = make_features(MASK)
    write_flatgeobuf(path, features, "l")
    os.truncate(path, int(path.stat().st_size * part))
    is_damaged(path, features)


@pytest.mark.parametrize("place", [0.01, 0.5, 0.8])
def test_zeros_in_the_middle_are_seen(path: Path, make_features, place: float) -> None:
    features = make_features(MASK)
    write_flatgeobuf(path, features, "l")
    with path.open("rb+") as file:
        file.seek(int(path.stat().st_size * place))
        file.write(bytes(4096))
    is_damaged(path, features)


def test_a_part_of_a_feature_that_the_disk_did_not_take_is_seen(path: Path, make_features) -> None:
    features = make_features(MASK)
    wanted = features.rows, features.rows, *write_flatgeobuf(path, features, "l")
    assert count_flatgeobuf(path, "l") == wanted
    whole, first = path.read_bytes(), to_frame(features).iloc[0]
    x, _ = first.geometry.exterior.coords[1]
    for lost in (first.uid.encode(), struct.pack("<d", x)):
        before, there, after = whole.rpartition(lost)  # the last: what describes the layer comes first
        assert there
        path.write_bytes(before + bytes(len(lost)) + after)
        assert count_flatgeobuf(path, "l") != wanted


def is_damaged(path: Path, features: Features) -> None:
    try:
        found = count_flatgeobuf(path, "l")
    except (DataSourceError, DataLayerError, ValueError, OSError):
        return
    assert found[:2] != (features.rows, features.rows)


def test_a_missing_index_is_seen(path: Path, make_features) -> None:
    features = make_features(MASK)
    reader = pyarrow.RecordBatchReader.from_batches(features.schema, features.batches())
    options = {"layer": "l", "geometry_name": "geom", "geometry_type": "Polygon", "crs": "EPSG:32633"}
    write_arrow(reader, path, driver="FlatGeobuf", layer_options={"SPATIAL_INDEX": "NO"}, **options)
    with pytest.raises(ValueError, match="no spatial index"):
        count_flatgeobuf(path, "l")
