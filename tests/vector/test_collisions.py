"""Lines that get in each other's way once they were moved, and those that do not."""

from typing import Any

import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio.windows import Window

from rsseg_cli.classes import ClassScheme
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.labels import Labels
from rsseg_cli.vector import collisions as module
from rsseg_cli.vector.collisions import colliding
from rsseg_cli.vector.coverage import Coverage, polygonize
from rsseg_cli.vector.proposals import End, Proposal, nodes_of_sides
from rsseg_cli.vector.regularize import moved

IDS = np.zeros((30, 60), np.uint8)
IDS[25:] = 5
IDS[22:28, 40:50] = 4  # a house on the border of two fields,
IDS[8:18, 6:16] = 1  # two that are islands,
IDS[8:18, 30:40] = 2
IDS[11:13, 19:21] = 3  # and a pond between them


class Rows:
    def read(self, window: Window) -> np.ndarray:
        return IDS[window.row_off : window.row_off + window.height]


@pytest.fixture(scope="module")
def coverage() -> Coverage:
    return polygonize(
        Labels("mask.tif", Grid(None, Affine.identity(), *IDS.shape), ClassScheme.of_values(range(6)), Rows())
    )


def shell(coverage: Coverage, number: int) -> np.ndarray:
    (region,) = np.flatnonzero(coverage.ids == number)
    rings = coverage.rings
    return rings.sides[slice(*rings.offsets[coverage.parts[region] : coverage.parts[region] + 2])]


def becomes(coverage: Coverage, number: int, *corners: tuple[float, float]) -> Proposal:
    """A house that is an island, walked as shells are: downwards first."""
    sides, ring = shell(coverage, number), np.array([*corners, corners[0]]) @ (1, 1j)
    x, y = np.nonzero(number == IDS)[::-1]
    before = shapely.box(x.min(), y.min(), x.max() + 1, y.max() + 1)
    return Proposal(True, sides, [ring], nodes_of_sides(coverage)[sides], [], before, shapely.Polygon(corners))


def box(left: float, top: float, right: float, bottom: float) -> list[tuple[float, float]]:
    return [(left, top), (left, bottom), (right, bottom), (right, top)]


@pytest.mark.parametrize("piece", [1, 16])
@pytest.mark.parametrize(
    ("corners", "wrong"),
    [
        (box(5, 7, 17, 19), set()),
        (box(5, 7, 18.9, 19), set()),
        (box(5, 7, 19, 19), {0}),  # touches the pond
        (box(5, 7, 20, 19), {0}),  # cuts through it
        (box(5, 7, 22, 19), {0}),  # swallows it
        (box(5, 7, 19, 11), {0}),  # touches it at a corner
        (box(5, 7, 17, 26), {0}),  # cuts the border of fields
        ([(5, 7), (17, 19), (17, 7), (5, 19)], {0}),  # crosses itself
        ([(5, 7), (5, 19), (17, 19), (17, 7), (17, 19)], {0}),  # folds back on itself
        ([(5, 7), (5, 19), (17, 19), (17, 19), (17, 7)], {0}),  # has a step without length
    ],
)
def test_islands(
    coverage: Coverage, corners: Any, wrong: set[int], piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIECE", piece)
    proposals = [becomes(coverage, 1, *corners)]
    assert colliding(coverage, moved(coverage, proposals), proposals) == wrong


def test_of_two_that_collide_the_later_one_goes(coverage: Coverage) -> None:
    proposals = [becomes(coverage, 1, *box(5, 0.5, 26, 7)), becomes(coverage, 2, *box(24, 3, 40, 19))]
    assert colliding(coverage, moved(coverage, proposals), proposals) == {1}
    apart = [proposals[0], becomes(coverage, 2, *box(27, 3, 40, 19))]
    assert colliding(coverage, moved(coverage, apart), apart) == set()


def test_nobody_collides_with_nobody(coverage: Coverage) -> None:
    assert colliding(coverage, moved(coverage, []), []) == set()


def with_nodes(coverage: Coverage, rise: float, to: float) -> Proposal:
    """The house on the border, its roof raised and its nodes slid along its walls."""
    sides, nodes = shell(coverage, 4), nodes_of_sides(coverage)
    lines, grown = coverage.lines, box(40, 22 - rise, 50, 28)
    pieces = []
    for side in sides:
        x, y = (values[slice(*lines.offsets[side >> 1 : (side >> 1) + 2])] for values in (lines.x, lines.y))
        points = x + 1j * np.select([y == 25, y == 22], [to, 22 - rise], y)
        pieces.append(points[::-1] if side & 1 else points)
    ends = [
        End(int(side), complex(piece[0]), 0)
        for node, piece in zip(nodes[sides], pieces, strict=True)
        for side in coverage.leaving[node]
        if side >= 0 and side >> 1 not in sides >> 1
    ]
    assert len(ends) == 2
    return Proposal(True, sides, pieces, nodes[sides], ends, shapely.box(40, 22, 50, 28), shapely.Polygon(grown))


def test_lines_that_share_a_node_meet_there_and_nowhere_else(coverage: Coverage) -> None:
    for rise, to, wrong in ((1, 25.5, set()), (1, 24, set()), (5, 25, {0})):
        proposals = [with_nodes(coverage, rise, to)]
        assert colliding(coverage, moved(coverage, proposals), proposals) == wrong
