import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
from broken import SCHEME, TRANSFORM, UTM, write_squares
from coverages import Pixels
from rasterio.crs import CRS

from rsseg_cli import delivery
from rsseg_cli.classes import UNLABELLED
from rsseg_cli.errors import RssegError
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.labels import Labels
from rsseg_cli.vector import write as module
from rsseg_cli.vector.coverage import Coverage, polygonize
from rsseg_cli.vector.formats import FORMATS, Format
from rsseg_cli.vector.geopackage import count_geopackage
from rsseg_cli.vector.table import Features, attributes, features_of
from rsseg_cli.vector.write import write_features, write_geopackage

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


@pytest.mark.parametrize("name", ["map.fgb", "map.parquet", "map.json"])
def test_a_frame_goes_to_geopackages_alone(tmp_path: Path, name: str) -> None:
    with pytest.raises(RssegError, match="--format says GPKG"):
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


MASK = np.random.default_rng(1).choice(np.array([1, 2, 3, UNLABELLED], np.uint8), (60, 80))
NOTHING = np.full((4, 4), UNLABELLED, np.uint8)


def coverage_of(mask: np.ndarray, crs: CRS | None = UTM) -> Coverage:
    return polygonize(Labels("mask.tif", Grid(crs, TRANSFORM, *mask.shape), SCHEME, Pixels(mask)))


def write_regions(path: Path, mask: np.ndarray, crs: CRS | None = UTM, layer: str = "classes", **options: bool) -> None:
    coverage = coverage_of(mask, crs)
    features = features_of(coverage, attributes(coverage, SCHEME), corners_only=True)
    write_features(path, features, SCHEME, layer, **options)


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
    assert count_geopackage(path, "classes") == (0, 0)


@pytest.mark.parametrize("layer", ['a "b"', "ä'x;--", "select"])
def test_the_layers_style_is_the_one_that_qgis_looks_for(path: Path, layer: str) -> None:
    write_regions(path, MASK, layer=layer)
    styles = pyogrio.read_dataframe(path, layer="layer_styles")
    assert styles[["f_table_catalog", "f_table_schema", "f_table_name"]].to_numpy().tolist() == [["", "", layer]]
    assert styles["f_geometry_column"].tolist() == ["geom"]
    assert styles["useAsDefault"].tolist() == [True]
    assert 'label="forest &amp; co"' in styles["styleQML"][0]
    assert pyogrio.list_layers(path).tolist() == [[layer, "Polygon"], ["layer_styles", None]]


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


# --- all formats


@pytest.fixture(params=FORMATS, ids=lambda form: form.name)
def form(request: pytest.FixtureRequest) -> Format:
    found: Format = request.param
    return found


def whole(form: Format, path: Path, features: Features) -> bool:
    return form.count(path, "classes")[:2] == (features.rows, features.rows)


def test_each_format_is_delivered_by_its_name(tmp_path: Path, form: Format, make_features, capfd) -> None:
    features = make_features(MASK)
    for name in [f"map{suffix}" for suffix in form.suffixes] + [f"[a]*'ä#{form.suffixes[0].upper()}"]:
        write_features(tmp_path / name, features, SCHEME, "classes")
        assert whole(form, tmp_path / name, features)
        assert names(tmp_path) == [name]
        (tmp_path / name).unlink()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["map", "map.v2", "map.shp"])
def test_each_format_can_be_said(tmp_path: Path, form: Format, make_features, name: str) -> None:
    features = make_features(MASK)
    write_features(tmp_path / name, features, SCHEME, "classes", kind=form.name.lower())
    assert whole(form, tmp_path / name, features)
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("crs", [UTM, None])
def test_no_regions_in_each_format(tmp_path: Path, form: Format, make_features, crs: CRS | None) -> None:
    path = tmp_path / f"map{form.suffixes[0]}"
    write_features(path, make_features(NOTHING, crs=crs), SCHEME, "classes")
    assert form.count(path, "classes")[:2] == (0, 0)


def test_an_old_file_of_each_format_stays_unless_it_may_go(tmp_path: Path, form: Format, make_features) -> None:
    path, features = tmp_path / f"map{form.suffixes[0]}", make_features(MASK)
    path.write_bytes(b"old")
    with pytest.raises(RssegError, match="exists already"):
        write_features(path, features, SCHEME, "classes")
    assert path.read_bytes() == b"old"
    write_features(path, features, SCHEME, "classes", overwrite=True)
    assert whole(form, path, features)


def test_damage_in_each_format_is_refused(
    tmp_path: Path, form: Format, make_features, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_cut_short(file: Path, features: Features, layer: str) -> None:
        form.write(file, features, layer)
        os.truncate(file, file.stat().st_size - 40)

    path, features = tmp_path / f"map{form.suffixes[0]}", make_features(MASK)
    path.write_bytes(b"old")
    monkeypatch.setattr(module, "format_of", lambda *_, **__: replace(form, write=write_cut_short))
    with pytest.raises(RssegError, match="came out damaged") as raised:
        write_features(path, features, SCHEME, "classes", overwrite=True)
    assert raised.value.kind == "space"
    assert raised.value.problem.startswith(f"{path}: ")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize("crs", [UTM, None])
def test_no_format_takes_more_than_what_was_reserved(
    tmp_path: Path, form: Format, make_features, monkeypatch: pytest.MonkeyPatch, crs: CRS | None
) -> None:
    reserved = []
    monkeypatch.setattr(delivery, "_reserve", lambda _, size: reserved.append(size))
    path = tmp_path / f"map{form.suffixes[0]}"
    write_features(path, make_features(np.tile(MASK, (4, 4)), crs=crs), SCHEME, "classes")
    assert path.stat().st_size < reserved[0]
