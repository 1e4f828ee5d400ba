from dataclasses import dataclass

import numpy as np
import pytest
from rasterio.windows import Window

from rsseg_cli.vector import corners as module
from rsseg_cli.vector.corners import EAST, NORTH, SOUTH, WEST, find_corners, stable_order


@dataclass
class Rows:
    ids: np.ndarray

    def read(self, window: Window) -> np.ndarray:
        assert window.height > 0
        return self.ids[window.row_off : window.row_off + window.height]


def looked_for(ids: np.ndarray) -> list[tuple[int, int, list[int]]]:
    """(x, y, ids around) of every point where edges meet at an angle, point by point."""
    framed = np.pad(ids, 1, constant_values=255)
    found = []
    for y, x in np.ndindex(ids.shape[0] + 1, ids.shape[1] + 1):
        (nw, ne), (sw, se) = framed[y : y + 2, x : x + 2].tolist()
        if (nw != ne or sw != se) and (nw != sw or ne != se):
            found.append((x, y, [nw, ne, se, sw]))
    return found


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (13, 17)])
@pytest.mark.parametrize("strip_rows", [1, 2, 5, 512])
@pytest.mark.parametrize("slice_px", [1, 20, 1 << 19])
def test_all_corners_in_raster_order(
    shape: tuple[int, int], strip_rows: int, slice_px: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLICE_PX", slice_px)
    for seed in range(5):
        ids = np.random.default_rng(seed).choice(np.array([0, 1, 255], np.uint8), shape)
        found = find_corners(Rows(ids), *shape, strip_rows)
        assert list(zip(found.x.tolist(), found.y.tolist(), found.around.T.tolist(), strict=True)) == looked_for(ids)


def test_nothing_has_no_corners() -> None:
    assert len(find_corners(Rows(np.full((3, 4), 255, np.uint8)), 3, 4)) == 0


def test_edges_of_a_pixel_are_walked_with_it_on_the_left() -> None:
    found = find_corners(Rows(np.zeros((1, 1), np.uint8)), 1, 1)
    north_west, north_east, south_west, south_east = 0, 1, 2, 3
    for way, corner in ((SOUTH, north_west), (EAST, south_west), (NORTH, south_east), (WEST, north_east)):
        assert np.flatnonzero(found.leads(way)).tolist() == [corner]
    assert not found.is_node.any()
    assert [ends.tolist() for ends in found.upright] == [[0, 1], [2, 3]]


def test_borders_that_end_at_others_are_nodes() -> None:
    found = find_corners(Rows(np.array([[0, 1], [2, 2]], np.uint8)), 2, 2)
    nodes = zip(found.x[found.is_node].tolist(), found.y[found.is_node].tolist(), strict=True)
    assert list(nodes) == [(1, 0), (0, 1), (1, 1), (2, 1)]


@pytest.mark.parametrize("below", [3, 1 << 16, 1 << 20])
def test_sorting_keeps_the_order_of_equals(below: int) -> None:
    keys = np.random.default_rng(1).integers(0, below, 5000).astype(np.int32)
    assert stable_order(keys).tolist() == np.argsort(keys, kind="stable").tolist()
