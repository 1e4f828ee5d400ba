"""Square rings proposed for the rings of a small map, and where other lines are to meet them."""

import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio.features import rasterize
from rasterio.windows import Window
from shapely.affinity import rotate

from rsseg_cli.classes import ClassScheme
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.labels import Labels
from rsseg_cli.vector.coverage import Coverage, polygonize
from rsseg_cli.vector.proposals import Proposal, nodes_of_sides, polygons_of, propose, walked

HOUSE = 3


class Rows:
    def __init__(self, ids: np.ndarray) -> None:
        self.ids = ids

    def read(self, window: Window) -> np.ndarray:
        return self.ids[window.row_off : window.row_off + window.height]


def coverage_of(ids: np.ndarray) -> Coverage:
    scheme = ClassScheme.of_values(range(5))
    return polygonize(Labels("mask.tif", Grid(None, Affine.identity(), *ids.shape), scheme, Rows(ids.astype(np.uint8))))


def proposed(ids: np.ndarray) -> list[Proposal]:
    coverage = coverage_of(ids)
    return list(propose(coverage, np.flatnonzero(coverage.ids == HOUSE)))


def with_house(turn: float, fields: int = 0) -> np.ndarray:
    ids = np.zeros((50, 60), np.uint8)
    ids[22:] = fields
    return np.asarray(rasterize([(rotate(shapely.box(18, 16, 42, 30), turn), HOUSE)], out=ids))


def test_sides_that_leave_a_node_begin_at_one_place() -> None:
    coverage = coverage_of(np.random.default_rng(0).integers(0, 40, (20, 20)).clip(0, 3))
    nodes, lines = nodes_of_sides(coverage), coverage.lines
    ends = np.stack([lines.offsets[:-1], lines.offsets[1:] - 1], axis=1).ravel()
    places = lines.x[ends] + 1j * lines.y[ends]
    of_nodes = nodes < len(coverage.leaving)
    pairs = np.unique(np.stack([nodes[of_nodes], places[of_nodes]]), axis=1)
    assert pairs.shape[1] == len(coverage.leaving) == len(np.unique(pairs[1]))
    islands = nodes[~of_nodes].reshape(-1, 2)
    assert len(islands)
    assert (islands[:, 0] == islands[:, 1]).all()
    assert len(np.unique(islands)) == len(islands)


def test_rings_are_walked_as_they_lie_in_pixels() -> None:
    ids = np.zeros((6, 8), np.uint8)
    ids[1:5, 2:7] = 1
    ids[2:4, 3:5] = 2
    coverage = coverage_of(ids)
    found = polygons_of(walked(coverage, np.array([2, 3, 4])))
    boxes = [shapely.box(2, 1, 7, 5), shapely.box(3, 2, 5, 4), shapely.box(3, 2, 5, 4)]
    assert shapely.equals(found, boxes).all()
    # As y grows downwards, what is anticlockwise on a screen counts as clockwise.
    assert shapely.is_ccw(shapely.get_exterior_ring(found)).tolist() == [False, True, False]


@pytest.mark.parametrize("turn", [0, 12, 45, 80])
def test_an_island_is_one_piece(turn: float) -> None:
    ids = with_house(turn)
    (found,) = proposed(ids)
    assert found.is_shell
    assert found.ends == []
    (ring,) = found.pieces
    assert len(ring) == 5
    assert ring[0] == ring[-1]
    assert found.after.area == pytest.approx((ids == HOUSE).sum(), rel=0.02)
    assert found.after.hausdorff_distance(rotate(shapely.box(18, 16, 42, 30), turn)) < 1.5


@pytest.mark.parametrize("turn", [0, 12, 45, 80])
def test_a_ring_with_nodes_is_cut_there_and_lines_led_to_it(turn: float) -> None:
    ids = with_house(turn, fields=1)
    coverage = coverage_of(ids)
    (found,) = proposed(ids)
    assert len(found.pieces) == len(found.sides)
    for piece, after in zip(found.pieces, [*found.pieces[1:], found.pieces[0]], strict=True):
        assert piece[-1] == after[0]
    ring = np.concatenate([piece[:-1] for piece in found.pieces])
    joined = shapely.Polygon(np.stack([ring.real, ring.imag], axis=1))
    assert joined.symmetric_difference(found.after).area < 1e-9
    assert {end.place for end in found.ends} <= {piece[0] for piece in found.pieces}
    for end in found.ends:
        assert coverage.region[[end.side, end.side ^ 1]].tolist().count(-1) == 0
        assert found.after.boundary.distance(shapely.Point(end.place.real, end.place.imag)) < 1e-9


def test_lines_lose_the_points_that_the_house_swallows() -> None:
    ids = with_house(0, fields=1)
    ids[19:22, 41], ids[22:25, 41] = 0, 1  # a dent that is filled, where the border of the fields ends
    assert sorted(end.lost for end in proposed(ids)[0].ends) == [0, 0]
    ids[22, 41] = 0  # and has a step
    assert sorted(end.lost for end in proposed(ids)[0].ends) == [0, 2]


def test_small_regions_and_those_at_the_frame_get_none() -> None:
    ids = np.zeros((40, 60), np.uint8)
    ids[5:7, 5:7] = ids[30:40, 10:25] = HOUSE
    assert proposed(ids) == []
    ids[10:20, 40:55] = HOUSE
    assert len(proposed(ids)) == 1


def test_where_a_region_comes_to_a_node_twice_nothing_is_proposed() -> None:
    ids = np.zeros((30, 30), np.uint8)
    ids[5:25, 5:25] = HOUSE
    ids[24, 24] = ids[23, 23] = 1  # a hole that touches the outline with a tip
    assert proposed(ids) == []


def test_large_regions_come_first_and_holes_after_their_shell() -> None:
    ids = np.zeros((60, 90), np.uint8)
    ids[5:15, 5:20] = HOUSE
    ids[20:50, 20:80] = HOUSE
    ids[30:40, 40:60] = 1
    found = proposed(ids)
    assert [proposal.is_shell for proposal in found] == [True, False, True]
    assert [proposal.after.area for proposal in found] == [1800, 200, 150]
