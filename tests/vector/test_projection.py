import geopandas
import numpy as np
import pytest
import shapely
from rasterio.crs import CRS

from rsseg_cli.errors import RssegError
from rsseg_cli.vector.polygons import Outlines
from rsseg_cli.vector.projection import crs_name, oriented, project

UTM, LONLAT, MERCATOR = (CRS.from_epsg(number) for number in (32633, 4326, 3857))
WESTWARD = CRS.from_wkt(
    'PROJCRS["seen from below",BASEGEOGCRS["WGS 84",DATUM["WGS 84",ELLIPSOID["WGS 84",6378137,298.257223563]]],'
    'CONVERSION["m",METHOD["Mercator (variant A)"],PARAMETER["Latitude of natural origin",0],'
    'PARAMETER["Longitude of natural origin",0],PARAMETER["Scale factor at natural origin",1],'
    'PARAMETER["False easting",0],PARAMETER["False northing",0]],'
    'CS[Cartesian,2],AXIS["westing",west],AXIS["northing",north],LENGTHUNIT["metre",1]]'
)
SQUARES = [
    shapely.Polygon(shapely.box(0, 0, 9, 9).exterior.coords[::-1], [shapely.box(1, 1, 2, 2).exterior.coords]),
    shapely.box(20, 20, 20.001, 20.001),
]


def outlines_of(*polygons: shapely.Polygon) -> Outlines:
    _, xy, (rings, parts) = shapely.to_ragged_array(list(polygons))
    return Outlines(xy, rings, parts)


def polygons_of(outlines: Outlines) -> np.ndarray:
    return shapely.from_ragged_array(shapely.GeometryType.POLYGON, outlines.xy, (outlines.rings, outlines.polygons))


def is_turned_well(polygon: shapely.Polygon) -> bool:
    return polygon.exterior.is_ccw and not any(hole.is_ccw for hole in polygon.interiors)


def placed(*polygons: shapely.Polygon) -> list[shapely.Polygon]:
    """Small shapes, moved to where UTM is at home."""
    return [shapely.transform(polygon, lambda xy: xy + np.array([400_000, 5_400_000])) for polygon in polygons]


@pytest.mark.parametrize("shift", [0, 1e7])
def test_rings_turn_the_right_way_and_stay_where_they_are(shift: float) -> None:
    mixed = [shapely.transform(polygon, lambda xy: xy + shift) for polygon in SQUARES]
    mixed += [shapely.reverse(polygon) for polygon in mixed]
    assert not all(is_turned_well(polygon) for polygon in mixed)
    turned = polygons_of(oriented(outlines_of(*mixed)))
    assert all(is_turned_well(polygon) for polygon in turned)
    assert shapely.equals_identical(shapely.normalize(turned), shapely.normalize(mixed)).all()
    assert shapely.is_closed(shapely.get_exterior_ring(turned)).all()


def test_rings_that_turn_well_already_are_left_alone() -> None:
    outlines = oriented(outlines_of(*SQUARES))
    assert oriented(outlines) is outlines


@pytest.mark.parametrize("target", [LONLAT, MERCATOR, CRS.from_epsg(5514), WESTWARD])
def test_polygons_come_to_their_place(target: CRS) -> None:
    there = placed(*SQUARES)
    moved = polygons_of(project(outlines_of(*there), UTM, target))
    wanted = geopandas.GeoSeries(there, crs=UTM.to_wkt()).to_crs(target.to_wkt())
    assert shapely.equals_exact(shapely.normalize(moved), shapely.normalize(wanted.to_numpy()), 1e-9).all()
    assert all(is_turned_well(polygon) for polygon in moved)


def test_a_projection_may_mirror() -> None:
    """Or else the test above shows nothing."""
    one = shapely.box(1, 1, 2, 2)
    moved = project(outlines_of(one), LONLAT, WESTWARD)
    assert moved.xy[:, 0].max() < 0
    assert is_turned_well(polygons_of(moved)[0])


def test_places_that_a_crs_does_not_know_are_refused_with_its_name() -> None:
    with pytest.raises(RssegError, match="EPSG:2154 has no coordinates"):
        project(outlines_of(shapely.box(0, -90, 10, 50)), LONLAT, CRS.from_epsg(2154))


def test_polygons_over_the_antimeridian_are_refused() -> None:
    fiji = CRS.from_epsg(32701)
    east, across = shapely.box(200_000, 8e6, 300_000, 8.1e6), shapely.box(100_000, 8e6, 300_000, 8.1e6)
    assert project(outlines_of(east), fiji, LONLAT).xy[:, 0].max() < -178
    with pytest.raises(RssegError, match="180 degrees"):
        project(outlines_of(across), fiji, LONLAT)


def test_the_whole_world_is_not_torn() -> None:
    world = outlines_of(shapely.box(-20037508, -1e7, 20037508, 1e7), shapely.box(-2e7, -1e7, -1.9e7, 0))
    assert np.ptp(project(world, MERCATOR, LONLAT).xy[:, 0]) > 359


def test_a_crs_that_is_nowhere_on_earth_is_refused() -> None:
    site = CRS.from_wkt('LOCAL_CS["building site",UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]')
    with pytest.raises(RssegError, match="no way leads from the coordinate system building site to WGS 84"):
        project(outlines_of(*SQUARES), site, LONLAT)


def test_names_are_short() -> None:
    assert crs_name(UTM) == "EPSG:32633"
    assert crs_name(WESTWARD) == "seen from below"
