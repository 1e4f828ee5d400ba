"""`rsseg detect-change`: what changed between two dates."""

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from rsseg_cli.commands.options import Alpha, Aoi, Bands, CreationOptions, Device, Overwrite, with_console
from rsseg_cli.console import Console

Method = Literal["metric-cd", "metric-cd-paper", "classical", "ir-mad", "cva"]
Align = Literal["auto", "grid", "off"]
Mask = Annotated[
    str | None,
    typer.Option(metavar="FILE[:VALUES]", help="Leave out what a raster marks, clouds say: clouds.tif:3,8-10."),
]


@with_console
def detect_change(
    before: Annotated[str, typer.Argument(help="The earlier date: a raster, or files as bands.")],
    after: Annotated[str, typer.Argument(help="The later date.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The mask: 0 unchanged, 1 changed, 255 nothing.")
    ] = Path("change.tif"),
    method: Annotated[
        Method,
        typer.Option(
            help="metric-cd: learns on this pair what stands out from season, light and noise, and joins that with the "
            "classical map. classical: ir-mad (all bands together) and cva (band by band) as one; the quickest is cva. "
            "metric-cd-paper: as published, for comparison: minutes, and small pairs only.",
        ),
    ] = "metric-cd",
    probability: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Also write the change score, 0 to 1; the mask is cut at 0.5 (metric-cd-paper: 0.7)."
        ),
    ] = None,
    polygons: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write what changed as polygons, with area, score and direction: a .gpkg, .fgb, ...",
        ),
    ] = None,
    bands: Bands = None,
    before_bands: Annotated[
        str | None, typer.Option(metavar="LIST", help="Bands of the earlier date, where they differ.")
    ] = None,
    after_bands: Annotated[str | None, typer.Option(metavar="LIST", help="Bands of the later date.")] = None,
    before_mask: Mask = None,
    after_mask: Mask = None,
    aoi: Aoi = None,
    align: Annotated[
        Align, typer.Option(help="auto: grids and a shift; grid: no shift; off: pixel by pixel, wherever they lie.")
    ] = "auto",
    max_shift_px: Annotated[
        float, typer.Option(metavar="PIXELS", help="Refuse dates that lie further apart than this.")
    ] = 5.0,
    threshold: Annotated[
        str,
        typer.Option(
            metavar="auto|otsu|kittler|null|0..1",
            help="From where on a pixel has changed. auto: Otsu's rule, but beyond what noise explains. null: so that "
            "1 % of what did not change is flagged. otsu, kittler: the plain rules, without that guard. A "
            "number: from that score on. metric-cd-paper follows no rule: 0.7, or the number that is given.",
        ),
    ] = "auto",
    min_area: Annotated[
        float,
        typer.Option(metavar="M2", help="Smaller patches count as unchanged, in the mask and among the polygons."),
    ] = 0.0,
    before_classes: Annotated[
        str | None,
        typer.Option(metavar="RASTER", help="Land cover of the earlier date: polygons get its class as 'from'."),
    ] = None,
    after_classes: Annotated[
        str | None, typer.Option(metavar="RASTER", help="Land cover of the later date: their class as 'to'.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps to optimise at most. Default: 300; metric-cd-paper: 50.")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.1, help="Stop optimising before this time is over, and keep what is reached."),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A network whose features are compared too: squeezenet, mobilenet-v2, vgg16 or random. Default: none; "
            "metric-cd-paper: vgg16.",
        ),
    ] = None,
    encoder_weights: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|DIR|ID",
            help="Published weights of the encoder, without which it tells little: a file (.safetensors, .npz, .pth), "
            "a folder, or a model id (fetched if it is not here).",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A setting of the method; may be repeated. A wrong name lists them all."
        ),
    ] = None,
    alpha: Alpha = "auto",
    mosaic: Annotated[bool, typer.Option("--mosaic", help="Each date is a folder or pattern of tiles.")] = False,
    seed: Annotated[
        int,
        typer.Option(min=0, help="Of the pixels that noise is learned from, and of the random start of a network."),
    ] = 0,
    device: Device = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an interrupted run with the same options stopped.")
    ] = False,
    overwrite: Overwrite = False,
    creation_options: CreationOptions = None,
    *,
    console: Console,
) -> None:
    """Find what changed between two dates.

    Nothing has to be learned before, and no labels are needed. The dates may differ in light, season, size of pixels
    and coordinate system; they are compared on the coarser one's pixels.

    Example:  rsseg detect-change before.tif after.tif -o change.tif --polygons change.gpkg
    """
    started = time.perf_counter()
    from rsseg_cli.change.choosing import check_choice
    from rsseg_cli.change.detection import Request, detect
    from rsseg_cli.change.methods import Choice
    from rsseg_cli.change.pair import PairOptions
    from rsseg_cli.raster.write import creation_options as parse
    from rsseg_cli.settings import parse_settings

    settings = parse_settings(set_ or ())
    choice = Choice(method, encoder, encoder_weights, settings, steps, minutes, seed, device)
    check_choice(choice, threshold)
    request = Request(
        before,
        after,
        output,
        PairOptions(before_bands or bands, after_bands or bands, before_mask, after_mask, aoi, align, alpha, mosaic),
        choice,
        probability,
        polygons,
        before_classes,
        after_classes,
        min_area,
        max_shift_px,
        threshold,
        overwrite,
        parse(creation_options),
        resume,
    )
    result = detect(request, started, console.track)
    console.report(result, [result[kind] for kind in ("change", "probability", "polygons") if result[kind]])
