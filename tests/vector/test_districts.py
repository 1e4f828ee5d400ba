"""The districts of a map: whose ground is whose, and file names that every system takes."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pandas
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS

from rsseg_cli.errors import RssegError
from rsseg_cli.raster.grid import Grid
from rsseg_cli.vector.districts import District, file_names, open_districts

UTM = CRS.from_epsg(32633)
GRID = Grid(UTM, Affine(2, 0, 500_000, 0, -2, 5_400_000), 40, 50)
WEST, EAST = shapely.box(499_900, 5_399_000, 500_050, 5_401_000), shapely.box(500_050, 5_399_000, 500_200, 5_401_000)
FAR = shapely.box(600_000, 5_399_000, 600_100, 5_400_000)

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(values: dict, geometry: list, name: str = "d.gpkg", crs: object = 32633, layer: object = None) -> str:
        frame = geopandas.GeoDataFrame(values, geometry=geometry, crs=crs)
        path = tmp_path / name
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'crs' was not provided")
            frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_file(path, layer=layer)
        return str(path)

    return to_file


@pytest.fixture
def notes(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


@pytest.mark.parametrize("name", ["d.gpkg", "d.geojson", "d.shp", "d.fgb", "d.parquet"])
@pytest.mark.parametrize("crs", [32633, 4326, 25833])
def test_the_ground_of_each_district(write: Write, name: str, crs: int) -> None:
    frame = geopandas.GeoDataFrame({"NAME": ["Ö/1", "b"]}, geometry=[WEST, EAST], crs=UTM.to_wkt()).to_crs(crs)
    if name.endswith("json"):
        frame = frame.to_crs(4326)
    path = write({"NAME": frame["NAME"]}, list(frame.geometry), name, frame.crs)
    found = {d.name: d.geometry for d in open_districts(f"{path}:NAME", GRID)}
    assert set(found) == {"Ö/1", "b"}
    west, east = found["Ö/1"], found["b"]
    ground = shapely.box(*GRID.bounds)
    assert shapely.area(ground & west) == pytest.approx(4000, rel=1e-4)
    assert shapely.area(ground & east) == pytest.approx(4000, rel=1e-4)
    assert shapely.area(west & east) < 1e-6


def test_borders_in_the_masks_own_system_stay_where_they_are(write: Write) -> None:
    path = write({"n": ["a"]}, [shapely.box(500_001.1, 5_399_950.3, 500_020.7, 5_399_990.9)])
    (district,) = open_districts(f"{path}:n", GRID)
    assert district.geometry.bounds == (500_001.1, 5_399_950.3, 500_020.7, 5_399_990.9)


@pytest.mark.parametrize("turn", [0, 30])
def test_districts_reach_a_little_beyond_the_masks_and_not_farther(write: Write, turn: float) -> None:
    """So that a polygon at the masks' edge is not cut there."""
    grid = Grid(UTM, GRID.transform @ Affine.rotation(turn), 40, 50)
    (district,) = open_districts(f"{write({'n': ['all']}, [shapely.box(0, 5e6, 1e6, 6e6)])}:n", grid)
    ground = shapely.Polygon(grid.corners)
    assert shapely.contains_properly(district.geometry, ground)
    assert shapely.hausdorff_distance(district.geometry, ground) < 10


def test_features_of_one_value_are_one_district(write: Write) -> None:
    path = write(
        {"n": ["a", "b", "a"]}, [shapely.box(*b) for b in ((0, 0, 5, 5), (5, 0, 9, 5), (3, 0, 8, 5))], crs=None
    )
    one, other = open_districts(f"{path}:n", Grid(None, Affine.identity(), 10, 10))
    assert (one.name, other.name) == ("a", "b")
    assert one.geometry.area == 40
    assert other.geometry.area == 20


def test_names_are_text_whatever_the_field_holds(write: Write) -> None:
    path = write({"n": [7, 8, None]}, [WEST, EAST, FAR], "d.gpkg")
    assert [d.name for d in open_districts(f"{path}:n", GRID)] == ["7", "8"]
    values = pandas.array([True, None, None], "boolean")
    path = write({"n": values}, [WEST, EAST, FAR], "d.parquet")
    assert [d.name for d in open_districts(f"{path}:n", GRID)] == ["True"]


def test_districts_without_a_name_are_left_out_aloud(write: Write, notes: pytest.LogCaptureFixture) -> None:
    path = write({"n": ["a", None, "  "]}, [WEST, EAST, EAST])
    assert [d.name for d in open_districts(f"{path}:n", GRID)] == ["a"]
    assert f"{path}: 2 of 3 features have no n and are left out" in notes.messages


def test_lines_are_left_out_aloud(write: Write, notes: pytest.LogCaptureFixture) -> None:
    shapes = geopandas.GeoSeries([WEST, EAST.boundary], crs=UTM.to_wkt()).to_crs(4326)
    path = write({"n": ["a", "b"]}, list(shapes), "d.geojson", 4326)
    assert [d.name for d in open_districts(f"{path}:n", GRID)] == ["a"]
    assert "1 of 2 features are no polygons and are left out" in notes.text


def test_districts_elsewhere_get_no_file_and_are_named(write: Write, notes: pytest.LogCaptureFixture) -> None:
    beside = shapely.box(500_100, 5_399_000, 500_300, 5_401_000)  # it shares a border with the masks, and no ground
    path = write({"n": ["a", "far", "beside"]}, [WEST, FAR, beside])
    assert [d.name for d in open_districts(f"{path}:n", GRID)] == ["a"]
    assert "no file for far, beside: the masks show nothing there" in notes.messages


