"""Label maps laid upon one another, and their classes merged, left out and chosen."""

from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.windows import Window

from rsseg_cli.classes import UNLABELLED, ClassScheme
from rsseg_cli.errors import RssegError
from rsseg_cli.raster import labels as raster_labels
from rsseg_cli.raster.labels import Labels, open_label_raster
from rsseg_cli.vector.masks import NO_MASK, choose, open_masks, remap

HALF_METRE = Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)


def at(col: float, row: float) -> Affine:
    return HALF_METRE @ Affine.translation(col, row)


def byte(*rows: list[int]) -> np.ndarray:
    return np.array(rows, np.uint8)


def test_one_mask_is_itself(make_raster) -> None:
    path = str(make_raster("m.tif", byte([1, 2, 255])))
    masks = open_masks([path])
    assert masks.labels == open_label_raster(path)
    assert masks.paths == (path,)
    assert masks.origins.read(Window(0, 0, 3, 1)).tolist() == [[0, 0, NO_MASK]]


def test_later_masks_lie_on_top_where_they_have_a_label(make_raster) -> None:
    below = str(make_raster("a.tif", np.full((3, 3), 1, np.uint8), nodata=255))
    above = str(make_raster("b.tif", byte([2, 255, 2], [2, 2, 2]), nodata=255, transform=at(1, -1)))
    masks = open_masks([below, above])
    assert masks.labels.grid.transform == at(0, -1)
    none = UNLABELLED
    assert masks.labels.read().tolist() == [[none, 2, none, 2], [1, 2, 2, 2], [1, 1, 1, none], [1, 1, 1, none]]
    origins = masks.origins.read(masks.labels.grid.window)
    assert origins.tolist() == [
        [NO_MASK, 1, NO_MASK, 1],
        [0, 1, 1, 1],
        [0, 0, 0, NO_MASK],
        [0, 0, 0, NO_MASK],
    ]


def test_any_window_is_the_crop_of_the_whole(make_raster) -> None:
    rng = np.random.default_rng(4)
    places = [at(0, 0), at(17, 5), at(-8, 30), HALF_METRE @ Affine.translation(3.3, 9.7) @ Affine.scale(1.7)]
    choice = np.array([0, 1, 2, 255], np.uint8)
    paths = [
        str(make_raster(f"{number}.tif", rng.choice(choice, (25, 33)), nodata=255, transform=place))
        for number, place in enumerate(places)
    ]
    masks = open_masks(paths)
    whole, origins = masks.labels.read(), masks.origins.read(masks.labels.grid.window)
    assert set(np.unique(origins).tolist()) == {0, 1, 2, 3, NO_MASK}
    assert ((origins == NO_MASK) == (whole == UNLABELLED)).all()
    for window in (Window(0, 0, 5, 7), Window(3, 20, 30, 1), Window(20, 13, 9, 40)):
        np.testing.assert_array_equal(masks.labels.read(window), whole[window.toslices()])
        np.testing.assert_array_equal(masks.origins.read(window), origins[window.toslices()])


def test_a_window_reads_no_mask_that_it_does_not_touch(make_raster, monkeypatch) -> None:
    paths = [str(make_raster(f"{n}.tif", byte([1, 2]), transform=at(2 * n, 0))) for n in range(5)]
    masks = open_masks(paths)
    opened: list[str] = []
    plain: Callable[..., object] = raster_labels.reading
    monkeypatch.setattr(raster_labels, "reading", lambda path, stamps: opened.append(path) or plain(path, stamps))
    assert masks.labels.read(Window(3, 0, 3, 1)).tolist() == [[2, 1, 2]]
    assert opened == paths[1:3]


def test_classes_of_numbered_tiles_keep_their_numbers_and_their_own_colours(make_raster) -> None:
    west = str(make_raster("w.tif", byte([1, 2])))
    east = str(make_raster("e.tif", byte([2, 3]), transform=at(2, 0)))
    masks = open_masks([west, east])
    assert masks.labels.read().tolist() == [[1, 2, 2, 3]]
    assert masks.labels.scheme.names == ("1", "2", "3")
    assert len({c.color for c in masks.labels.scheme.classes}) == 3


def test_classes_with_names_are_joined_by_name(make_raster, tmp_path: Path) -> None:
    west = make_raster("w.tif", byte([1, 2]))
    east = make_raster("e.tif", byte([1, 2]), transform=at(2, 0))
    for path, names in ((west, ("road", "water")), (east, ("water", "field"))):
        entries = "".join(f'<paletteEntry value="{n}" label="{name}"/>' for n, name in enumerate(names, 1))
        path.with_suffix(".qml").write_text(f"<qgis>{entries}</qgis>")
    masks = open_masks([str(west), str(east)])
    names = {c.id: c.name for c in masks.labels.scheme.classes}
    assert [names[number] for number in masks.labels.read()[0].tolist()] == ["road", "water", "water", "field"]


