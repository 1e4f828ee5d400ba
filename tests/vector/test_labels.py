"""Polygons as labels: the right pixels, the right classes, and clear words when they do not fit."""

import warnings
from pathlib import Path

import geopandas
import numpy as np
import pandas
import pyogrio
import pytest
from affine import Affine
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.windows import Window
from shapely.geometry import MultiPolygon, Point, Polygon, box

from rsseg_cli.classes import UNLABELLED, ClassScheme
from rsseg_cli.errors import RssegError
from rsseg_cli.labels import PolygonOptions, open_labels
from rsseg_cli.raster.grid import Grid

GRID = Grid(CRS.from_epsg(32633), Affine(1, 0, 500_000, 0, -1, 5_000_000), 40, 50)


def square(col: float, row: float, size: float) -> Polygon:
    return box(500_000 + col, 5_000_000 - row - size, 500_000 + col + size, 5_000_000 - row)


@pytest.fixture
def polygons(tmp_path: Path):
    def write(values: dict, geometry: list, name: str = "p.gpkg", crs: object = 32633) -> str:
        frame = geopandas.GeoDataFrame(values, geometry=geometry, crs=crs)
        path = tmp_path / name
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'crs' was not provided")
            frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_file(path)
        return str(path)

    return write


SQUARES = ([square(0, 0, 10), square(5, 5, 10), square(30, 20, 5)], ["tree", "road", "tree"])


@pytest.mark.parametrize("name", ["p.gpkg", "p.geojson", "p.fgb", "p.shp", "p.parquet"])
def test_every_format_in_another_coordinate_system(polygons, name: str) -> None:
    frame = geopandas.GeoDataFrame({"class": SQUARES[1]}, geometry=SQUARES[0], crs=32633).to_crs(4326)
    found = open_labels(polygons({"class": SQUARES[1]}, list(frame.geometry), name, 4326), GRID).read()
    assert (found[:5, :10] == 1).all()
    assert (found[20:25, 30:35] == 1).all()
    assert (found[30:] == UNLABELLED).all()


def test_later_features_lie_on_top(polygons) -> None:
    labels = open_labels(polygons({"class": SQUARES[1]}, SQUARES[0]), GRID)
    assert labels.scheme.names == ("road", "tree")
    assert (labels.read()[5:10, 5:10] == 0).all()
    turned = open_labels(polygons({"class": SQUARES[1][::-1]}, SQUARES[0][::-1], "turned.gpkg"), GRID)
    assert (turned.read()[5:10, 5:10] == 1).all()


def test_windows_are_the_crops_of_the_whole(polygons) -> None:
    rng = np.random.default_rng(4)
    shapes = [square(*rng.uniform(-5, 45, 2), rng.uniform(1, 12)).buffer(rng.uniform(0, 2)) for _ in range(60)]
    labels = open_labels(polygons({"class": rng.integers(0, 4, 60)}, shapes), GRID)
    whole = labels.read()
    for _ in range(100):
        height, width = rng.integers(1, 20, 2)
        row, col = rng.integers(0, 40 - height), rng.integers(0, 50 - width)
        part = labels.read(Window(int(col), int(row), int(width), int(height)))
        np.testing.assert_array_equal(part, whole[row : row + height, col : col + width])
    expected = rasterize(
        zip(shapes, labels.source.ids.tolist(), strict=True),
        out_shape=GRID.shape,
        transform=GRID.transform,
        fill=UNLABELLED,
        dtype="uint8",
    )
    np.testing.assert_array_equal(whole, expected)


def test_background_is_a_class_only_when_asked_for(polygons) -> None:
    path = polygons({"class": SQUARES[1]}, SQUARES[0])
    labels = open_labels(path, GRID, polygons=PolygonOptions(background=True))
    assert labels.scheme.names == ("road", "tree", "background")
    assert labels.read()[39, 49] == 2
    with pytest.raises(RssegError, match="no class called background"):
        open_labels(path, GRID, ClassScheme.of_values([0, 1], {0: "road", 1: "tree"}), PolygonOptions(background=True))


def test_numbers_names_and_the_scheme_of_a_file(polygons) -> None:
    numbered = open_labels(polygons({"code": [311, 511, 311]}, SQUARES[0]), GRID)
    assert numbered.scheme.names == ("311", "511")
    corine = ClassScheme.of_names([("water", (511,), None), ("forest", (311, 312), None)])
    assert open_labels(polygons({"code": [311, 511, 311]}, SQUARES[0], "n.gpkg"), GRID, corine).read()[0, 0] == 1
    named = open_labels(polygons({"class": ["Forest", "water", "FOREST"]}, SQUARES[0], "w.gpkg"), GRID, corine)
    assert named.read()[0, 0] == 1


