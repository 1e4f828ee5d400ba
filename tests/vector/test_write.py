import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import faults
import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
from faults import SCHEME, TRANSFORM, UTM, content, outcome, write_squares
from rasterio.crs import CRS
from rasterio.windows import Window

from rsseg_cli import delivery
from rsseg_cli.classes import UNLABELLED
from rsseg_cli.errors import RssegError
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.labels import Labels
from rsseg_cli.vector import write as module
from rsseg_cli.vector.coverage import Coverage, polygonize
from rsseg_cli.vector.table import attributes
from rsseg_cli.vector.write import verify_geopackage, write_geopackage, write_polygons

BOX = shapely.box(0, 0, 1, 1)
COUNT = 3000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "map.gpkg"


def frame_of(*shapes: shapely.Geometry | None, crs: object = UTM) -> geopandas.GeoDataFrame:
    return geopandas.GeoDataFrame({"name": [f"n{i}" for i in range(len(shapes))]}, geometry=list(shapes), crs=crs)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("crs", [UTM, "EPSG:4326", None])
@pytest.mark.parametrize("count", [0, 1, 500])
def test_features_fields_and_crs_come_back(path: Path, crs: object, count: int) -> None:
    frame = frame_of(*(shapely.box(n, 0, n + 0.1, 1 / 3) for n in range(count)), crs=crs)
    frame["area"] = np.arange(count) / 7
    write_geopackage(path, frame, "lands")
    back = geopandas.read_file(path, layer="lands")
    assert back.crs == frame.crs
    assert back.geometry.to_wkb().tolist() == frame.geometry.to_wkb().tolist()
    assert back["area"].tolist() == frame["area"].tolist()
    assert names(path.parent) == ["map.gpkg"]


@pytest.mark.parametrize("layer", ['a "b"', "ä'x;--", "select", "rtree", "x" * 150])
def test_odd_layer_names(path: Path, layer: str) -> None:
    write_geopackage(path, frame_of(BOX), layer)
    assert len(geopandas.read_file(path, layer=layer)) == 1


