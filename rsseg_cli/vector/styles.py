"""Class colours in a GeoPackage, as QGIS keeps them: a table of styles beside the layers."""

import logging
import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from rsseg_cli.classes import ClassScheme, LabelClass

logger = logging.getLogger(__name__)

DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
# As QGIS makes it through GDAL.
TABLE = """
CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    f_table_catalog TEXT(256),
    f_table_schema TEXT(256),
    f_table_name TEXT(256),
    f_geometry_column TEXT(256),
    styleName TEXT(30),
    styleQML TEXT,
    styleSLD TEXT,
    useAsDefault BOOLEAN,
    description TEXT,
    owner TEXT(30),
    ui TEXT(30),
    update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
)
"""
LISTED = """
INSERT INTO gpkg_contents (table_name, data_type, identifier) VALUES ('layer_styles', 'attributes', 'layer_styles')
"""
STYLE = """
INSERT INTO layer_styles
(f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, styleQML, styleSLD, useAsDefault, owner)
SELECT '', '', table_name, column_name, 'classes', ?, '', 1, '' FROM gpkg_geometry_columns WHERE table_name = ?
"""


def add_style(geopackage: Path, layer: str, scheme: ClassScheme) -> None:
    """Draws the polygons of a layer by their class_id as soon as QGIS opens it; a style that is there grows."""
    with closing(sqlite3.connect(geopackage)) as database, database:
        if database.execute("SELECT 1 FROM sqlite_master WHERE name = 'layer_styles'").fetchone() is None:
            database.execute(TABLE)
            database.execute(LISTED)
        there = database.execute("SELECT id, styleQML FROM layer_styles WHERE f_table_name = ?", (layer,)).fetchall()
        if not there:
            database.execute(STYLE, (polygon_qml_of(scheme), layer))
        for number, qml in there:
            database.execute("UPDATE layer_styles SET styleQML = ? WHERE id = ?", (_grown(qml, scheme, layer), number))


def _grown(qml: str, scheme: ClassScheme, layer: str) -> str:
    """The style with the classes that it lacks: what has no legend entry is not drawn."""
    root = _parsed(qml)
    renderer = None if root is None else root.find("./renderer-v2[@attr='class_id']")
    categories, symbols = (None if renderer is None else renderer.find(name) for name in ("categories", "symbols"))
    if root is None or categories is None or symbols is None:
        logger.warning("the layer %s keeps its own style, which may not show all classes", layer)
        return qml
    labels = {entry.get("value"): entry.get("label") for entry in categories}
    numbered = list(zip(map(str, scheme.numbers), scheme.classes, strict=True))
    for number, c in numbered:
        if labels.get(number, c.name) != c.name:
            logger.warning("%s is drawn as %s, as the layer %s has it", c.name, labels[number], layer)
    new = [(number, c) for number, c in numbered if number not in labels]
    taken = {symbol.get("name") for symbol in symbols}
    free = (str(number) for number in count() if str(number) not in taken)
    for name, (number, c) in zip(free, new, strict=False):
        categories.append(ElementTree.fromstring(_category(name, number, c)))  # noqa: S314 - our own
        symbols.append(ElementTree.fromstring(_symbol(name, c)))  # noqa: S314 - our own
    return DOCTYPE + ElementTree.tostring(root, encoding="unicode") if new else qml


def _parsed(qml: str) -> ElementTree.Element | None:
    try:
        return None if "<!ENTITY" in qml else ElementTree.fromstring(qml)  # noqa: S314 - see the condition
    except ElementTree.ParseError:
        return None


def polygon_qml_of(scheme: ClassScheme) -> str:
    """A QGIS style that fills each class with its colour, by the field class_id."""
    numbered = enumerate(zip(scheme.numbers, scheme.classes, strict=True))
    categories = "\n".join(_category(str(place), str(number), c) for place, (number, c) in numbered)
    symbols = "\n".join(_symbol(str(place), c) for place, c in enumerate(scheme.classes))
    return f"""{DOCTYPE}<qgis version="3.22" styleCategories="Symbology">
  <renderer-v2 type="categorizedSymbol" attr="class_id" symbollevels="0" forceraster="0" enableorderby="0">
    <categories>
{categories}
    </categories>
    <symbols>
{symbols}
    </symbols>
  </renderer-v2>
</qgis>
"""


def _category(symbol: str, number: str, c: LabelClass) -> str:
    return f'      <category symbol="{symbol}" value="{number}" type="long" label={quoteattr(c.name)} render="true"/>'


def _symbol(name: str, c: LabelClass) -> str:
    color = ",".join(map(str, (*c.rgb, 255)))
    # An outline of the same colour covers the seams that smooth drawing leaves between neighbours.
    properties = {
        "color": color,
        "style": "solid",
        "outline_color": color,
        "outline_style": "solid",
        "outline_width": "0.1",
        "outline_width_unit": "MM",
    }
    options = "\n".join(
        f'            <Option type="QString" name="{key}" value="{value}"/>' for key, value in properties.items()
    )
    return f"""      <symbol type="fill" name="{name}" alpha="1" clip_to_extent="1" force_rhr="0">
        <layer class="SimpleFill" enabled="1" locked="0" pass="0">
          <Option type="Map">
{options}
          </Option>
        </layer>
      </symbol>"""