def test_many_districts_elsewhere_are_counted(write: Write, notes: pytest.LogCaptureFixture) -> None:
    path = write({"n": ["a", *map(str, range(20))]}, [WEST, *[FAR] * 20])
    open_districts(f"{path}:n", GRID)
    assert "no file for 0, 1, 2, 3, 4, 5, 6, 7 and 12 more: the masks show nothing there" in notes.messages


def test_overlaps_are_allowed_and_said_once(write: Write, notes: pytest.LogCaptureFixture) -> None:
    path = write({"n": ["a", "b", "c"]}, [WEST, EAST.buffer(20), EAST.buffer(10)])
    assert len(open_districts(f"{path}:n", GRID)) == 3
    assert [m for m in notes.messages if "overlap" in m] == [
        f"{path}: districts overlap, as a and b do; what lies in both goes to both files"
    ]


def test_neighbours_are_no_overlap(write: Write, notes: pytest.LogCaptureFixture) -> None:
    frame = geopandas.GeoDataFrame(geometry=[WEST, EAST], crs=UTM.to_wkt()).to_crs(4326)
    open_districts(f"{write({'n': ['a', 'b']}, list(frame.geometry), crs=4326)}:n", GRID)
    assert "overlap" not in notes.text


def test_crossed_outlines_and_heights(write: Write) -> None:
    x, y = 500_000, 5_399_950
    bow = shapely.Polygon([(x, y, 7), (x + 10, y + 10, 7), (x + 10, y, 7), (x, y + 10, 7)])
    (district,) = open_districts(f"{write({'n': ['a']}, [bow])}:n", GRID)
    assert district.geometry.is_valid
    assert not district.geometry.has_z
    assert district.geometry.area == pytest.approx(50)


def test_a_layer_is_named_before_the_field(write: Write) -> None:
    write({"n": ["a"]}, [WEST], layer="lands")
    path = write({"n": ["b", "c"]}, [WEST, EAST], layer="towns")
    assert [d.name for d in open_districts(f"{path}:towns:n", GRID)] == ["b", "c"]
    with pytest.raises(RssegError, match="has 2 layers"):
        open_districts(f"{path}:n", GRID)


@pytest.mark.parametrize("text", ["d.gpkg", "d.gpkg:", ":n", r"C:\maps\d.gpkg", "s3:/maps/d.gpkg"])
def test_the_field_must_be_named(text: str) -> None:
    with pytest.raises(RssegError, match="does not say which field") as caught:
        open_districts(text, GRID)
    assert "FIELD" in caught.value.hint


def test_fields_may_have_odd_names(write: Write) -> None:
    path = write({"Name (dt./it.)": ["Bozen"]}, [WEST])
    assert [d.name for d in open_districts(f"{path}:Name (dt./it.)", GRID)] == ["Bozen"]


def test_the_colon_of_a_drive_is_none_of_a_field() -> None:
    with pytest.raises(RssegError, match=r"^C:\\maps\\d\.gpkg: no such file"):
        open_districts(r"C:\maps\d.gpkg:n", GRID)


def test_what_is_no_field_is_refused(write: Write) -> None:
    path = write({"NAME": ["a"], "pop": [3]}, [WEST])
    with pytest.raises(RssegError, match="has no field 'name'") as caught:
        open_districts(f"{path}:name", GRID)
    assert caught.value.hint == "the fields are: NAME, pop"


def test_no_district_is_refused(write: Write) -> None:
    with pytest.raises(RssegError, match="holds no polygon with a value in n"):
        open_districts(f"{write({'n': ['a']}, [shapely.Point(1, 2)])}:n", GRID)
    with pytest.raises(RssegError, match="none of its 1 polygons touches the masks"):
        open_districts(f"{write({'n': ['a']}, [FAR], 'far.gpkg')}:n", GRID)
    with pytest.raises(RssegError, match="has no coordinate system, unlike the masks"):
        open_districts(f"{write({'n': ['a']}, [WEST], 'bare.gpkg', None)}:n", GRID)


# --- file names


def names_of(*districts: str) -> list[str]:
    paths = file_names([District(name, shapely.Point()) for name in districts], Path("out"), "map", ".gpkg")
    assert {path.parent for path in paths} == {Path("out")}
    return [path.name for path in paths]


def test_names_stay_readable() -> None:
    assert names_of("Köln", "São Paulo", "東京", "St. Pölten") == [
        "map_Köln.gpkg",
        "map_São Paulo.gpkg",
        "map_東京.gpkg",
        "map_St. Pölten.gpkg",
    ]


def test_names_that_some_system_does_not_take() -> None:
    assert names_of(r"a/b\c", 'x:*?"<>|y', "tab\there", "end. .", "..", "!;", "CON", "ok\u0085") == [
        "map_a_b_c.gpkg",
        "map_x_______y.gpkg",
        "map_tab_here.gpkg",
        "map_end.gpkg",
        "map__.gpkg",
        "map___.gpkg",
        "map_CON.gpkg",
        "map_ok_.gpkg",
    ]


def test_names_differ_in_more_than_capitals() -> None:
    found = names_of("Ost", "OST", "ost_2", "a/b", "a:b", "\u00e4", "a\u0308")
    assert found[:3] == ["map_Ost.gpkg", "map_OST_2.gpkg", "map_ost_2_2.gpkg"]
    assert len({name.casefold() for name in found}) == len(found)


def test_long_names_are_cut_between_letters_and_stay_apart() -> None:
    found = names_of("ß" * 300, "ß" * 301, "x" + "東" * 100)
    assert all(len(name.encode()) <= 120 for name in found)
    assert len(set(found)) == 3
    assert set(found[2]) <= set("map_x東.gpkg")


def test_the_same_names_from_run_to_run() -> None:
    many = np.random.default_rng(2).choice(["a", "A", "b/", "b\\"], 50).tolist()
    assert names_of(*many) == names_of(*many)
    assert len(set(names_of(*many))) == 50
