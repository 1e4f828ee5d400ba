"""Class schemes in files that people write, and the style that QGIS reads."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from rsseg_cli.class_files import qml_of, read_classes
from rsseg_cli.classes import ClassScheme
from rsseg_cli.errors import RssegError


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_with_and_without_header(tmp_path: Path) -> None:
    bare = read_classes(write(tmp_path / "a.csv", "1,road,#808080\n2, tree\n\n"))
    headed = read_classes(write(tmp_path / "b.csv", "\ufeffname,Colour,value\nroad,128 128 128,1\ntree,,2\n"))
    assert bare == headed
    assert (bare.ids, bare.names, bare.classes[0].color) == ((1, 2), ("road", "tree"), "#808080")


def test_csv_lines_of_one_name_are_merged(tmp_path: Path) -> None:
    scheme = read_classes(write(tmp_path / "c.csv", "311,forest,#1a7f37\n312,forest\n511,water\n"))
    assert [c.values for c in scheme.classes] == [(311, 312), (511,)]
    assert scheme.classes[0].color == "#1a7f37"


def test_toml(tmp_path: Path) -> None:
    text = (
        '[[class]]\nname = "forest"\nvalues = [311, 312]\ncolor = "#1A7F37"\n[[class]]\nname = "water"\nvalue = 511\n'
    )
    scheme = read_classes(write(tmp_path / "c.toml", text))
    assert [(c.name, c.values) for c in scheme.classes] == [("forest", (311, 312)), ("water", (511,))]


def test_qml_round_trip(tmp_path: Path) -> None:
    scheme = ClassScheme.of_names([('say "hi" & <bye>', (3,), "#010203"), ("water", (0,), None)])
    style = write(tmp_path / "c.qml", qml_of(scheme))
    assert read_classes(style) == scheme
    assert ElementTree.parse(style).find(".//rasterrenderer").get("type") == "paletted"


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("a.csv", "road,1\n", "entry 1"),
        ("a.csv", "1,road,purple\n", "no colour"),
        ("a.csv", "", "names no class"),
        ("a.toml", "[[class]]\nname = 'a'\nvalues = 'x'\n", "class.. number 1"),
        ("a.toml", "[[class]]\nname = 'a'\nvalues = [1.7]\n", "class.. number 1"),
        ("a.toml", "[[class]]\nname = 'a'\n", "class.. number 1"),
        ("a.qml", '<qgis><paletteEntry value="1.5" label="a"/></qgis>', "1.5 is no class number"),
        ("a.csv", "1,a\n1,b\n", r"a\.csv: value 1 belongs to two classes"),
        ("a.toml", "not toml", "cannot be read"),
        ("a.qml", "<qgis", "cannot be read"),
        ("a.qml", '<!DOCTYPE x [<!ENTITY a "b">]><x/>', "entities"),
        ("a.txt", "1,road", "read from .toml, .csv or .qml"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(tmp_path: Path, name: str, text: str, match: str) -> None:
    with pytest.raises(RssegError, match=match):
        read_classes(write(tmp_path / name, text))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RssegError, match="no such file"):
        read_classes(tmp_path / "none.csv")
