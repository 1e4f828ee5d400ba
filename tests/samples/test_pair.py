"""The sample pair: what changed is known, and what did not change looks different all the same."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from rsseg_cli.samples import SamplePair, draw_pair, pair_sheet
from rsseg_cli.samples.classes import BARE, BUILDING, ROAD, TREE, WATER
from rsseg_cli.samples.drift import in_autumn
from rsseg_cli.samples.landscape import Landscape
from rsseg_cli.samples.pair import BEFORE, NOTHING, SHIFT_PX, UNSEEN, changed_kinds
from rsseg_cli.samples.scenes import lattice_of
from rsseg_cli.samples.town import lay_out
from rsseg_cli.samples.works import BUILT, DUG, FELLED, FLOODED, KINDS, PAVED, REMOVED, Works, emptied, filled, planned

LATTICE = lattice_of(BEFORE.style, BEFORE.towns[0])


@pytest.fixture(scope="module")
def ground() -> Landscape:
    return lay_out(LATTICE, 220.0)


@pytest.fixture(scope="module")
def works(ground: Landscape) -> Works:
    return planned(LATTICE, ground.side_m)


def seen(pair: SamplePair) -> np.ndarray:
    return pair.kinds != NOTHING


def test_every_kind_of_change_is_there_and_changes_are_few(pair: SamplePair) -> None:
    assert 0.05 < (pair.truth[seen(pair)] == 1).mean() < 0.08
    areas = {kind: (pair.kinds == kind).sum() for kind, _, _ in KINDS}
    assert min(areas.values()) > 100, areas
    assert set(np.unique(pair.kinds)) == {0, NOTHING, *areas}
    assert set(np.unique(pair.truth)) == {0, 1, NOTHING}


def test_land_cover_tells_the_same_as_the_kinds(pair: SamplePair) -> None:
    before, after = (np.where(seen(pair), scene.labels, NOTHING) for scene in (pair.before, pair.after))
    for kind, lost in ((FELLED, TREE), (REMOVED, BUILDING)):
        assert (before[pair.kinds == kind] == lost).mean() > 0.85
        assert (after[pair.kinds == kind] == lost).mean() < 0.1
    for kind, gained in ((DUG, BARE), (FLOODED, WATER), (PAVED, ROAD), (BUILT, BUILDING)):
        assert (after[pair.kinds == kind] == gained).mean() > 0.95
    # Pixels on the border of a change may be half of each.
    border = ndimage.binary_dilation(pair.truth == 1, np.ones((3, 3)))
    assert (before == after)[(pair.truth == 0) & ~border].mean() > 0.9995


def test_the_dates_lie_on_one_grid(pair: SamplePair) -> None:
    before, after = pair.before, pair.after
    assert (before.origin, before.gsd_m, before.epsg) == (after.origin, after.gsd_m, after.epsg)
    assert before.image.shape == after.image.shape == (4, *pair.kinds.shape)
    assert before.bands == after.bands
    assert before.date < after.date


def test_one_date_lacks_a_corner(pair: SamplePair) -> None:
    assert (pair.before.nodata, pair.after.nodata) == (None, UNSEEN)
    empty = pair.after.image == UNSEEN
    np.testing.assert_array_equal(empty, np.broadcast_to(~seen(pair), empty.shape))
    assert empty[0, 0, -1]
    assert not empty[0, -1, 0]
    assert 0.01 < empty.mean() < 0.05


def test_the_second_date_is_misplaced_by_seven_tenths_of_a_pixel(pair: SamplePair) -> None:
    """The offset at which roads and roofs, which no season changes, fit best is the one that is told."""
    assert np.hypot(*SHIFT_PX) == pytest.approx(0.7, abs=0.005)
    red, moved = (scene.image[0].astype(float) for scene in (pair.before, pair.after))
    hard = ndimage.binary_dilation(np.isin(pair.before.labels, (ROAD, BUILDING)), iterations=2) & (pair.truth == 0)
    steps = np.arange(-2.0, 2.01, 0.2)

    def fit(right: float, down: float) -> float:
        back = ndimage.shift(moved, (-down, -right), order=1, mode="nearest")
        return float(np.corrcoef(ndimage.sobel(red)[hard], ndimage.sobel(back)[hard])[0, 1])

    right = steps[np.argmax([fit(step, SHIFT_PX[1]) for step in steps])]
    down = steps[np.argmax([fit(SHIFT_PX[0], step) for step in steps])]
    assert (right, down) == pytest.approx(SHIFT_PX, abs=0.25)


def test_season_and_cars_are_no_change(ground: Landscape) -> None:
    later = in_autumn(ground)
    assert {tree.material for tree in later.trees} - {tree.material for tree in ground.trees} == {"autumn leaves"}
    assert 0.2 < len(set(ground.cars) & set(later.cars)) / len(ground.cars) < 0.6
    assert later.patches != ground.patches
    with_cars = (ground, ground, replace(ground, cars=later.cars))
    assert not changed_kinds(with_cars, 2 * (64 + 64), 0.4).any()


def test_trees_stand_neither_in_new_houses_nor_on_new_streets(ground: Landscape, works: Works) -> None:
    last = filled(emptied(ground, works), works)
    stems = np.array([tree.centre for tree in last.trees])
    houses = set(last.buildings) - set(ground.buildings)
    assert houses
    for house in houses:
        assert np.hypot(*(stems - house.centre).T).min() > min(house.length_m, house.width_m) / 2
    for road in works.new.roads:
        middle = np.array(road.line[2:-2])
        assert np.hypot(*(stems[:, None] - middle).transpose(2, 0, 1)).min() > road.width_m / 2


def test_only_small_buildings_are_torn_down(ground: Landscape, works: Works) -> None:
    gone = set(ground.buildings) - set(emptied(ground, works).buildings)
    assert gone
    assert max(building.length_m * building.width_m for building in gone) < 30


def test_a_larger_landscape_has_the_works_of_the_smaller_one(works: Works) -> None:
    larger = planned(LATTICE, 500.0)
    assert set(works.new.buildings) < set(larger.new.buildings)
    assert set(works.new.waters) < set(larger.new.waters)
    assert set(works.felled) < set(larger.felled)


def test_another_seed_draws_another_place(pair: SamplePair) -> None:
    other, middle = draw_pair(64, 2), slice(96, 160)
    assert (other.before.labels != pair.before.labels[middle, middle]).mean() > 0.3


def test_the_sheet_shows_both_dates_and_the_kinds(pair: SamplePair) -> None:
    sheet = pair_sheet(pair)
    side = pair.kinds.shape[0]
    assert sheet.shape[:2] == (3, side)
    shown = set(map(tuple, sheet[:, :, -side:].reshape(3, -1).T.tolist()))
    assert {tuple(int(code[at : at + 2], 16) for at in (1, 3, 5)) for _, _, code in KINDS} <= shown