def test_a_class_scheme_holds_for_all_masks(make_raster) -> None:
    scheme = ClassScheme.of_names([("no", (0,), None), ("yes", (1, 255), None)])
    paths = [str(make_raster("a.tif", byte([0, 255]))), str(make_raster("b.tif", byte([0, 1]), transform=at(2, 0)))]
    assert open_masks(paths, scheme).labels.read().tolist() == [[0, 1, 0, 1]]


def test_255_with_two_possible_meanings_is_asked_about(make_raster) -> None:
    paths = [str(make_raster("a.tif", byte([0, 255]))), str(make_raster("b.tif", byte([0, 1])))]
    with pytest.raises(RssegError, match="is 255 a class, or no label") as refused:
        open_masks(paths)
    assert "--classes" in refused.value.hint
    same = [paths[0], str(make_raster("c.tif", byte([0, 0]), transform=at(2, 0)))]
    assert open_masks(same).labels.read().tolist() == [[0, 1, 0, 0]]


def test_another_lattice_or_system_is_brought_over_and_said(make_raster, caplog) -> None:
    first = str(make_raster("a.tif", np.full((8, 8), 1, np.uint8)))
    shifted = str(make_raster("b.tif", np.full((4, 4), 2, np.uint8), transform=at(8.4, 0.4)))
    other = Affine(0.00001, 0, 15.0, 0, -0.00001, 45.14)
    system = str(make_raster("c.tif", np.full((9, 9), 3, np.uint8), transform=other, crs=CRS.from_epsg(4326)))
    with caplog.at_level("INFO"):
        masks = open_masks([first, shifted, system])
    assert "b.tif and 1 more: on other pixels than" in caplog.text
    found = masks.labels.read()
    counts = {number: int((found == number).sum()) for number in (1, 2, 3)}
    assert (counts[1], counts[2]) == (64, 16)
    assert counts[3] == pytest.approx(81 * 0.79 * 1.11 / 0.25, rel=0.05)


def test_a_mask_without_a_system_beside_one_with_is_refused(make_raster) -> None:
    placed = str(make_raster("a.tif", byte([1, 2])))
    bare = str(make_raster("b.tif", byte([1, 2]), crs=None))
    for paths in ([placed, bare], [bare, placed]):
        with pytest.raises(RssegError, match=r"coordinate system, unlike .*\.tif"):
            open_masks(paths)


def test_masks_that_lie_far_apart_or_nowhere_are_said(make_raster, caplog) -> None:
    here = str(make_raster("a.tif", byte([1, 2])))
    far = str(make_raster("b.tif", byte([1, 2]), transform=at(1000, 1000)))
    assert open_masks([here, far]).labels.grid.shape == (1001, 1002)
    assert "do they lie far apart" in caplog.text
    bare = [str(make_raster(f"{name}.tif", byte([1, 2]), crs=None, transform=None)) for name in "cd"]
    open_masks(bare)
    assert "lie upon one another" in caplog.text


