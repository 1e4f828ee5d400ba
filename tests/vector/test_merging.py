import numpy as np
import pytest
from coverages import PIXEL_M2, burnt, drawn, labels_of, masks
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from rsseg_cli.classes import UNLABELLED, ClassScheme
from rsseg_cli.errors import RssegError
from rsseg_cli.vector.coverage import polygonize
from rsseg_cli.vector.merging import Least, merged


def after(mask: np.ndarray, least_px: float = 0, holes_px: float = 0, **by_id: float) -> np.ndarray:
    sizes = [(int(name[1:]), size * PIXEL_M2) for name, size in by_id.items()]
    return burnt(merged(labels_of(mask), Least.of(least_px * PIXEL_M2, sizes, holes_px * PIXEL_M2)))


def test_a_sliver_goes_where_its_border_is_longest() -> None:
    mask = drawn("00000000", "00222000", "00111111", "11111111")
    np.testing.assert_array_equal(after(mask, 4), drawn("00000000", "00000000", "00111111", "11111111"))


def test_pieces_of_one_class_become_one_polygon_when_what_parted_them_goes() -> None:
    coverage = merged(labels_of(drawn("00100", "00100", "00100")), Least.of(4 * PIXEL_M2))
    assert (coverage.ids.tolist(), coverage.pixels.tolist()) == ([0], [15])


def test_the_least_size_is_for_each_class() -> None:
    mask = drawn("000000", "011020", "000000")
    np.testing.assert_array_equal(after(mask, 0, n1=3), drawn("000000", "000020", "000000"))
    np.testing.assert_array_equal(after(mask, 9, n1=2), drawn("000000", "011000", "000000"))


def test_what_lies_alone_in_nothing_goes() -> None:
    np.testing.assert_array_equal(after(drawn("1...", "..11", "..11"), 2), drawn("....", "..11", "..11"))


def test_holes_are_filled_up_to_a_size_and_the_surroundings_never() -> None:
    mask = drawn(".......", ".11111.", ".1.111.", ".111..1", ".111..1", ".11111.")
    np.testing.assert_array_equal(
        after(mask, holes_px=2), drawn(".......", ".11111.", ".11111.", ".111..1", ".111..1", ".11111.")
    )
    filled = after(mask, holes_px=100)
    assert (filled[3:5, 4:6] == 1).all()
    assert (filled[mask != 1][:8] == UNLABELLED).all()


def test_an_island_in_a_filled_hole_stays() -> None:
    mask = drawn("11111", "1...1", "1.2.1", "1...1", "11111")
    np.testing.assert_array_equal(after(mask, holes_px=9), drawn("11111", "11111", "11211", "11111", "11111"))


def test_a_filled_hole_counts_as_ground_when_slivers_look_for_a_neighbour() -> None:
    mask = drawn("0000000000", "00......00", "0033333300", "0011111100", "1111111111")
    found = after(mask, 8, holes_px=7)
    assert (found[2, 2:8] == 0).all()


def test_a_hole_of_just_that_size_is_filled() -> None:
    assert (after(drawn("111", "1.1", "111"), holes_px=1) == 1).all()


def test_a_small_island_does_not_keep_its_hole_from_being_filled() -> None:
    mask = drawn("1111111", "1.....1", "1.222.1", "1.....1", "1111111")
    assert (after(mask, 4, holes_px=12.5) == 1).all()


def test_sizes_may_be_fractions() -> None:
    assert Least.of(0, holes=0.5).holes == 0.5
    assert Least.of(0, [(3, 0.5)]).regions[3] == 0.5


@settings(max_examples=200, deadline=None)
@given(masks(), st.sampled_from([0, 2, 5, 40]), st.sampled_from([0, 3, 30]))
def test_nothing_small_is_left_and_no_hole_is_made(mask: np.ndarray, least_px: int, holes_px: int) -> None:
    coverage = merged(labels_of(mask), Least.of(least_px * PIXEL_M2, holes=holes_px * PIXEL_M2))
    assert (coverage.pixels >= least_px).all()
    left = burnt(coverage)
    again = polygonize(labels_of(left))
    np.testing.assert_array_equal(again.pixels, coverage.pixels)  # one polygon a region
    if not holes_px:
        assert (left[mask == UNLABELLED] == UNLABELLED).all()
    lost = (left == UNLABELLED) & (mask != UNLABELLED)
    # What goes altogether lay in nothing, and was too small with all its neighbours together.
    land, _ = ndimage.label(mask != UNLABELLED)
    assert (np.bincount(land.ravel())[land[lost]] < least_px).all()


def test_equal_slivers_in_a_row_take_few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    from rsseg_cli.vector import merging

    rounds = []
    smallest = merging._Graph.smallest
    monkeypatch.setattr(merging._Graph, "smallest", lambda graph, least: rounds.append(0) or smallest(graph, least))
    stripes = np.tile(np.arange(2000, dtype=np.uint8)[np.newaxis] % 2, (2, 1))
    coverage = merged(labels_of(stripes), Least.of(3 * PIXEL_M2))
    assert (coverage.pixels >= 3).all()
    assert len(rounds) < 30


def test_a_full_scheme_has_no_room_for_holes() -> None:
    labels = labels_of(np.arange(255)[np.newaxis])
    assert isinstance(labels.scheme, ClassScheme)
    with pytest.raises(RssegError, match="255 classes"):
        merged(labels, Least.of(0, holes=1))
