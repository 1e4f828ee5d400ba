"""ClassScheme: values to ids and back, merging, and what does not fit."""

import numpy as np
import pytest

from rsseg_cli.classes import UNLABELLED, ClassScheme, LabelClass, join
from rsseg_cli.errors import RssegError

CORINE = ClassScheme.of_names(
    [("forest", (311, 312, 313), "#1a7f37"), ("water", (511,), None), ("urban", (111, 112), None)]
)


def test_small_values_keep_their_number() -> None:
    scheme = ClassScheme.of_values([7, 2, 2, 0], names={2: "road"}, colors={0: "#010203"})
    assert scheme.ids == (0, 2, 7)
    assert scheme.names == ("0", "road", "7")
    assert scheme.classes[0].rgb == (1, 2, 3)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.int64, np.uint32])
def test_codes_beyond_8_bits_go_to_compact_ids(dtype: type) -> None:
    values = np.array([[311, 511, 313], [111, 0, 112]], dtype)
    ids = CORINE.to_ids(values, values == 0, "corine.tif")
    assert ids.dtype == np.uint8
    assert ids.tolist() == [[0, 1, 0], [2, UNLABELLED, 2]]


def test_the_number_of_a_class_is_its_first_value() -> None:
    codes = np.array([-5, 99_999, 3, 100_000_000_000], np.int64)
    scheme = ClassScheme.of_values(codes)
    ids = scheme.to_ids(codes, np.zeros(4, bool), "x")
    numbers = dict(zip(scheme.ids, scheme.numbers, strict=True))
    assert [numbers[number] for number in ids.tolist()] == codes.tolist()
    assert CORINE.numbers[:2] == (311, 511)


def test_where_values_do_not_tell_classes_apart_ids_are_the_numbers() -> None:
    named = ClassScheme.of_names([("forest", (), None), ("water", (), None)])
    assert named.numbers == named.ids == (0, 1)
    twice = ClassScheme((LabelClass(0, "forest", "#000000", (1,)), LabelClass(1, "water", "#0000ff", (1,))))
    assert twice.numbers == (0, 1)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_foreign_values_are_named_with_their_counts(dtype: type) -> None:
    values = np.array([311, 42, 42, 9], dtype)
    with pytest.raises(RssegError, match=r"9 \(1 pixels\), 42 \(2 pixels\)") as refused:
        CORINE.to_ids(values, values == 0, "corine.tif")
    assert "311/312/313 forest" in refused.value.problem


def test_255_is_no_id() -> None:
    assert ClassScheme.of_values([1, 255]).ids == (0, 1)
    with pytest.raises(RssegError, match="more than an 8-bit map holds"):
        ClassScheme.of_values(range(256))


def test_a_value_belongs_to_one_class() -> None:
    with pytest.raises(RssegError, match="value 3 belongs to two classes, a and b"):
        ClassScheme.of_names([("a", (3,), None), ("b", (3,), None)])


def test_schemes_join_by_name_and_new_classes_get_free_ids() -> None:
    here = ClassScheme.of_names([("road", (0,), None), ("tree", (1,), None)])
    there = ClassScheme.of_names([("Tree", (0,), None), ("water", (1,), None), ("sand", (2,), None)])
    joined, table = join(there, here)
    assert set(joined.names) == {"road", "tree", "water", "sand"}
    assert len(set(joined.ids)) == 4
    ids = {c.name: c.id for c in joined.classes}
    assert table[:3].tolist() == [ids["tree"], ids["water"], ids["sand"]]
    assert table[255] == UNLABELLED


def test_schemes_without_a_common_name_join_by_number() -> None:
    here, there = ClassScheme.of_values([3, 4], {3: "a", 4: "b"}), ClassScheme.of_values([4, 5])
    joined, table = join(there, here)
    assert joined.ids == (3, 4, 5)
    assert table[[4, 5]].tolist() == [4, 5]


def test_other_numbers_are_other_classes_unless_two_maps_are_of_one_place() -> None:
    here, there = ClassScheme.of_values([0, 1]), ClassScheme.of_values([1, 2])
    assert join(there, here)[1][[1, 2]].tolist() == [0, 1]
    joined, table = join(there, here, of_one_place=False)
    assert joined.names == ("0", "1", "2")
    assert table[[1, 2]].tolist() == [1, 2]


def test_new_classes_get_free_colours_unless_theirs_were_chosen() -> None:
    here = ClassScheme.of_names([("a", (1,), None), ("b", (2,), "#123456")])
    there = ClassScheme.of_names([("a", (1,), None), ("c", (3,), None), ("d", (4,), "#123456")])
    colors = {c.name: c.color for c in join(there, here)[0].classes}
    assert colors["d"] == "#123456"
    assert len({colors[name] for name in "abc"}) == 3


def test_classes_are_found_by_name_and_else_by_number() -> None:
    scheme = ClassScheme.of_names([("2", (1,), None), ("Forest", (2, 311), None)])
    found = {text: [c.name for c in scheme.named(text)] for text in ("2", "1", "311", "FOREST", "3")}
    assert found == {"2": ["2"], "1": ["2"], "311": ["Forest"], "FOREST": ["Forest"], "3": []}


def test_json_keeps_everything() -> None:
    assert ClassScheme.from_json(CORINE.to_json()) == CORINE


def test_default_colours_differ() -> None:
    colors = [c.color for c in ClassScheme.of_values(range(60)).classes]
    assert len(set(colors)) == 60
