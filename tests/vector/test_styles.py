import sqlite3
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree

import pytest

from rsseg_cli.classes import ClassScheme
from rsseg_cli.vector.styles import add_style, polygon_qml_of

SCHEME = ClassScheme.of_names([("water", (1,), "#0000ff"), ('forest & "co" <1>', (7,), "#1a7f37")])


def drawn(qml: str) -> dict[str, tuple[str, str]]:
    """The name and the fill colour of each value, as QGIS reads them."""
    renderer = ElementTree.fromstring(qml).find("renderer-v2")
    assert renderer is not None
    assert (renderer.get("type"), renderer.get("attr")) == ("categorizedSymbol", "class_id")
    fills = {}
    for symbol in renderer.iterfind("symbols/symbol"):
        assert symbol.get("type") == "fill"
        (color,) = symbol.iterfind("layer[@class='SimpleFill']/Option/Option[@name='color']")
        fills[symbol.get("name")] = color.get("value")
    categories = renderer.findall("categories/category")
    return {str(c.get("value")): (str(c.get("label")), str(fills[c.get("symbol")])) for c in categories}


def test_each_class_has_its_name_and_colour() -> None:
    found = drawn(polygon_qml_of(SCHEME))
    assert found == {"1": ("water", "0,0,255,255"), "7": ('forest & "co" <1>', "26,127,55,255")}


def test_no_classes_are_a_style_as_well() -> None:
    assert drawn(polygon_qml_of(ClassScheme(()))) == {}


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    """As much of a GeoPackage as styles ask for."""
    path = tmp_path / "map.gpkg"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE gpkg_contents (table_name TEXT, data_type TEXT, identifier TEXT UNIQUE)")
        database.execute("CREATE TABLE gpkg_geometry_columns (table_name TEXT, column_name TEXT)")
        database.execute("INSERT INTO gpkg_geometry_columns VALUES ('one', 'geom'), ('two', 'shape')")
    return path


def test_a_second_layer_has_a_style_of_its_own(layers: Path) -> None:
    add_style(layers, "one", SCHEME)
    add_style(layers, "two", ClassScheme(()))
    with closing(sqlite3.connect(layers)) as database:
        columns = "f_table_catalog, f_table_schema, f_table_name, f_geometry_column, useAsDefault, styleQML"
        rows = database.execute(f"SELECT {columns} FROM layer_styles ORDER BY id").fetchall()
    assert [row[:-1] for row in rows] == [("", "", "one", "geom", 1), ("", "", "two", "shape", 1)]
    assert [len(drawn(row[-1])) for row in rows] == [2, 0]


def style_of(path: Path) -> str:
    with closing(sqlite3.connect(path)) as database:
        ((qml,),) = database.execute("SELECT styleQML FROM layer_styles").fetchall()
    return str(qml)


def test_a_style_that_is_there_takes_up_new_classes_and_keeps_the_rest(
    layers: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add_style(layers, "one", SCHEME)
    before = drawn(style_of(layers))
    add_style(layers, "one", SCHEME)
    assert drawn(style_of(layers)) == before
    add_style(layers, "one", ClassScheme.of_names([("lake", (1,), "#112233"), ("road & rail", (9,), "#445566")]))
    assert drawn(style_of(layers)) == before | {"9": ("road & rail", "68,85,102,255")}
    assert [record.getMessage() for record in caplog.records] == ["lake is drawn as water, as the layer one has it"]


@pytest.mark.parametrize("qml", ["<qgis><renderer-v2 type='singleSymbol'/></qgis>", "<!ENTITY x><qgis/>", "no XML"])
def test_a_style_of_another_kind_is_left_alone_and_that_is_said(
    layers: Path, caplog: pytest.LogCaptureFixture, qml: str
) -> None:
    add_style(layers, "one", SCHEME)
    with closing(sqlite3.connect(layers)) as database, database:
        database.execute("UPDATE layer_styles SET styleQML = ?", (qml,))
    add_style(layers, "one", SCHEME)
    assert style_of(layers) == qml
    assert "keeps its own style" in caplog.text