def test_where_and_field_and_layer(polygons, tmp_path: Path) -> None:
    path = polygons({"kind": SQUARES[1], "note": ["a", "b", "c"], "checked": [1, 0, 1]}, SQUARES[0])
    with pytest.raises(RssegError, match="none of its fields") as refused:
        open_labels(path, GRID)
    assert "kind, note, checked" in refused.value.hint
    options = PolygonOptions(class_field="kind", where="checked = 1")
    assert open_labels(path, GRID, polygons=options).scheme.names == ("tree",)
    assert open_labels(f"{path}:p", GRID, polygons=options).scheme.names == ("tree",)
    for text, wrong, match in (
        (f"{path}:q", options, "q"),
        (path, PolygonOptions(class_field="none"), "has no field 'none'"),
        (path, PolygonOptions(class_field="kind", where="checked ="), "cannot be read"),
        (path, PolygonOptions(class_field="kind", where="checked = 7"), "no polygon"),
        (str(tmp_path / "none.gpkg"), PolygonOptions(), "no such file"),
    ):
        with pytest.raises(RssegError, match=match):
            open_labels(text, GRID, polygons=wrong)


def test_several_layers_need_a_name(polygons) -> None:
    path = polygons({"class": SQUARES[1]}, SQUARES[0])
    geopandas.GeoDataFrame({"class": ["x"]}, geometry=[square(0, 0, 1)], crs=32633).to_file(path, layer="other")
    with pytest.raises(RssegError, match="has 2 layers"):
        open_labels(path, GRID)
    assert open_labels(f"{path}:other", GRID).scheme.names == ("x",)


def test_features_that_cannot_be_used_are_counted_aloud(polygons, caplog) -> None:
    shapes = [MultiPolygon([square(0, 0, 3), square(10, 0, 3)]), Point(500_001, 4_999_999), square(20, 0, 3)]
    labels = open_labels(polygons({"class": ["a", "b", None]}, shapes, "p.geojson"), GRID)
    assert (labels.read() != UNLABELLED).sum() == 18
    assert "1 of 3 features are no polygons" in caplog.text
    assert "1 of 3 features have no class" in caplog.text


def test_classes_outside_the_scheme_are_named(polygons) -> None:
    scheme = ClassScheme.of_values([0], {0: "tree"})
    with pytest.raises(RssegError, match="not in the scheme: road"):
        open_labels(polygons({"class": SQUARES[1]}, SQUARES[0]), GRID, scheme)


def test_polygons_without_coordinate_system(polygons) -> None:
    path = polygons({"class": ["a"]}, [box(0, 0, 5, 5)], "p.fgb", None)
    with pytest.raises(RssegError, match="has no coordinate system"):
        open_labels(path, GRID)
    plain = Grid(None, Affine.identity(), 10, 10)
    assert (open_labels(path, plain).read()[:5, :5] == 0).all()


def test_polygons_that_cannot_lie_on_the_raster_are_refused(polygons) -> None:
    path = polygons({"class": SQUARES[1]}, SQUARES[0])
    with pytest.raises(RssegError, match="has a coordinate system, unlike the raster"):
        open_labels(path, Grid(None, Affine.identity(), 10, 10))
    far = Grid(GRID.crs, Affine(1, 0, 600_000, 0, -1, 5_000_000), 40, 50)
    with pytest.raises(RssegError, match="none of its 3 polygons touches the raster"):
        open_labels(path, far)


def test_polygon_options_are_refused_for_rasters(make_raster) -> None:
    path = str(make_raster("l.tif", np.ones((3, 3), np.uint8)))
    with pytest.raises(RssegError, match="are for vector files"):
        open_labels(path, None, polygons=PolygonOptions(where="a = 1"))


def test_a_polygon_far_larger_than_the_raster_covers_it(polygons) -> None:
    path = polygons({"class": ["world"]}, [box(-179, -80, 179, 80)], "world.gpkg", 4326)
    assert (open_labels(path, GRID).read() == 0).all()


def test_names_that_differ_in_capitals_are_one_class(polygons) -> None:
    labels = open_labels(polygons({"class": ["Wald", "wald", "Wiese"]}, SQUARES[0]), GRID)
    assert len(labels.scheme.classes) == 2
    assert (labels.read() != UNLABELLED).sum() == 100 + 100 - 25 + 25


def test_a_table_without_geometry_is_no_layer_of_polygons(polygons) -> None:
    path = polygons({"class": SQUARES[1]}, SQUARES[0])
    pyogrio.write_dataframe(pandas.DataFrame({"class": ["a"]}), path, layer="codes", driver="GPKG", append=True)
    with pytest.raises(RssegError, match=r"p\.gpkg:codes: is a table without geometry"):
        open_labels(f"{path}:codes", GRID)
