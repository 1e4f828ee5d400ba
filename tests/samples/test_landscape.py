from dataclasses import replace

import numpy as np
import pytest

from rsseg_cli.samples.classes import BUILDING, GRASS, TREE, WATER
from rsseg_cli.samples.landscape import Building, Landscape, Patch, Tree
from rsseg_cli.samples.lattice import Lattice
from rsseg_cli.samples.light import Season
from rsseg_cli.samples.render import render
from rsseg_cli.samples.styles import KARST, MEADOW, Style
from rsseg_cli.samples.town import lay_out

NOON = Season("2024-06-14", 180.0, 45.0, 0.1, 0.0)
MORNING = replace(NOON, sun_azimuth_deg=90.0)
SIDE_PX, RESOLUTION_M = 160, 0.25
POND = Patch(((-18.0, -18.0), (-8.0, -18.0), (-8.0, -8.0), (-18.0, -8.0)), "water")
HOUSE = Building((0.0, 0.0), 10.0, 8.0, 0.0, 5.0, 0.0, "flat", "slate")
FIELD = Landscape(3, "lawn", 40.0, (), (POND,), (), (), (HOUSE,), (), ())


def place(east_m: float, north_m: float) -> tuple[slice, slice]:
    """A square of a metre around a ground point."""
    row, column = round(SIDE_PX / 2 - north_m / RESOLUTION_M), round(SIDE_PX / 2 + east_m / RESOLUTION_M)
    return slice(row - 2, row + 2), slice(column - 2, column + 2)


@pytest.mark.parametrize(("season", "shaded", "sunny"), [(NOON, (0, 6), (0, -6)), (MORNING, (-7, 0), (7, 0))])
def test_shadow_falls_away_from_the_sun(
    season: Season, shaded: tuple[float, float], sunny: tuple[float, float]
) -> None:
    picture = render(FIELD, season, SIDE_PX, RESOLUTION_M)
    dark = picture.reflectance[(slice(None), *place(*shaded))].mean()
    bright = picture.reflectance[(slice(None), *place(*sunny))].mean()
    assert dark < 0.5 * bright


def test_shadow_is_as_long_as_the_sun_is_low() -> None:
    red = render(FIELD, NOON, SIDE_PX, RESOLUTION_M).reflectance[0]
    # Walls of 5 m under a sun at 45 degrees: 5 m of shadow north of the wall at 4 m.
    assert red[place(0, 8)].mean() < 0.5 * red[place(0, 10.5)].mean()


def test_light_and_season_leave_labels_alone() -> None:
    noon, morning = (render(FIELD, season, SIDE_PX, RESOLUTION_M) for season in (NOON, MORNING))
    np.testing.assert_array_equal(noon.labels, morning.labels)
    assert (noon.labels[place(0, 6)] == GRASS).all()
    assert (noon.labels[place(0, 0)] == BUILDING).all()
    assert (noon.labels[place(-13, -13)] == WATER).all()


def test_roof_sides_are_lit_by_where_they_face() -> None:
    gabled = replace(FIELD, buildings=(replace(HOUSE, rise_m=3.0, shape="gable"),))
    red = render(gabled, NOON, SIDE_PX, RESOLUTION_M).reflectance[0]
    assert red[place(0, 2)].mean() < 0.6 * red[place(0, -2)].mean()


def test_a_crown_hides_what_it_hangs_over() -> None:
    grown = replace(FIELD, trees=(Tree((5.0, 0.0), 3.0, 9.0, "leaves"),))
    assert (render(grown, NOON, SIDE_PX, RESOLUTION_M).labels[place(4.5, 0)] == TREE).all()


def test_a_new_building_changes_nothing_far_from_it() -> None:
    shed = Building((12.0, 12.0), 4.0, 4.0, 0.3, 2.5, 0.0, "flat", "concrete")
    before = render(FIELD, NOON, SIDE_PX, RESOLUTION_M)
    after = render(replace(FIELD, buildings=(HOUSE, shed)), NOON, SIDE_PX, RESOLUTION_M)
    changed = np.argwhere((before.reflectance != after.reflectance).any(axis=0))
    rows, columns = place(12.0, 12.0)
    assert len(changed) > 100
    assert np.abs(changed - [rows.start + 2, columns.start + 2]).max() * RESOLUTION_M < 8


def in_view(element: Building | Tree) -> bool:
    return max(map(abs, element.centre)) < 75.0


@pytest.mark.parametrize("style", [MEADOW, KARST], ids=["meadow", "karst"])
def test_a_larger_landscape_holds_the_smaller_one(style: Style) -> None:
    small, large = (lay_out(Lattice(4, style), side_m) for side_m in (150.0, 400.0))
    assert {house for house in small.buildings if in_view(house)} <= set(large.buildings)
    assert {tree for tree in small.trees if in_view(tree)} <= set(large.trees)
    assert len(large.buildings) > 2 * len(small.buildings)


@pytest.mark.parametrize("style", [MEADOW, KARST], ids=["meadow", "karst"])
def test_streets_are_free_of_buildings(style: Style) -> None:
    town = lay_out(Lattice(4, style), 200.0)
    points = np.array([point for road in town.roads if road.kind == "street" for point in road.line])
    for building in town.buildings:
        apart_m = np.hypot(*(points - building.centre).T).min()
        assert apart_m > min(building.length_m, building.width_m) / 2


def test_streets_of_one_town_bend_and_of_the_other_run_straight() -> None:
    def bend(style: Style) -> float:
        x, y = Lattice(4, style).world(np.linspace(0, 300, 100), np.zeros(100))
        across = (x - x[0]) * (y[-1] - y[0]) - (y - y[0]) * (x[-1] - x[0])
        return float(np.abs(across).max() / np.hypot(x[-1] - x[0], y[-1] - y[0]))

    assert bend(KARST) < 3.5
    assert bend(MEADOW) > 2 * bend(KARST)
