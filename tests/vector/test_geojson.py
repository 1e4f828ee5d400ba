import io
import json
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyarrow
import pytest
import shapely
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS

from rsseg_cli.classes import UNLABELLED
from rsseg_cli.vector.geojson import count_collection, count_sequence, stream, write_collection, write_sequence
from rsseg_cli.vector.table import Features, to_frame

MASK = np.random.default_rng(1).choice(np.array([1, 2, 3, UNLABELLED], np.uint8), (12, 16))
LONLAT = CRS.from_epsg(4326)
WRITERS = [(write_sequence, count_sequence), (write_collection, count_collection)]


def streamed(features: Features) -> list[dict[str, Any]]:
    out = io.BytesIO()
    stream(features, out)
    return [json.loads(line) for line in out.getvalue().decode().splitlines()]


def outlines_of(found: list[dict[str, Any]]) -> np.ndarray:
    return shapely.from_geojson([json.dumps(feature["geometry"]) for feature in found])


@pytest.mark.usefixtures("small_batches")
def test_a_feature_a_line_in_longitude_and_latitude(make_features) -> None:
    features = make_features(MASK)
    frame = to_frame(features)
    found = streamed(features)
    assert [feature["type"] for feature in found] == ["Feature"] * len(frame)
    assert [feature["properties"] for feature in found] == frame.drop(columns="geometry").to_dict("records")
    lonlat = frame.to_crs(LONLAT).geometry.to_numpy()
    assert shapely.equals_exact(shapely.normalize(outlines_of(found)), shapely.normalize(lonlat), 1e-9).all()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), pixel=st.sampled_from([0.01, 0.3, 10.0]), epsg=st.sampled_from([32633, 3857]))
def test_rounding_leaves_a_coverage_of_valid_polygons(make_features, seed: int, pixel: float, epsg: int) -> None:
    mask = np.random.default_rng(seed).choice(np.array([1, 1, 2, UNLABELLED], np.uint8), (9, 9))
    transform = Affine(pixel, 0, 400_000.123, 0, -pixel, 5_400_000.456) @ Affine.rotation(seed % 90)
    shapes = outlines_of(streamed(make_features(mask, CRS.from_epsg(epsg), transform)))
    assert shapely.is_valid(shapes).all()
    assert shapely.coverage_is_valid(shapes)
    assert all(s.exterior.is_ccw and not any(hole.is_ccw for hole in s.interiors) for s in shapes)


def test_points_a_centimetre_apart_stay_apart(make_features) -> None:
    fine = make_features([[1, 2]], transform=Affine(0.01, 0, 500_000, 0, -0.01, 10))
    for shape in outlines_of(streamed(fine)):
        assert len(set(shape.exterior.coords)) == 4


def test_rings_turn_as_the_standard_says_whoever_made_them(make_features) -> None:
    features = make_features([[1, 1, 1], [1, 2, 1], [1, 1, 1]])

    def reversed_batches() -> Any:
        for batch in features.batches():
            shapes = shapely.reverse(shapely.from_wkb(batch["geom"].to_pylist()))
            wkb = pyarrow.array(shapely.to_wkb(shapes).tolist(), pyarrow.large_binary())
            yield pyarrow.record_batch([*batch.columns[:-1], wkb], features.schema)

    there, back = (outlines_of(streamed(one)) for one in (features, replace(features, batches=reversed_batches)))
    assert shapely.equals_identical(shapely.normalize(there), shapely.normalize(back)).all()
    assert all(shape.exterior.is_ccw and not any(hole.is_ccw for hole in shape.interiors) for shape in back)


def test_longitude_and_latitude_stay_as_they_are(make_features) -> None:
    features = make_features(MASK, LONLAT, Affine(0.25, 0, 10, 0, -0.25, 50))
    same = shapely.equals_identical(outlines_of(streamed(features)), to_frame(features).geometry.to_numpy())
    assert same.all()


def test_without_a_crs_pixels_are_written_and_said_once(make_features, caplog: pytest.LogCaptureFixture) -> None:
    features = make_features([[1, 2], [1, 3]], None, Affine.identity())
    with caplog.at_level(logging.WARNING):
        found = outlines_of(streamed(features))
    assert [shape.bounds for shape in found] == [(0, 0, 1, 2), (1, 0, 2, 1), (1, 1, 2, 2)]
    assert ["written as they are" in record.message for record in caplog.records] == [True]


