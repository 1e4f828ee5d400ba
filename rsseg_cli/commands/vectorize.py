"""`rsseg vectorize`: label maps to clean polygon layers."""

import time
from pathlib import Path
from typing import Annotated

import typer

from rsseg_cli.commands.options import Overwrite, with_console
from rsseg_cli.console import Console
from rsseg_cli.errors import RssegError


@with_console
def vectorize(
    masks: Annotated[
        list[str], typer.Argument(metavar="MASK...", help="Label maps. Several become one layer, later ones on top.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|DIR|-",
            help="A .gpkg, .fgb, .parquet or .geojson, or a folder; - for a GeoJSON sequence on stdout. "
            "Default: MASK.gpkg, here.",
        ),
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Leave the pixels' edges as they are.")] = False,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="LIST|FILE",
            help="Classes to write, by name or number: building,water. Or a .csv, .toml or .qml that names them.",
        ),
    ] = None,
    min_area: Annotated[
        str | None,
        typer.Option(
            metavar="M2[,CLASS=M2]",
            help="Merge smaller polygons into the neighbour with the longest shared border, before lines are "
            "smoothed: 500,building=25.",
        ),
    ] = None,
    fill_holes: Annotated[
        float, typer.Option(metavar="M2", help="Give holes without any class, up to this size, to what lies around.")
    ] = 0.0,
    simplify: Annotated[
        float,
        typer.Option(
            metavar="METRES",
            help="Leave out corners that enclose less than METRES x METRES. Shared borders stay shared.",
        ),
    ] = 0.0,
    regularize: Annotated[
        str | None, typer.Option(metavar="CLASS,...", help="Give polygons of these classes right angles.")
    ] = None,
    confidence: Annotated[
        str | None,
        typer.Option(metavar="RASTER", help="Adds mean, minimum and 10th percentile of this raster to each polygon."),
    ] = None,
    remap: Annotated[
        str | None,
        typer.Option(
            metavar="CSV",
            help="Merge, rename or leave out classes: lines of from,to[,color]. Without a to: left out.",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="VECTOR:FIELD", help="FILE[:LAYER]:FIELD of districts. Write a file for each, named by the field."
        ),
    ] = None,
    layer: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the layer. Default: the file's.")] = None,
    crs: Annotated[
        str | None, typer.Option(metavar="CRS", help="Coordinate system to write, EPSG:4326 say. Default: the masks'.")
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option("--format", "-f", metavar="NAME", help="GPKG, FlatGeobuf, Parquet, GeoJSON or GeoJSONSeq."),
    ] = None,
    append: Annotated[
        bool, typer.Option("--append", help="Add to a GeoPackage: a new layer, or more rows of the one named.")
    ] = False,
    overwrite: Overwrite = False,
    *,
    console: Console,
) -> None:
    """Make clean polygon layers of label maps.

    Lines are as straight as the pixels allow, and neighbours share their borders: no gap, no overlap.

    Each polygon has a uid, its class, its area and its perimeter; a GeoPackage opens in QGIS in the classes' colours.
    Without a coordinate system, pixels count instead of metres.

    Example:  rsseg vectorize map.tif -o map.gpkg --min-area 100,building=20 --regularize building
    """
    started = time.perf_counter()
    from rsseg_cli.polygon_job import STDOUT, Request
    from rsseg_cli.vectorization import make_layers

    request = Request(
        masks=tuple(masks),
        output=output,
        exact=exact,
        classes=classes,
        min_area=min_area,
        fill_holes=fill_holes,
        simplify=simplify,
        regularize=regularize,
        confidence=confidence,
        remap=remap,
        split=split,
        layer=layer,
        crs=crs,
        format=format_,
        append=append,
        overwrite=overwrite,
    )
    if output == STDOUT and console.as_json:
        raise RssegError("-o - and --json do not go together", "leave one of them out: both print to stdout")
    result = make_layers(request, started, console.track)
    if output != STDOUT:
        console.report(result, [entry["output"] for entry in result.get("districts", [result])])
