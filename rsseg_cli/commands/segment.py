"""`rsseg segment`: map any raster with a model."""

import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from rsseg_cli.commands.options import Alpha, Aoi, Bands, CreationOptions, Device, Overwrite, with_console
from rsseg_cli.console import Console
from rsseg_cli.errors import RssegError

Precision = Literal["auto", "float32", "bfloat16"]
SeriesAs = Literal["dates", "place"]


@with_console
def segment(
    scenes: Annotated[
        list[str], typer.Argument(metavar="SCENE...", help="Rasters, folders, patterns, or files as bands.")
    ],
    model: Annotated[str, typer.Option(metavar="FILE", help="A model that rsseg adapt wrote (.safetensors).")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE|DIR", help="Default: SCENE_labels.tif, here.")
    ] = None,
    bands: Bands = None,
    alpha: Alpha = "auto",
    mosaic: Annotated[bool, typer.Option("--mosaic", help="See all rasters as one scene, later ones on top.")] = False,
    series: Annotated[
        SeriesAs | None,
        typer.Option(help="Take dates of one place together: a map a date, helped by the others, or one of the place."),
    ] = None,
    no_shifts: Annotated[
        bool, typer.Option("--no-shifts", help="Of a series: do not look by how much dates lie off each other.")
    ] = False,
    aoi: Aoi = None,
    probabilities: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write each class's probability.")
    ] = None,
    confidence: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the probability of the class that won.")
    ] = None,
    tile_px: Annotated[int, typer.Option(min=64, help="Side of a tile, at most.")] = 544,
    overlap_px: Annotated[
        int | None,
        typer.Option(min=0, help="Pixels over which tiles fade into each other. Default: by encoder."),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Tiles that go through the network together. Default: by device.")
    ] = None,
    tta: Annotated[
        bool, typer.Option("--tta", help="Average over each tile and its mirror images. Takes four times as long.")
    ] = False,
    gsd: Annotated[
        float | None, typer.Option(metavar="METRES", help="Size on the ground to map at. Default: the model's.")
    ] = None,
    precision: Annotated[Precision, typer.Option(help="Numbers the network uses.")] = "auto",
    device: Device = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an interrupted run of this map stopped.")
    ] = False,
    keep_going: Annotated[bool, typer.Option("--keep-going", help="Go on with the others after a bad scene.")] = False,
    overwrite: Overwrite = False,
    creation_options: CreationOptions = None,
    *,
    console: Console,
) -> None:
    """Map rasters of any size with a model.

    Maps lie on exactly the grid of their scene, or on the part of it that --aoi covers. Nodata stays nodata.

    Example:  rsseg segment tgt/*.tif --model tgt.safetensors -o maps/
    """
    started = time.perf_counter()  # before the imports: they are part of what the person waits for
    from rsseg_cli.job import Settings
    from rsseg_cli.raster.write import creation_options as parse
    from rsseg_cli.segmentation import Request, map_all

    request = Request(
        scenes=tuple(scenes),
        model=model,
        output=output,
        bands=bands,
        alpha=alpha,
        mosaic=mosaic,
        aoi=aoi,
        probabilities=probabilities,
        confidence=confidence,
        settings=Settings(tile_px, overlap_px, batch, gsd, device, precision, tta, series, not no_shifts),
        resume=resume,
        overwrite=overwrite,
        creation_options=parse(creation_options),
    )
    errors: list[RssegError] = []

    def spare(error: RssegError) -> None:
        console.fail(error, on_stdout=False)
        errors.append(error)

    result = map_all(request, started, console.track, spare if keep_going else None)
    result["errors"] = [error.as_json() for error in errors]
    console.report(result, [path for entry in result["outputs"] for path in _written(entry)])
    if errors:
        raise typer.Exit(1)


def _written(entry: dict[str, Any]) -> list[str]:
    return [entry[kind] for kind in ("labels", "probabilities", "confidence") if entry[kind]]