@pytest.mark.filterwarnings("error")
def test_one_part_and_several_parts_share_a_layer(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    several = shapely.MultiPolygon([BOX, shapely.box(2, 2, 3, 3)])
    write_geopackage(path, frame_of(BOX, several), "l")
    assert set(geopandas.read_file(path).geom_type) == {"MultiPolygon"}
    assert capfd.readouterr().err == ""


def test_missing_and_empty_shapes_are_no_damage(path: Path) -> None:
    write_geopackage(path, frame_of(None, BOX, shapely.Polygon()), "l")
    assert len(geopandas.read_file(path)) == 3


@pytest.mark.parametrize("name", ["map.shp", "map", "map.tif"])
def test_only_geopackage_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(RssegError, match="GeoPackage"):
        write_geopackage(tmp_path / name, frame_of(BOX), "l")
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["a#b?c%20.gpkg", "ä ✓'\".GPKG", "[a]*.gpkg", "s3:x.gpkg", "-o.gpkg"])
def test_odd_names(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_geopackage(Path(name), frame_of(BOX), "l")
    assert names(tmp_path) == [name]
    with closing(sqlite3.connect(name)) as database:
        assert database.execute("SELECT count(*) FROM l").fetchone() == (1,)


@pytest.mark.parametrize("name", ["a!b.gpkg", "a;b.gpkg", "a\nb.gpkg", "a!/b.gpkg"])
def test_names_that_pyogrio_would_write_elsewhere(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a!").mkdir()
    (tmp_path / "b.gpkg").write_bytes(b"precious")
    with pytest.raises(RssegError, match="URL or an archive"):
        write_geopackage(Path(name), frame_of(BOX), "l", overwrite=True)
    assert names(tmp_path) == ["a!", "b.gpkg"]
    assert (tmp_path / "b.gpkg").read_bytes() == b"precious"


@pytest.mark.parametrize("layer", ["gpkg_mine", ""])
def test_what_gdal_refuses_is_said_with_the_outputs_name(path: Path, layer: str) -> None:
    path.write_bytes(b"old")
    with pytest.raises(RssegError, match=r"map\.gpkg") as caught:
        write_geopackage(path, frame_of(BOX), layer, overwrite=True)
    assert ".rsseg" not in caught.value.problem
    assert path.read_bytes() == b"old"
    assert names(path.parent) == ["map.gpkg"]


def test_a_geopackage_that_another_program_holds_open_in_wal_mode(path: Path) -> None:
    write_squares(path, count=5)
    with closing(sqlite3.connect(path)) as held:
        held.execute("PRAGMA journal_mode=WAL")
        held.execute("UPDATE gpkg_contents SET description = 'mine'")
        held.commit()
        with pytest.raises(RssegError, match="open in another program"):
            write_squares(path, count=9, overwrite=True)
        assert held.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with closing(sqlite3.connect(path)) as again:
        assert again.execute("SELECT description FROM gpkg_contents").fetchone() == ("mine",)
    assert len(geopandas.read_file(path)) == 5
    write_squares(path, count=9, overwrite=True)
    assert len(geopandas.read_file(path)) == 9


# --- the regions of a label map


@dataclass(frozen=True)
class Rows:
    ids: np.ndarray

    def read(self, window: Window) -> np.ndarray:
        return self.ids[window.row_off : window.row_off + window.height]


MASK = np.random.default_rng(1).choice(np.array([1, 2, 3, UNLABELLED], np.uint8), (60, 80))
NOTHING = np.full((4, 4), UNLABELLED, np.uint8)


def coverage_of(mask: np.ndarray, crs: CRS | None = UTM) -> Coverage:
    return polygonize(Labels("mask.tif", Grid(crs, TRANSFORM, *mask.shape), SCHEME, Rows(mask)))


def write_regions(path: Path, mask: np.ndarray, crs: CRS | None = UTM, layer: str = "classes", **options: bool) -> None:
    coverage = coverage_of(mask, crs)
    write_polygons(path, coverage, attributes(coverage, SCHEME), SCHEME, layer, **options)


@pytest.mark.parametrize("crs", [UTM, None])
def test_regions_come_back_with_what_is_known_of_them(
    path: Path, crs: CRS | None, capfd: pytest.CaptureFixture[str]
) -> None:
    write_regions(path, MASK, crs)
    coverage = coverage_of(MASK, crs)
    back = geopandas.read_file(path, layer="classes")
    assert back.crs == crs
    unit = ["area_m2", "perimeter_m"] if crs else ["area_px", "perimeter_px"]
    assert back.columns.tolist() == ["uid", "class_id", "class_name", *unit, "geometry"]
    for name, values in attributes(coverage, SCHEME).items():
        assert back[name].tolist() == values.to_pylist()
    np.testing.assert_allclose(back.area, coverage.pixels * 0.09, rtol=1e-6)
    assert back.is_valid.all()
    assert names(path.parent) == ["map.gpkg"]
    assert capfd.readouterr().err == ""


def test_no_regions_are_a_layer_with_the_same_fields(path: Path, tmp_path: Path) -> None:
    write_regions(path, NOTHING)
    write_regions(tmp_path / "some.gpkg", MASK)
    empty, some = (pyogrio.read_info(file, layer="classes") for file in (path, tmp_path / "some.gpkg"))
    assert empty["features"] == 0
    for key in ("fields", "dtypes", "crs", "geometry_type"):
        assert list(empty[key]) == list(some[key])
    verify_geopackage(path, "classes", 0, 0, path)


@pytest.mark.parametrize("layer", ['a "b"', "ä'x;--", "select"])
def test_the_layers_style_is_the_one_that_qgis_looks_for(path: Path, layer: str) -> None:
    write_regions(path, MASK, layer=layer)
    styles = pyogrio.read_dataframe(path, layer="layer_styles")
    assert styles[["f_table_catalog", "f_table_schema", "f_table_name"]].to_numpy().tolist() == [["", "", layer]]
    assert styles["f_geometry_column"].tolist() == ["geom"]
    assert styles["useAsDefault"].tolist() == [True]
    assert 'label="forest &amp; co"' in styles["styleQML"][0]
    assert pyogrio.list_layers(path).tolist() == [[layer, "Polygon"], ["layer_styles", None]]


def test_points_where_neighbours_meet_are_kept_on_demand(path: Path) -> None:
    mask = np.array([[1, 1], [2, 3]], np.uint8)
    write_regions(path, mask, corners_only=False)
    assert geopandas.read_file(path, layer="classes").geometry.count_coordinates().tolist() == [6, 5, 5]


def test_an_old_file_stays_unless_it_may_go(path: Path) -> None:
    path.write_bytes(b"old")
    with pytest.raises(RssegError, match="exists already"):
        write_regions(path, MASK)
    assert path.read_bytes() == b"old"
    write_regions(path, MASK, overwrite=True)
    assert len(geopandas.read_file(path, layer="classes")) == len(coverage_of(MASK))


def test_a_file_takes_no_more_than_what_was_reserved(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reserved = []
    monkeypatch.setattr(delivery, "_reserve", lambda _, size: reserved.append(size))
    mask = np.tile(MASK, (4, 4))
    write_regions(path, mask)
    assert path.stat().st_size < reserved[0] < 4 * path.stat().st_size


# --- broken disks


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, object]:
    path = tmp_path_factory.mktemp("reference") / "map.gpkg"
    write_squares(path, COUNT)
    return path, content(path)


def is_damaged(path: Path, wanted: object) -> bool:
    try:
        return content(path) != wanted or not has_index(path)
    except Exception:  # each broken file has its own
        return True


def has_index(path: Path) -> bool:
    """Without one a reader finds the same, slowly."""
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT count(*) FROM rtree_squares_geom_rowid").fetchone() == (COUNT,)


def check_promise(path: Path, error: RssegError | None, before: bytes | None, wanted: object) -> None:
    if error is None:
        assert not is_damaged(path, wanted)
    else:
        assert (path.read_bytes() if path.exists() else None) == before
    assert names(path.parent) in ([], ["map.gpkg"])


def disk_sizes(file: Path) -> list[int]:
    needed = file.stat().st_size // 1024
    return [16, *(needed * n // 10 for n in range(2, 25, 2)), 8192]


@pytest.mark.parametrize("reserve", [True, False])
def test_disks_of_all_sizes(disk, reference, monkeypatch: pytest.MonkeyPatch, reserve: bool) -> None:
    file, wanted = reference
    if not reserve:
        monkeypatch.setattr(delivery, "_reserve", lambda *_: None)
    ends = []
    for kib in disk_sizes(file):
        path = disk(kib) / "map.gpkg"
        error = outcome(write_squares, path, count=COUNT)
        check_promise(path, error, None, wanted)
        assert error is None or error.kind == "space"
        ends.append(error is None)
    assert ends[-1]
    assert sum(not end for end in ends) >= 4


@pytest.mark.parametrize("reserve", [True, False])
def test_file_size_limits_at_an_old_file(path: Path, reference, monkeypatch: pytest.MonkeyPatch, reserve: bool) -> None:
    file, wanted = reference
    write_squares(path, count=10)
    old = path.read_bytes()
    if not reserve:
        monkeypatch.setattr(delivery, "_reserve", lambda *_: None)
    size = file.stat().st_size
    failed = 0
    for limit in (0, 1024, *(size * n // 9 for n in range(1, 9)), size - 1, size * 4):
        with faults.file_size_limit(limit):
            error = outcome(write_squares, path, count=COUNT, overwrite=True)
        check_promise(path, error, old, wanted)
        failed += error is not None
        if error is None:
            path.write_bytes(old)
    assert 8 <= failed <= 11


def test_without_verification_damage_would_be_silent(disk, reference, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shows that the disks above are broken enough for their tests to fail."""
    file, wanted = reference
    monkeypatch.setattr(delivery, "_reserve", lambda *_: None)
    monkeypatch.setattr(module, "verify_geopackage", lambda *_: None)
    silent = 0
    for kib in range(file.stat().st_size // 1024 // 2, file.stat().st_size // 1024 * 2, 32):
        path = disk(kib) / "map.gpkg"
        silent += outcome(write_squares, path, count=COUNT) is None and is_damaged(path, wanted)
    assert silent


@pytest.mark.parametrize("reserve", [True, False])
def test_regions_on_disks_of_all_sizes(disk, path: Path, monkeypatch: pytest.MonkeyPatch, reserve: bool) -> None:
    write_regions(path, MASK)
    if not reserve:
        monkeypatch.setattr(delivery, "_reserve", lambda *_: None)
    ends = []
    for kib in disk_sizes(path):
        target = disk(kib) / "map.gpkg"
        error = outcome(write_regions, target, mask=MASK)
        assert names(target.parent) == ([] if error else ["map.gpkg"])
        if error is None:
            verify_geopackage(target, "classes", *[len(coverage_of(MASK))] * 2, target)
            assert len(pyogrio.read_dataframe(target, layer="layer_styles")) == 1
        else:
            assert error.kind == "space"
        ends.append(error is None)
    assert ends[-1]
    assert sum(not end for end in ends) >= 4


def test_file_size_limits_for_regions_at_an_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_regions(path, MASK)
    size = path.stat().st_size
    path.write_bytes(b"old")
    monkeypatch.setattr(delivery, "_reserve", lambda *_: None)
    for limit in (0, 1024, *(size * n // 7 for n in range(1, 7)), size - 1):
        with faults.file_size_limit(limit):
            assert outcome(write_regions, path, mask=MASK, overwrite=True) is not None
        assert path.read_bytes() == b"old"
        assert names(path.parent) == ["map.gpkg"]


# --- the verification by itself


@pytest.fixture
def whole(path: Path, reference) -> Path:
    shutil.copy(reference[0], path)
    verify_geopackage(path, "squares", COUNT, COUNT, path)
    return path


def refused(path: Path, rows: int = COUNT, layer: str = "squares", message: str = "came out damaged") -> None:
    with pytest.raises(RssegError, match=message) as caught:
        verify_geopackage(path, layer, rows, rows, Path("target.gpkg"))
    assert caught.value.problem.startswith("target.gpkg: ")
    assert str(path) not in caught.value.problem


@pytest.mark.parametrize("part", [0, 0.0001, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_sees_that_a_file_is_cut_short(whole: Path, part: float) -> None:
    os.truncate(whole, int(whole.stat().st_size * part))
    refused(whole)


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
    refused(whole)


def test_sees_wrong_counts_and_layers(whole: Path) -> None:
    refused(whole, rows=COUNT - 1)
    refused(whole, layer="other")
    whole.unlink()
    refused(whole, message="unreadable")


@pytest.mark.parametrize("suffix", ["-journal", "-wal"])
def test_sees_that_sqlite_had_not_finished(whole: Path, suffix: str) -> None:
    whole.with_name(whole.name + suffix).write_bytes(b"")
    refused(whole, message="not finished")


@pytest.mark.parametrize("start", [0, 100])
def test_sees_zeros_in_the_middle(whole: Path, start: int) -> None:
    """As a disk leaves them that was full for a moment; behind a page's head, counting does not stumble."""
    page = 4096
    with whole.open("rb+") as file:
        file.seek(whole.stat().st_size // 2 // page * page + start)
        file.write(bytes(page - start))
    refused(whole)