def test_a_number_that_is_none_is_null(make_features) -> None:
    features = make_features([[1, 2]])
    schema = pyarrow.schema([("mean", pyarrow.float32()), ("geom", pyarrow.large_binary())])

    def batches() -> Any:
        for batch in features.batches():
            yield pyarrow.record_batch([pyarrow.array([0.5, np.nan], pyarrow.float32()), batch["geom"]], schema)

    found = streamed(replace(features, schema=schema, batches=batches))
    assert [feature["properties"] for feature in found] == [{"mean": 0.5}, {"mean": None}]


def test_polygons_of_which_nothing_is_known_are_features_as_well(make_features) -> None:
    features = make_features([[1, 2]])
    schema = pyarrow.schema([features.schema.field("geom")])
    bare = replace(features, schema=schema, batches=lambda: (b.select(["geom"]) for b in features.batches()))
    assert [feature["properties"] for feature in streamed(bare)] == [{}, {}]


class Pipe(io.BytesIO):
    """Notes what went through at each flush, and closes after some."""

    def __init__(self, lasts: int = 1000) -> None:
        super().__init__()
        self.flushed: list[int] = []
        self.lasts = lasts

    def flush(self) -> None:
        self.flushed.append(self.tell())
        if len(self.flushed) == self.lasts:
            raise BrokenPipeError


@pytest.mark.usefixtures("small_batches")
def test_a_pipe_sees_each_batch_at_once(make_features) -> None:
    features, pipe = make_features(MASK), Pipe()
    stream(features, pipe)
    assert len(pipe.flushed) == -(-features.rows // 7)
    assert np.diff(pipe.flushed).min() > 0


@pytest.mark.usefixtures("small_batches")
def test_a_pipe_may_break(make_features) -> None:
    pipe = Pipe(lasts=2)
    with pytest.raises(BrokenPipeError):
        stream(make_features(MASK), pipe)
    assert len(pipe.flushed) == 2


@pytest.mark.parametrize(("write", "count"), WRITERS)
def test_gdal_reads_what_is_written(tmp_path: Path, make_features, write: Any, count: Any) -> None:
    path, features = tmp_path / "map.json", make_features(MASK)
    write(path, features, 'ä "layer"')
    frame, back = to_frame(features), geopandas.read_file(path)
    assert back.crs == LONLAT
    assert back.drop(columns="geometry").to_dict("list") == frame.drop(columns="geometry").to_dict("list")
    assert shapely.equals_exact(back.geometry, frame.to_crs(LONLAT).geometry, 1e-9).all()
    assert count(path, "l") == (features.rows, features.rows)


def test_a_collection_of_nothing_is_one(tmp_path: Path, make_features) -> None:
    write_collection(tmp_path / "map.json", make_features([[UNLABELLED]]), "fields")
    found = json.loads((tmp_path / "map.json").read_text())
    assert found == {"type": "FeatureCollection", "name": "fields", "features": []}
    assert count_collection(tmp_path / "map.json", "fields") == (0, 0)


@pytest.mark.parametrize(("write", "count"), WRITERS)
@pytest.mark.parametrize("part", [0, 0.01, 0.5, 0.99])
def test_a_file_that_is_cut_short_is_seen(tmp_path: Path, make_features, write: Any, count: Any, part: float) -> None:
    path, features = tmp_path / "map.json", make_features(MASK)
    write(path, features, "l")
    os.truncate(path, int(path.stat().st_size * part))
    assert found_or_words(count, path) != (features.rows, features.rows)


@pytest.mark.parametrize(("write", "count"), WRITERS)
@pytest.mark.parametrize("lost", [1, 2, 200])
def test_a_lost_end_is_seen(tmp_path: Path, make_features, write: Any, count: Any, lost: int) -> None:
    path, features = tmp_path / "map.json", make_features(MASK)
    write(path, features, "l")
    os.truncate(path, path.stat().st_size - lost)
    assert found_or_words(count, path) != (features.rows, features.rows)


@pytest.mark.parametrize(("write", "count"), WRITERS)
def test_zeros_in_the_middle_are_seen(tmp_path: Path, make_features, write: Any, count: Any) -> None:
    path, features = tmp_path / "map.json", make_features(MASK)
    write(path, features, "l")
    with path.open("rb+") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(3))
    assert found_or_words(count, path) != (features.rows, features.rows)


def found_or_words(count: Any, path: Path) -> Any:
    try:
        return count(path, "l")
    except ValueError as problem:
        return str(problem)