def test_polygons_are_no_mask(make_raster, tmp_path: Path) -> None:
    frame = geopandas.GeoDataFrame({"class": [1]}, geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:32633")
    frame.to_file(tmp_path / "a.gpkg")
    with pytest.raises(RssegError, match=r"a\.gpkg: is no label raster") as refused:
        open_masks([str(make_raster("m.tif", byte([1]))), str(tmp_path / "a.gpkg")])
    assert "polygons" in refused.value.hint


def test_a_geopackage_may_hold_a_raster(make_raster) -> None:
    masks = open_masks([str(make_raster("r.gpkg", byte([0, 7]), driver="GPKG", TILE_FORMAT="PNG"))])
    assert masks.labels.scheme.names == ("#000000", "#070707")  # GDAL makes colours of them


def test_folders_and_patterns_name_masks(make_raster, tmp_path: Path) -> None:
    for name, col in (("a", 0), ("b", 2)):
        make_raster(f"in/{name}.tif", byte([1, 2]), transform=at(col, 0))
    for text in (str(tmp_path / "in"), str(tmp_path / "in" / "*.tif")):
        assert open_masks([text]).names == ("a", "b")


def test_equal_stems_are_told_apart(make_raster) -> None:
    names = ("2020/m.tif", "2021/m.tif", "x/2021/m.tif", "n.tif")
    paths = [str(make_raster(name, byte([1]))) for name in names]
    assert open_masks(paths).names == ("2020/m", paths[1], paths[2], "n")


def named_labels(make_raster) -> Labels:
    scheme = ClassScheme.of_names(
        [("oak", (1,), "#010101"), ("pine", (2,), "#020202"), ("water", (3,), "#030303"), ("shadow", (4,), "#040404")]
    )
    return open_label_raster(str(make_raster("m.tif", byte([1, 2, 3, 4]), nodata=255)), scheme)


def remapped(make_raster, tmp_path: Path, text: str) -> tuple[list[tuple[int, str, str]], list[int]]:
    table = tmp_path / "remap.csv"
    table.write_text(text, encoding="utf-8")
    found = remap(named_labels(make_raster), str(table))
    return [(c.id, c.name, c.color) for c in found.scheme.classes], found.read()[0].tolist()


def test_remap_merges_renames_and_leaves_out(make_raster, tmp_path: Path) -> None:
    text = "\ufefffrom,to,color\nPine,forest,#00ff00\n1,Forest\nwater,lake\nshadow,\n"
    classes, ids = remapped(make_raster, tmp_path, text)
    assert classes == [(1, "forest", "#00ff00"), (3, "lake", "#030303")]
    assert ids == [1, 1, 3, UNLABELLED]


@pytest.mark.parametrize("text", ["oak,WATER\n", "1,3\n", "to,from\nwater,oak\n"])
def test_remap_into_a_class_that_is_there_joins_it(make_raster, tmp_path: Path, text: str) -> None:
    classes, ids = remapped(make_raster, tmp_path, text)
    assert classes == [(1, "water", "#030303"), (2, "pine", "#020202"), (4, "shadow", "#040404")]
    assert ids == [1, 2, 1, 4]


def test_remap_can_swap_names(make_raster, tmp_path: Path) -> None:
    classes, ids = remapped(make_raster, tmp_path, "oak,pine\npine,oak\n")
    assert [(number, name) for number, name, _ in classes][:2] == [(1, "pine"), (2, "oak")]
    assert ids == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("text", "problem", "hint"),
    [
        ("elm,tree\n", "elm is no class of", "the classes are: 1 oak, 2 pine, 3 water, 4 shadow"),
        ("oak,tree\n1,wood\n", "two lines say what oak becomes", "keep one"),
        ("oak\n", "entry 1 is 'oak'", "from,to,color"),
        ("oak;tree\n", "entry 1 is 'oak;tree'", "from,to,color"),
        ("oak,tree,green\n", "'green' is no colour", "#1a7f37"),
        ("from,to\n", "names no class", "from,to,color"),
        ("", "names no class", "from,to,color"),
    ],
)
def test_remap_refuses_what_it_cannot_follow(make_raster, tmp_path: Path, text: str, problem: str, hint: str) -> None:
    with pytest.raises(RssegError, match=problem) as refused:
        remapped(make_raster, tmp_path, text)
    assert hint in refused.value.hint
    assert "remap.csv" in refused.value.problem


def test_remap_needs_a_readable_file(make_raster, tmp_path: Path) -> None:
    labels = named_labels(make_raster)
    with pytest.raises(RssegError, match=r"none\.csv: no such file"):
        remap(labels, str(tmp_path / "none.csv"))
    latin = tmp_path / "latin.csv"
    latin.write_bytes("oak,Gehölz\n".encode("latin-1"))
    with pytest.raises(RssegError, match="cannot be read") as refused:
        remap(labels, str(latin))
    assert "UTF-8" in refused.value.hint


def test_classes_are_chosen_by_name_or_number(make_raster) -> None:
    labels = named_labels(make_raster)
    assert choose(labels, ["OAK", " 3"], "--regularize") == {1, 3}
    assert choose(labels, [], "--regularize") == frozenset()
    with pytest.raises(RssegError, match=r"--regularize: elm is no class of .*m\.tif") as refused:
        choose(labels, ["oak", "elm"], "--regularize")
    assert "1 oak" in refused.value.hint


def test_a_number_of_several_classes_is_refused(make_raster) -> None:
    west = make_raster("w.tif", byte([1, 2]))
    east = make_raster("e.tif", byte([1, 2]), transform=at(2, 0))
    for path, names in ((west, ("road", "water")), (east, ("water", "field"))):
        entries = "".join(f'<paletteEntry value="{n}" label="{name}"/>' for n, name in enumerate(names, 1))
        path.with_suffix(".qml").write_text(f"<qgis>{entries}</qgis>")
    labels = open_masks([str(west), str(east)]).labels
    with pytest.raises(RssegError, match="2 is the number of several classes: field, water"):
        choose(labels, ["2"], "--regularize")
