import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyarrow
import pyogrio
import pytest
import shapely
from broken import SCHEME, write_squares
from rasterio.crs import CRS

from rsseg_cli.classes import UNLABELLED, ClassScheme
from rsseg_cli.errors import RssegError
from rsseg_cli.vector import geopackage
from rsseg_cli.vector.geopackage import count_geopackage, read_back_geopackage
from rsseg_cli.vector.ogr import write_layer
from rsseg_cli.vector.table import Features, to_frame
from rsseg_cli.vector.write import write_features

COUNT = 3000
MASK = np.random.default_rng(1).choice(np.array([1, 2, 3, UNLABELLED], np.uint8), (20, 30))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "map.gpkg"


# --- what is counted, and the damage that this shows


@pytest.fixture
def whole(path: Path) -> Path:
    write_squares(path, COUNT)
    assert count_geopackage(path, "squares") == (COUNT, COUNT)
    return path


def is_damaged(path: Path) -> bool:
    try:
        return count_geopackage(path, "squares") != (COUNT, COUNT)
    except (sqlite3.Error, ValueError):
        return True


@pytest.mark.parametrize("part", [0, 0.0001, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_sees_that_a_file_is_cut_short(whole: Path, part: float) -> None:
    os.truncate(whole, int(whole.stat().st_size * part))
    assert is_damaged(whole)


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM rtree_squares_geom_rowid",
        "DELETE FROM rtree_squares_geom_rowid WHERE rowid = 7",
        "DROP TABLE rtree_squares_geom",
        "DELETE FROM gpkg_geometry_columns",
    ],
)
def test_sees_a_lost_index(whole: Path, damage: str) -> None:
    with closing(sqlite3.connect(whole)) as database:
        database.execute(damage)
        database.commit()
    assert is_damaged(whole)


@pytest.mark.parametrize(
    ("damage", "lost"),
    [
        ("DELETE FROM gpkg_spatial_ref_sys WHERE srs_id = 32633", "coordinate system"),
        ("UPDATE gpkg_geometry_columns SET srs_id = 4326", "coordinate system"),
        ("DELETE FROM gpkg_contents", "coordinate system"),
        ("DELETE FROM gpkg_extensions", "spatial index"),
        ("UPDATE gpkg_ogr_contents SET feature_count = 0", "number of features"),
        ("DELETE FROM gpkg_ogr_contents", "number of features"),
        ("UPDATE gpkg_contents SET min_x = NULL, max_y = NULL", "extent"),
        ("UPDATE gpkg_contents SET max_x = 99", "extent"),
    ],
)
def test_sees_that_readers_would_miss_something(whole: Path, damage: str, lost: str) -> None:
    """As it comes out when a disk is full for the moment when GDAL writes that."""
    assert read_back_geopackage(whole, "squares") == (COUNT, COUNT)
    with closing(sqlite3.connect(whole)) as database:
        database.execute(damage)
        database.commit()
    with pytest.raises(ValueError, match=f"the layer squares has lost its {lost}"):
        read_back_geopackage(whole, "squares")


def test_sees_that_a_layer_or_a_file_is_not_there(whole: Path) -> None:
    with pytest.raises(ValueError, match="other is not listed"):
        count_geopackage(whole, "other")
    whole.unlink()
    assert is_damaged(whole)
    assert not whole.exists()


@pytest.mark.parametrize("suffix", ["-journal", "-wal"])
def test_sees_that_sqlite_had_not_finished(whole: Path, suffix: str) -> None:
    whole.with_name(whole.name + suffix).write_bytes(b"")
    with pytest.raises(ValueError, match=f"not finished, {suffix} left"):
        count_geopackage(whole, "squares")


