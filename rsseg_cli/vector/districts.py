"""The districts that a map is split into, and the files that their parts go to."""

import logging
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray

from rsseg_cli.errors import RssegError
from rsseg_cli.raster.grid import Grid

if TYPE_CHECKING:
    import geopandas

MASKS = "the masks"
# What is smaller than this part of a pixel comes from rounding.
SLIVER_PX2 = 1e-6
# Windows has a use for most of these and none for what does not print; GDAL has one for ! and ;
UNSAFE = re.compile(r"[/\\:*?\"<>|!;\x00-\x1f\x7f-\x9f]")
# Leaves room for the name of the map within what file systems allow.
NAME_BYTES = 100
LISTED = 8

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class District:
    """All polygons of one name, as far as the masks reach."""

    name: str
    geometry: shapely.Geometry  # in the masks' coordinate system


def open_districts(text: str, grid: Grid) -> list[District]:
    """The polygons of `FILE[:LAYER]:FIELD` that share ground with the masks, those of one value together."""
    from rsseg_cli.vector.placing import lie_elsewhere, on_map

    source, field = _split_field(text)
    frame = _named_polygons(source, field)
    outlines = shapely.make_valid(shapely.force_2d(on_map(source, frame, grid, MASKS)))
    touching, apart = _by_touch(_united(frame[field], outlines, grid), grid)
    if not touching:
        raise lie_elsewhere(source, frame, grid, MASKS)
    say_empty([district.name for district in apart])
    _say_overlaps(source, touching, abs(grid.transform.determinant))
    return touching


def _by_touch(districts: Sequence[District], grid: Grid) -> tuple[list[District], list[District]]:
    """(those that share ground with the masks, the others)."""
    ground = shapely.Polygon(grid.corners)
    shared = shapely.area(shapely.intersection([d.geometry for d in districts], ground))
    touches = shared > SLIVER_PX2 * abs(grid.transform.determinant)
    pairs = list(zip(districts, touches, strict=True))
    return [d for d, does in pairs if does], [d for d, does in pairs if not does]


def say_empty(names: Sequence[str]) -> None:
    """Names districts that none of the map lies in."""
    if names:
        more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
        logger.info("no file for %s%s: the masks show nothing there", ", ".join(names[:LISTED]), more)


def _split_field(text: str) -> tuple[str, str]:
    """(FILE[:LAYER], FIELD); after the colon of a drive or a URL comes a path."""
    source, _, field = text.rpartition(":")
    if source and field and not field.startswith(("/", "\\")):
        return source, field
    raise RssegError(
        f"{text}: does not say which field names the districts", f"add it after a colon: {text.rstrip(':')}:FIELD"
    )


def _named_polygons(source: str, field: str) -> "geopandas.GeoDataFrame":
    """The polygons with a name, as text."""
    from rsseg_cli.vector.labels import check_field, polygons_with
    from rsseg_cli.vector.reading import read_polygons

    frame = read_polygons(source)
    check_field(source, frame, field)
    names = [None if lacks else _text(value) for value, lacks in zip(frame[field], frame[field].isna(), strict=True)]
    frame = polygons_with(source, frame.assign(**{field: names}), field)
    if len(frame) == 0:
        raise RssegError(
            f"{source}: holds no polygon with a value in {field}",
            "check the layer and the field of --split",
            file=source,
        )
    return frame


def _text(value: Any) -> str | None:
    # Whole numbers are read as floating ones where some are missing.
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip() or None


def _united(names: Iterable[str], outlines: NDArray[Any], grid: Grid) -> list[District]:
    """In the order of the file, cut to the masks' surroundings."""
    # With a margin, so that what lies along the masks' own edges is not cut.
    around = shapely.Polygon(grid.corners).buffer(sum(grid.pixel_size), join_style="mitre")
    nearby = shapely.intersection(outlines, around)
    features: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        features.setdefault(name, []).append(number)
    return [District(name, shapely.union_all(polygon_parts(nearby[at])[0])) for name, at in features.items()]


def polygon_parts(shapes: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """(polygons in shapes of any kind, the number of the shape of each); lines and points fall away."""
    several, shape = shapely.get_parts(shapes, return_index=True)
    parts, collection = shapely.get_parts(several, return_index=True)  # of collections that hold multipolygons
    encloses = shapely.get_type_id(parts) == shapely.GeometryType.POLYGON
    return parts[encloses], shape[collection[encloses]]


def _say_overlaps(source: str, districts: Sequence[District], pixel_area: float) -> None:
    outlines = np.array([d.geometry for d in districts])
    one, other = shapely.STRtree(outlines).query(outlines, predicate="intersects")
    one, other = one[one < other], other[one < other]
    both = np.flatnonzero(shapely.area(shapely.intersection(outlines[one], outlines[other])) > pixel_area)
    if len(both):
        names = (districts[pairs[both[0]]].name for pairs in (one, other))
        logger.info("%s: districts overlap, as %s and %s do; what lies in both goes to both files", source, *names)


def file_names(districts: Iterable[District], folder: Path, stem: str, suffix: str) -> list[Path]:
    """`STEM_NAME.SUFFIX` for each district: names that Windows takes as well, and that differ in more than capitals."""
    taken: set[str] = set()
    paths = []
    for district in districts:
        name = _safe(district.name)
        numbered = (f"{name}_{number}" for number in count(2))
        while name.casefold() in taken:
            name = next(numbered)
        taken.add(name.casefold())
        paths.append(folder / f"{stem}_{name}{suffix}")
    return paths


def _safe(name: str) -> str:
    # Composed letters: macOS takes an umlaut for the same in one character or in two.
    safe = UNSAFE.sub("_", unicodedata.normalize("NFC", name))
    return safe.encode()[:NAME_BYTES].decode(errors="ignore").rstrip(". ") or "_"
