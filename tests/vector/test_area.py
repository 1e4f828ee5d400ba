"""The area that a map is wanted of: the right window, the right pixels, and clear words where there is none."""

import warnings
from pathlib import Path
from types import SimpleNamespace

import geopandas
import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.windows import Window
from shapely.affinity import rotate
from shapely.geometry import LineString, Point, Polygon, box

from rsseg_cli.errors import RssegError
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.scene import Band, Scene
from rsseg_cli.vector.area import open_area

NORTH_UP = Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)


def scene(transform: Affine = NORTH_UP, crs: object = 32633) -> Scene:
    grid = Grid(CRS.from_epsg(crs) if crs else None, transform, 80, 100)
    return Scene("town.tif", grid, (Band("1", "uint8"),), SimpleNamespace())


@pytest.fixture
def polygons(tmp_path: Path):
    def write(*shapes: object, crs: object = 32633, to: object = None, name: str = "a.gpkg") -> str:
        frame = geopandas.GeoDataFrame(geometry=list(shapes), crs=crs)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'crs' was not provided")
            (frame.to_crs(to) if to else frame).to_file(tmp_path / name)
        return str(tmp_path / name)

    return write


def at(col: float, row: float) -> tuple[float, float]:
    return NORTH_UP @ (col, row)


def rectangle(left: float, top: float, right: float, bottom: float) -> Polygon:
    return Polygon([at(left, top), at(right, top), at(right, bottom), at(left, bottom)])


@pytest.mark.parametrize("to", [None, 4326, 3857])
def test_the_window_holds_the_polygons_and_nothing_else(polygons, to: int | None) -> None:
    disc = Point(at(40, 30)).buffer(7.15)
    area = open_area(polygons(disc, rectangle(60.2, 10.2, 70.8, 15.8), to=to), scene())
    assert area.window == Window(25, 10, 46, 35)
    expected = rasterize([disc, rectangle(60.2, 10.2, 70.8, 15.8)], out_shape=(80, 100), transform=NORTH_UP)
    np.testing.assert_array_equal(area.inside.read(Window(0, 0, 100, 80)), expected)
    np.testing.assert_array_equal(area.inside.read(Window(33, 21, 9, 14)), expected[21:35, 33:42])


def test_the_window_ends_where_the_scene_ends(polygons) -> None:
    # The second polygon lies elsewhere, and does not count.
    path = polygons(rectangle(-50, 70, 10, 200), rectangle(500, 20, 600, 30))
    assert open_area(path, scene()).window == Window(0, 70, 10, 10)
    assert open_area(polygons(box(-170, -80, 170, 80), crs=4326, name="world.gpkg"), scene()).window == Window(
        0, 0, 100, 80
    )


def test_turned_scenes(polygons) -> None:
    turned = NORTH_UP @ Affine.rotation(30)
    corners = [turned @ corner for corner in ((20, 10), (30, 10), (30, 40), (20, 40))]
    area = open_area(polygons(Polygon(corners).buffer(-0.01)), scene(turned))
    assert area.window == Window(20, 10, 10, 30)
    assert area.inside.read(area.window).all()


def test_an_area_smaller_than_a_pixel_is_a_pixel(polygons) -> None:
    area = open_area(polygons(rectangle(99.6, 79.6, 99.9, 79.9)), scene())
    assert area.window == Window(99, 79, 1, 1)
    assert not area.inside.read(area.window).any()


def test_the_same_outlines_have_the_same_digest(polygons) -> None:
    one, again, other = (
        open_area(polygons(rectangle(1, 1, size, 9), name=f"{n}.gpkg"), scene()).digest
        for n, size in enumerate((5, 5, 6))
    )
    assert one == again != other


def test_layers_and_without_a_coordinate_system(polygons, tmp_path: Path) -> None:
    path = polygons(rectangle(10, 10, 20, 20))
    geopandas.GeoDataFrame(geometry=[rectangle(30, 30, 50, 40)], crs=32633).to_file(path, layer="other")
    assert open_area(f"{path}:other", scene()).window == Window(30, 30, 20, 10)
    with pytest.raises(RssegError, match="has 2 layers"):
        open_area(path, scene())
    plain = polygons(box(5, 10, 20, 30), crs=None, name="plain.fgb")
    assert open_area(plain, scene(Affine.identity(), None)).window == Window(5, 10, 15, 20)


def test_areas_that_are_none_are_refused(polygons, tmp_path: Path) -> None:
    (tmp_path / "text.gpkg").write_text("hello")
    turned = rotate(rectangle(0, 0, 5, 5), 10)
    for text, place, match in (
        (
            polygons(Point(at(1, 1)), LineString([at(1, 1), at(9, 9)]), name="lines.geojson"),
            scene(),
            "holds no polygon",
        ),
        (polygons(turned, crs=None, name="no.fgb"), scene(), "has no coordinate system, unlike town.tif"),
        (polygons(turned, name="has.gpkg"), scene(Affine.identity(), None), "has a coordinate system, unlike town.tif"),
        (polygons(rectangle(100, 0, 120, 80), name="beside.gpkg"), scene(), "none of its 1 polygons touches town.tif"),
        (str(tmp_path / "text.gpkg"), scene(), "holds something else than its name says"),
        (str(tmp_path / "none.gpkg"), scene(), "no such file"),
    ):
        with pytest.raises(RssegError, match=match):
            open_area(text, place)


@pytest.mark.parametrize(("far", "said"), [((13.4, 52.5), "13.4, 52.5"), ((120.5, -30.25), "120.5, -30.25")])
def test_both_places_are_told_where_they_do_not_meet(polygons, far: tuple[float, float], said: str) -> None:
    with pytest.raises(RssegError, match="touches") as refused:
        open_area(polygons(Point(far).buffer(2), crs=4326), scene())
    assert (
        f"the polygons lie around {said}, the raster around 15.0003, 45.1533 (longitude, latitude)"
        in refused.value.hint
    )