@pytest.mark.parametrize("start", [0, 100])
def test_sees_zeros_in_the_middle(whole: Path, start: int) -> None:
    """As a disk leaves them that was full for a moment; behind a page's head, counting does not stumble."""
    page = 4096
    with whole.open("rb+") as file:
        file.seek(whole.stat().st_size // 2 // page * page + start)
        file.write(bytes(page - start))
    assert is_damaged(whole)


# --- adding to a file


def test_a_layer_that_others_wrote_without_an_extent_can_be_added_to(path: Path, make_features) -> None:
    features = make_features(MASK)
    add(path, features)
    with closing(sqlite3.connect(path)) as database:
        (told,) = database.execute("SELECT min_x FROM gpkg_contents WHERE table_name = 'lands'").fetchone()
        database.execute("UPDATE gpkg_contents SET min_x = NULL, min_y = NULL, max_x = NULL, max_y = NULL")
        database.commit()
    add(path, make_features(MASK[:5, 5:]))
    with closing(sqlite3.connect(path)) as database:
        (found,) = database.execute("SELECT min_x FROM gpkg_contents WHERE table_name = 'lands'").fetchone()
    assert found == pytest.approx(told, abs=0.1)


def test_layers_that_gdal_loses_come_back(path: Path, make_features, monkeypatch: pytest.MonkeyPatch) -> None:
    features = make_features(MASK)
    add(path, features, "first")
    whole = path.read_bytes()

    def make_anew(file: Path, *arguments: Any, **options: Any) -> None:
        file.unlink()  # what GDAL does with a file that it could not open
        write_layer(file, *arguments, **options)

    monkeypatch.setattr(geopackage, "write_layer", make_anew)
    with pytest.raises(RssegError, match="came out damaged: not all of what was written, or was there before"):
        add(path, features, "second")
    assert path.read_bytes() == whole


def add(path: Path, features: Features, layer: str = "lands", scheme: ClassScheme = SCHEME, **options: Any) -> None:
    write_features(path, features, scheme, layer, append=True, **options)


def rows_of(path: Path, layer: str) -> list[list[Any]]:
    frame = pyogrio.read_dataframe(path, layer=layer, fid_as_index=True)
    return [[fid, *row] for fid, row in zip(frame.index, frame.to_wkb().to_numpy().tolist(), strict=True)]


def styles_of(path: Path) -> list[tuple[str, str]]:
    styles = pyogrio.read_dataframe(path, layer="layer_styles")
    return list(zip(styles["f_table_name"], styles["styleQML"], strict=True))


@pytest.mark.parametrize("crs", ["UTM", None])
def test_a_file_that_is_not_there_is_made(path: Path, make_features, crs: str | None) -> None:
    features = make_features(MASK, **({} if crs else {"crs": None}))
    add(path, features)
    assert geopandas.read_file(path, layer="lands").to_wkb().equals(to_frame(features).to_wkb())


def test_a_new_layer_leaves_the_others_as_they_are(path: Path, make_features) -> None:
    add(path, make_features(MASK), "old")
    before, style = rows_of(path, "old"), styles_of(path)
    lonlat = make_features(MASK[:5], crs=CRS.from_epsg(4326))
    other = ClassScheme.of_names([("sea", (1,), "#000080")])
    add(path, lonlat, 'ä "new"', other)
    assert rows_of(path, "old") == before
    assert styles_of(path)[:1] == style
    assert [name for name, _ in styles_of(path)] == ["old", 'ä "new"']
    assert "sea" in styles_of(path)[1][1]
    new = geopandas.read_file(path, layer='ä "new"')
    assert new.to_wkb().equals(to_frame(lonlat).to_wkb())
    assert new.crs == CRS.from_epsg(4326)
    assert sorted(p.name for p in path.parent.iterdir()) == ["map.gpkg"]


@pytest.mark.parametrize("crs", ["UTM", None])
@pytest.mark.parametrize("name", ["lands", "LANDS"])
def test_more_rows_of_a_layer_come_behind_those_it_has(path: Path, make_features, crs: str | None, name: str) -> None:
    options = {} if crs else {"crs": None}
    first, second = (make_features(mask, **options) for mask in (MASK, MASK[:7, ::-1]))
    add(path, first)
    before, style = rows_of(path, "lands"), styles_of(path)
    add(path, second, name)
    after = rows_of(path, "lands")
    assert after[: len(before)] == before
    assert [row[1:] for row in after[len(before) :]] == to_frame(second).to_wkb().to_numpy().tolist()
    assert count_geopackage(path, "lands") == (first.rows + second.rows,) * 2
    assert styles_of(path) == style
    west, south, _, _ = to_frame(second).total_bounds
    window = (west, south, west + 1, south + 1)
    found = pyogrio.read_dataframe(path, layer="lands", bbox=window)  # by the index
    assert set(found["uid"]) & set(to_frame(second)["uid"])


def test_fields_go_by_their_names(path: Path, make_features) -> None:
    features = make_features(MASK)
    add(path, features)
    names = [*features.schema.names[-2::-1], "geom"]

    def batches() -> Iterator[pyarrow.RecordBatch]:
        yield from (batch.select(names) for batch in features.batches())

    schema = pyarrow.schema([features.schema.field(name) for name in names])
    add(path, Features(schema, batches, features.rows, features.vertices, features.crs))
    rows = [row[1:] for row in rows_of(path, "lands")]
    assert rows[features.rows :] == rows[: features.rows]


def test_nothing_may_be_added(path: Path, make_features) -> None:
    add(path, make_features(MASK))
    before = rows_of(path, "lands")
    add(path, make_features([[UNLABELLED]]))
    assert rows_of(path, "lands") == before


def test_a_style_that_is_another_one_is_kept_and_said(path: Path, make_features, caplog) -> None:
    add(path, make_features(MASK))
    style = styles_of(path)
    add(path, make_features(MASK))
    assert caplog.records == []
    add(path, make_features(MASK), scheme=ClassScheme.of_names([("sea", (1,), "#000080")]))
    assert styles_of(path) == style
    assert "is drawn as" in caplog.text


def renamed(features: Features, old: str, new: str) -> Features:
    def batches() -> Iterator[pyarrow.RecordBatch]:
        yield from (batch.rename_columns([new if n == old else n for n in names]) for batch in features.batches())

    names = features.schema.names
    schema = pyarrow.schema([f.with_name(new) if f.name == old else f for f in features.schema])
    return Features(schema, batches, features.rows, features.vertices, features.crs)


def test_other_kinds_of_layers_are_refused_and_nothing_is_changed(path: Path, make_features) -> None:
    features = make_features(MASK)
    add(path, features)
    spots = geopandas.GeoDataFrame({"n": [1]}, geometry=[shapely.Point(0, 0)], crs="EPSG:32633")
    pyogrio.write_dataframe(spots, path, layer="spots")
    before = path.read_bytes()
    one_class = renamed(features, "area_m2", "class_number")
    retyped = renamed(renamed(features, "uid", "x"), "class_id", "uid")
    for refused, layer, words in [
        (make_features(MASK, crs=CRS.from_epsg(32632)), "lands", "EPSG:32633, these polygons have EPSG:32632"),
        (make_features(MASK, crs=None), "lands", "EPSG:32633, these polygons have no CRS"),
        (one_class, "lands", "no class_number, area_m2 besides"),
        (retyped, "lands", "no x, class_id besides, uid is text, not int32"),
        (features, "spots", "spots does not hold polygons"),
        (features, "layer_styles", "layer_styles does not hold polygons"),
    ]:
        with pytest.raises(RssegError, match=words) as raised:
            add(path, refused, layer)
        assert raised.value.problem.startswith(f"{path}: ")
        assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["map.gpkg"]


@pytest.mark.parametrize("content", [b"", b"something else"])
def test_what_is_no_geopackage_is_refused(path: Path, make_features, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(RssegError, match="no GeoPackage") as refused:
        add(path, make_features(MASK))
    assert ".rsseg" not in refused.value.problem
    assert path.read_bytes() == content


def test_a_layer_without_its_index_is_refused(whole: Path, make_features) -> None:
    features = make_features(MASK)
    add(whole, features)
    with closing(sqlite3.connect(whole)) as database, database:
        database.execute("DROP TABLE rtree_lands_geom")
    with pytest.raises(RssegError, match="lands cannot be added to"):
        add(whole, features)
    add(whole, features, "others")
    assert count_geopackage(whole, "others") == (features.rows,) * 2


def test_the_old_file_stays_whole_when_the_new_rows_fail(path: Path, make_features) -> None:
    features = make_features(MASK)
    add(path, features)
    before = path.read_bytes()

    def broken() -> Iterator[pyarrow.RecordBatch]:
        yield from features.batches()
        raise RssegError("the disk of the masks is gone", "mount it")

    with pytest.raises(RssegError, match="disk of the masks"):
        add(path, Features(features.schema, broken, features.rows, features.vertices, features.crs))
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["map.gpkg"]


def test_a_file_that_is_open_in_another_program_is_not_added_to(path: Path, make_features) -> None:
    add(path, make_features(MASK))
    path.with_name("map.gpkg-wal").write_bytes(b"")
    with pytest.raises(RssegError, match="open in another program"):
        add(path, make_features(MASK))


def test_a_file_that_keeps_its_log_beside_it_can_be_added_to(path: Path, make_features) -> None:
    features = make_features(MASK)
    add(path, features)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
    add(path, features)
    add(path, features, "more")
    assert count_geopackage(path, "lands") == (2 * features.rows,) * 2
    assert [p.name for p in path.parent.iterdir()] == ["map.gpkg"]


def test_an_input_is_not_added_to(path: Path, make_features) -> None:
    add(path, make_features(MASK))
    with pytest.raises(RssegError, match="is also an input"):
        add(path, make_features(MASK), inputs=[str(path)])
