"""Class colours in a GeoPackage, as QGIS keeps them: a table of styles beside the layers."""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from xml.sax.saxutils import quoteattr

from rsseg_cli.classes import ClassScheme, LabelClass

logger = logging.getLogger(__name__)

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
    """Draws the polygons of a layer by their class_id as soon as QGIS opens it; a style that the layer has stays."""
    with closing(sqlite3.connect(geopackage)) as database, database:
        if database.execute("SELECT 1 FROM sqlite_master WHERE name = 'layer_styles'").fetchone() is None:
            database.execute(TABLE)
            database.execute(LISTED)
        there = database.execute("SELECT styleQML FROM layer_styles WHERE f_table_name = ?", (layer,)).fetchall()
        if not there:
            database.execute(STYLE, (polygon_qml_of(scheme), layer))
        elif (polygon_qml_of(scheme),) not in there:
            logger.warning(
                "The layer %s keeps the style that it has, in which these classes have other names or colours, or none",
                layer,
            )


def polygon_qml_of(scheme: ClassScheme) -> str:
    """A QGIS style that fills each class with its colour, by the field class_id."""
    categories = "\n".join(
        f'      <category symbol="{place}" value="{c.id}" type="long" label={quoteattr(c.name)} render="true"/>'
        for place, c in enumerate(scheme.classes)
    )
    symbols = "\n".join(_symbol(place, c) for place, c in enumerate(scheme.classes))
    return f"""<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.22" styleCategories="Symbology">
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


def _symbol(place: int, c: LabelClass) -> str:
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
        f'            <Option type="QString" name="{name}" value="{value}"/>' for name, value in properties.items()
    )
    return f"""      <symbol type="fill" name="{place}" alpha="1" clip_to_extent="1" force_rhr="0">
        <layer class="SimpleFill" enabled="1" locked="0" pass="0">
          <Option type="Map">
{options}
          </Option>
        </layer>
      </symbol>"""
