"""Class schemes in files: a small TOML or CSV a person writes, and the QML style that QGIS draws."""

import csv
import re
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from rsseg_cli.classes import UNLABELLED, ClassScheme
from rsseg_cli.errors import RssegError

Entry = tuple[str, tuple[int, ...], str | None]
TOML_EXAMPLE = 'a table each: [[class]] name = "forest", values = [311, 312], color = "#1a7f37"'
EXAMPLE = "a line each: value,name,color - for example 3,forest,#1a7f37 (lines of one name are merged)"
REMAP_EXAMPLE = "a line each: from,to,color - for example pine,forest,#1a7f37 or 3,forest; `shadow,` leaves shadow out"


def read_classes(path: str | Path) -> ClassScheme:
    """A scheme from .toml, .csv or .qml."""
    path = Path(path)
    readers = {".toml": _read_toml, ".csv": _read_csv, ".qml": _read_qml}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise RssegError(
            f"{path}: classes are read from .toml, .csv or .qml", f"write a CSV, {EXAMPLE}", file=str(path)
        )
    if not path.is_file():
        raise RssegError(f"{path}: no such file", "check the name", file=str(path))
    try:
        entries = reader(path)
    except RssegError:
        raise
    except (OSError, ValueError, KeyError, TypeError, ElementTree.ParseError) as problem:
        hint = {".toml": TOML_EXAMPLE, ".qml": "save the style from QGIS again"}.get(path.suffix.lower(), EXAMPLE)
        raise RssegError(f"{path}: cannot be read as classes: {problem}", hint, file=str(path)) from problem
    if not entries:
        raise RssegError(f"{path}: names no class", EXAMPLE, file=str(path))
    try:
        return ClassScheme.of_names(entries)
    except RssegError as problem:
        raise RssegError(f"{path}: {problem.problem}", problem.hint, file=str(path)) from problem


def _read_toml(path: Path) -> list[Entry]:
    """`[[class]]` tables with name, values (or value) and color."""
    tables = tomllib.loads(path.read_text(encoding="utf-8")).get("class", [])
    found = []
    for number, table in enumerate(tables, 1):
        values = table.get("values", [table.get("value")])
        if "name" not in table or not isinstance(values, list) or not all(type(v) is int for v in values):
            raise RssegError(f"{path}: [[class]] number {number} is {table}", TOML_EXAMPLE, file=str(path))
        found.append((str(table["name"]), tuple(values), _color(table.get("color"), path)))
    return found


def _read_csv(path: Path) -> list[Entry]:
    """Columns value, name and (if there) color."""
    found: list[Entry] = []
    for number, cells in enumerate(_table(path, "value", "name"), 1):
        if not re.fullmatch(r"-?\d+", cells.get("value", "")) or not cells.get("name"):
            raise RssegError(f"{path}: entry {number} is {','.join(cells.values())!r}", EXAMPLE, file=str(path))
        found.append((cells["name"], (int(cells["value"]),), _color(cells.get("color"), path)))
    return found


def _table(path: Path, *needed: str) -> list[dict[str, str]]:
    """The cells of a CSV by column: those needed and color, named in the first line or in this order."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [[cell.strip() for cell in row] for row in csv.reader(file) if any(cell.strip() for cell in row)]
    header = [cell.lower().replace("colour", "color") for cell in rows[0]] if rows else []
    columns, rows = (header, rows[1:]) if set(needed) <= set(header) else ([*needed, "color"], rows)
    return [dict(zip(columns, row, strict=False)) for row in rows]


def read_remap(path: str | Path) -> list[tuple[str, str, str | None]]:
    """(from, to, colour) of the lines of a CSV; an empty `to` leaves a class out."""
    path = Path(path)
    if not path.is_file():
        raise RssegError(f"{path}: no such file", "check the name", file=str(path))
    try:
        lines = _table(path, "from", "to")
    except (OSError, ValueError, csv.Error) as problem:
        raise RssegError(
            f"{path}: cannot be read: {problem}", f"write a CSV in UTF-8, {REMAP_EXAMPLE}", file=str(path)
        ) from problem
    if not lines:
        raise RssegError(f"{path}: names no class", REMAP_EXAMPLE, file=str(path))
    for number, cells in enumerate(lines, 1):
        if not cells.get("from") or "to" not in cells:
            raise RssegError(f"{path}: entry {number} is {','.join(cells.values())!r}", REMAP_EXAMPLE, file=str(path))
    return [(cells["from"], cells["to"], _color(cells.get("color"), path)) for cells in lines]


def _read_qml(path: Path) -> list[Entry]:
    """The entries of a paletted raster style."""
    text = path.read_text(encoding="utf-8")
    if "<!ENTITY" in text:
        raise RssegError(f"{path}: declares XML entities, which a style has no need for", "save it from QGIS again")
    root = ElementTree.fromstring(text)  # noqa: S314 - entities are refused above
    found: list[Entry] = []
    for entry in root.iter("paletteEntry"):
        value = float(entry.get("value", ""))
        if value != int(value):
            raise RssegError(f"{path}: {value:g} is no class number", "use a style of whole numbers", file=str(path))
        if int(value) != UNLABELLED:
            found.append((entry.get("label") or str(int(value)), (int(value),), _qml_color(entry.get("color"))))
    return found


def qml_of(scheme: ClassScheme) -> str:
    """A QGIS style that draws exactly these classes, with their names and colours."""
    entries = "\n".join(
        f'        <paletteEntry value="{c.id}" color="{c.color}" label={quoteattr(c.name)} alpha="255"/>'
        for c in scheme.classes
    )
    return f"""<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.22" styleCategories="Symbology">
  <pipe>
    <rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1" nodataColor="">
      <colorPalette>
{entries}
      </colorPalette>
    </rasterrenderer>
  </pipe>
</qgis>
"""


def _qml_color(text: str | None) -> str | None:
    """QGIS knows more ways to write a colour than a map can hold; those get a colour of ours."""
    return text.lower() if text and re.fullmatch(r"#[0-9a-fA-F]{6}", text) else None


def _color(text: Any, path: Path) -> str | None:
    """`#rrggbb` or `r g b`."""
    if text in (None, ""):
        return None
    if re.fullmatch(r"#[0-9a-fA-F]{6}", str(text)):
        return str(text).lower()
    numbers = [int(n) for n in re.findall(r"\d+", str(text))]
    if len(numbers) in (3, 4) and max(numbers) <= 255:
        r, g, b = numbers[:3]
        return f"#{r:02x}{g:02x}{b:02x}"
    raise RssegError(f"{path}: {text!r} is no colour", "write colours as #1a7f37 or 26 127 55", file=str(path))
