"""Polygons of a map cut along the borders of districts.

A polygon that lies in a district wholly goes there as it is. Of the others, every piece is a polygon of its own.
Pieces are kept, the others only counted: they are put together once more when they are written.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray

from rsseg_cli.raster.grid import Grid
from rsseg_cli.vector.districts import SLIVER_PX2, District, polygon_parts, say_empty
from rsseg_cli.vector.measure import measure_polygons
from rsseg_cli.vector.polygons import Outlines
from rsseg_cli.vector.table import GEOMETRY, Features

if TYPE_CHECKING:
    import pyarrow  # type: ignore[import-untyped]

UID = "uid"

Rows = NDArray[np.int64]  # their numbers in a batch

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Part:
    """What of one batch goes to one district."""

    whole: Rows  # rows that go as they are
    cut: Rows  # the row of each piece
    pieces: "pyarrow.RecordBatch"
    vertices: int


def split(features: Features, districts: Sequence[District], grid: Grid) -> list[Features]:
    """The polygons of each district; `grid` is that of the masks, whose coordinate system all are in.

    A piece has the attributes of the whole, and its own area and perimeter. It has the uid of the whole, too, if it is
    the only one in the district; several are numbered from north to south.
    """
    borders = np.array([district.geometry for district in districts])
    parts: list[list[_Part]] = [[] for _ in districts]
    left_out = 0
    for batch in features.batches():
        found = _parts(batch, borders, grid)
        left_out += len(batch) - len(np.unique(np.concatenate([rows for p in found for rows in (p.whole, p.cut)])))
        for earlier, part in zip(parts, found, strict=True):
            earlier.append(part)
    if left_out:
        logger.warning("%d of %d polygons lie in no district and go to no file", left_out, features.rows)
    split_up = [_part_of(features, found) for found in parts]
    say_empty([district.name for district, part in zip(districts, split_up, strict=True) if not part.rows])
    return split_up


def _parts(batch: "pyarrow.RecordBatch", borders: NDArray[Any], grid: Grid) -> list[_Part]:
    """What goes to each district."""
    polygons = shapely.from_wkb(batch.column(GEOMETRY).to_numpy(zero_copy_only=False))
    tree = shapely.STRtree(polygons)
    reached, held = (tree.query(borders, predicate=relation) for relation in ("intersects", "covers"))
    parts = []
    for number, border in enumerate(borders):
        near, whole = (np.sort(row[district == number]) for district, row in (reached, held))
        cut, shapes = _cut(polygons, np.setdiff1d(near, whole), border, SLIVER_PX2 * abs(grid.transform.determinant))
        vertices = sum(shapely.get_num_coordinates(some).sum() for some in (polygons[whole], shapes))
        parts.append(_Part(whole, cut, _pieces(batch, cut, shapes, grid), int(vertices)))
    return parts


def _cut(polygons: NDArray[Any], rows: Rows, border: shapely.Geometry, sliver: float) -> tuple[Rows, NDArray[Any]]:
    """(the row of each piece, the pieces) of these rows; row by row, and from north to south."""
    shapes, shape = polygon_parts(shapely.intersection(polygons[rows], border))
    counts = shapely.area(shapes) > sliver
    shapes, cut = shapely.orient_polygons(shapes[counts]), rows[shape[counts]]
    west, south, east, north = shapely.bounds(shapes).T
    order = np.lexsort((east, south, west, -north, cut))
    return cut[order], shapes[order]


def _pieces(batch: "pyarrow.RecordBatch", cut: Rows, shapes: NDArray[Any], grid: Grid) -> "pyarrow.RecordBatch":
    """A row for each piece."""
    import pyarrow

    if not len(cut):
        return pyarrow.RecordBatch.from_pylist([], batch.schema)
    _, xy, (rings, polygons) = shapely.to_ragged_array(shapes)
    sizes = measure_polygons(Outlines(xy, rings, polygons), grid)
    new = {
        UID: _numbered(batch.column(UID).take(cut).to_pylist(), cut),
        "area": sizes.areas,
        "perimeter": sizes.perimeters,
        GEOMETRY: shapely.to_wkb(shapes),
    }
    columns = []
    for field, old in zip(batch.schema, batch.columns, strict=True):
        values = new.get(field.name.partition("_")[0])  # units are part of the names: area_m2
        columns.append(old.take(cut) if values is None else pyarrow.array(values, field.type))
    return pyarrow.record_batch(columns, batch.schema)


def _numbered(uids: Sequence[str], cut: Rows) -> list[str]:
    _, first, count = np.unique(cut, return_index=True, return_counts=True)
    number = np.arange(len(cut)) - np.repeat(first, count) + 1
    is_one_of_several = np.repeat(count > 1, count)
    return [f"{u}-{n}" if several else u for u, n, several in zip(uids, number, is_one_of_several, strict=True)]


def _part_of(features: Features, parts: Sequence[_Part]) -> Features:
    """What goes to one district, of all batches."""

    def batches() -> "Iterator[pyarrow.RecordBatch]":
        for batch, part in zip(features.batches(), parts, strict=True):
            if len(part.whole):
                yield batch.take(part.whole)
            if len(part.cut):
                yield part.pieces

    rows = sum(len(part.whole) + len(part.cut) for part in parts)
    return replace(features, batches=batches, rows=rows, vertices=sum(part.vertices for part in parts))
