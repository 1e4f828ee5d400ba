"""What `rsseg vectorize` was asked for, checked before the work begins."""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rasterio.crs import CRS
from rasterio.errors import CRSError

from rsseg_cli.class_files import read_classes
from rsseg_cli.classes import ClassScheme
from rsseg_cli.delivery import check_target
from rsseg_cli.errors import RssegError
from rsseg_cli.labels import split_layer
from rsseg_cli.raster.labels import Labels
from rsseg_cli.vector.coverage import Coverage
from rsseg_cli.vector.districts import District, file_names, open_districts
from rsseg_cli.vector.formats import GEOPACKAGE, Format, format_of
from rsseg_cli.vector.geojson import LONLAT
from rsseg_cli.vector.masks import Masks, choose, open_masks, remap
from rsseg_cli.vector.merging import Least

if TYPE_CHECKING:
    import pyarrow  # type: ignore[import-untyped]

# Of regions whose lines are still edges of pixels: named columns, a value for each.
Columns = Callable[[Coverage], "Mapping[str, pyarrow.Array]"]

CLASS_FILES = (".csv", ".toml", ".qml")
STDOUT = Path("-")
# Names that a GeoPackage keeps for itself.
RESERVED = r"(?i)gpkg|sqlite_|rtree_|layer_styles$"
# GDAL makes no layer that begins with a sign, and QGIS takes what follows a bar for something else.
NO_LAYER_NAME = r"^[^\w]+|\|"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What the person asked for."""

    masks: tuple[str, ...] = ()
    output: Path | None = None  # a file, `-`, or with `split` a folder; None: named after the mask, where we are
    exact: bool = False
    classes: str | None = None  # a file that names them, or a list of those to write
    min_area: str | None = None  # M2[,CLASS=M2...]
    fill_holes: float = 0.0
    simplify: float = 0.0
    regularize: str | None = None  # a list of classes
    confidence: str | None = None
    remap: str | None = None
    split: str | None = None  # VECTOR[:LAYER]:FIELD
    layer: str | None = None
    crs: str | None = None
    format: str | None = None
    append: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class Target:
    """A file to write."""

    path: Path
    layer: str
    district: District | None = None  # None: all of the map


@dataclass(frozen=True)
class Job:
    """A request that can be carried out."""

    request: Request
    masks: Masks
    labels: Labels  # of the masks, remapped
    least: Least
    shown: frozenset[int] | None  # ids of the classes to write; None: all
    squared: frozenset[int]  # ids of the classes to regularise
    crs: CRS | None  # that the person asked for
    form: Format
    targets: tuple[Target, ...]  # none: a stream, or nothing is written
    columns: Columns | None = None  # what else is known of regions

    @property
    def scheme(self) -> ClassScheme:
        """The classes that are written."""
        classes = self.labels.scheme.classes
        return ClassScheme(tuple(c for c in classes if self.shown is None or c.id in self.shown))

    @property
    def inputs(self) -> list[str]:
        """Files that must not be written over."""
        districts = self.request.split and split_layer(self.request.split.rpartition(":")[0])[0]
        others = (self.request.confidence, self.request.remap, self.request.classes, districts)
        return [*self.masks.paths, *(other for other in others if other)]


def prepared(request: Request, masks: Masks | None = None, *, to_files: bool = True) -> Job:
    """Opens and checks all that the request names; nothing is written, and no pixel looked at that is not needed."""
    _refuse_contradictions(request)
    form = _format(request)
    crs = _crs(request.crs)
    if form.is_lonlat and crs not in (None, LONLAT):
        raise RssegError(f"--crs {request.crs}: {form.name} is always longitude, latitude on WGS 84", "leave --crs out")
    scheme, names = _classes(request.classes)
    masks = masks or open_masks(request.masks, scheme)
    if masks.labels.grid.crs is None:
        if crs is not None:
            raise RssegError(
                f"{masks.labels.path}: has no coordinate system: nobody knows where --crs {request.crs} would put it",
                "leave --crs out, or give the raster its own first: rio edit-info --crs EPSG:NUMBER FILE",
                file=masks.labels.path,
            )
        logger.info("%s: has no coordinate system; sizes are in pixels", masks.labels.path)
    labels = remap(masks.labels, request.remap) if request.remap is not None else masks.labels
    job = Job(
        request,
        masks,
        labels,
        _least(request, labels),
        choose(labels, names, "--classes") if names else None,
        _squared(request, labels),
        crs,
        form,
        tuple(_targets(request, masks, form)) if to_files and request.output != STDOUT else (),
    )
    for target in job.targets:
        check_target(target.path, overwrite=request.overwrite or request.append, inputs=job.inputs)
    return job


def _refuse_contradictions(request: Request) -> None:
    generalised = [("--simplify", request.simplify > 0), ("--regularize", request.regularize is not None)]
    stream = [
        ("--split", request.split is not None),
        ("--append", request.append),
        ("--layer", request.layer is not None),
        ("--format", request.format is not None),
        ("--crs", request.crs is not None),
    ]
    for option, others in (
        ("--exact", generalised if request.exact else []),
        ("-o -", stream if request.output == STDOUT else []),
        ("--overwrite", [("--append", request.append)] if request.overwrite else []),
    ):
        for other, is_given in others:
            if is_given:
                raise RssegError(f"{option} and {other} do not go together", "leave one of them out")
    for option, size in (("--fill-holes", request.fill_holes), ("--simplify", request.simplify)):
        if not 0 <= size < float("inf"):
            raise RssegError(f"{option} {size:g}: is no size", "give a number from 0 on")


def _format(request: Request) -> Format:
    if request.output == STDOUT:
        return format_of(STDOUT, "GeoJSONSeq")
    if request.output is None or request.output.is_dir() or request.split is not None:
        return format_of(Path(), request.format or GEOPACKAGE.name, append=request.append)
    return format_of(request.output, request.format, append=request.append)


def _crs(text: str | None) -> CRS | None:
    try:
        return CRS.from_user_input(text) if text is not None else None
    except CRSError as problem:
        raise RssegError(f"--crs {text}: is no coordinate system", "name it as in --crs EPSG:25832") from problem


def _classes(text: str | None) -> tuple[ClassScheme | None, list[str]]:
    """(classes named in a file, classes listed)."""
    if text is None:
        return None, []
    if text.lower().endswith(CLASS_FILES):
        return read_classes(text), []
    return None, _listed(text, "--classes")


def _listed(text: str, option: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise RssegError(f"{option}: names nothing", "leave it out, or fill it in")
    return names


def _squared(request: Request, labels: Labels) -> frozenset[int]:
    if request.regularize is None:
        return frozenset()
    return choose(labels, _listed(request.regularize, "--regularize"), "--regularize")


def _least(request: Request, labels: Labels) -> Least:
    everywhere, by_id = 0.0, []
    for entry in _listed(request.min_area, "--min-area") if request.min_area is not None else []:
        name, _, size = entry.rpartition("=")
        if name:
            by_id += [(number, _area(size)) for number in choose(labels, [name], "--min-area")]
        else:
            everywhere = _area(size)
    return Least.of(everywhere, by_id, request.fill_holes)


def _area(text: str) -> float:
    try:
        size = float(text)
    except ValueError:
        size = -1
    if not 0 <= size < float("inf"):
        raise RssegError(f"--min-area: {text} is no area", "write it as in --min-area 500,building=25")
    return size


def _targets(request: Request, masks: Masks, form: Format) -> list[Target]:
    stem = re.sub(r"[/\\:]", "_", masks.names[0]) + ("_mosaic" if len(masks.paths) > 1 else "")
    if request.split is None:
        path = request.output or Path()
        path = path / (stem + form.suffixes[0]) if path.is_dir() else path
        return [Target(path, _layer(request, path))]
    folder = request.output or Path()
    if folder.exists() and not folder.is_dir():
        raise RssegError(
            f"{folder}: is a file, and --split writes a file for each district",
            "name a folder",
            file=str(folder),
            kind="output",
        )
    districts = open_districts(request.split, masks.labels.grid)
    folder.mkdir(parents=True, exist_ok=True)
    paths = file_names(districts, folder, stem, form.suffixes[0])
    return [Target(path, _layer(request, path), d) for path, d in zip(paths, districts, strict=True)]


def _layer(request: Request, path: Path) -> str:
    if request.layer is None:
        name = re.sub(NO_LAYER_NAME, "", path.stem)
        return "polygons" if not name or re.match(RESERVED, name) else name
    if re.search(NO_LAYER_NAME, request.layer) or re.match(RESERVED, request.layer) or not request.layer:
        raise RssegError(
            f"--layer {request.layer}: is no name for a layer",
            "begin with a letter or a number, but not with gpkg, sqlite_ or rtree_, and leave out |",
        )
    return request.layer
