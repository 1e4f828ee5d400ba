"""`rsseg segment`: map any raster with a model."""

import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from rsseg_cli.commands.options import Alpha, Bands, CreationOptions, Device, Overwrite, with_console
from rsseg_cli.console import Console
from rsseg_cli.errors import RssegError

Precision = Literal["auto", "float32", "bfloat16"]


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
    mosaic: Annotated[bool, typer.Option("--mosaic", help="See all rasters as one map, later ones on top.")] = False,
    probabilities: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write each class's probability.")
    ] = None,
    confidence: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the probability of the class that won.")
    ] = None,
    tile_px: Annotated[int, typer.Option(min=64, help="Side of a tile, at most.")] = 512,
    overlap_px: Annotated[int, typer.Option(min=0, help="Pixels over which neighbouring tiles fade.")] = 64,
    batch: Annotated[int, typer.Option(min=1, help="Tiles that go through the network together.")] = 2,
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

    Maps lie on exactly the grid of their scene. Nodata stays nodata.

    Example:  rsseg segment tgt/*.tif --model tgt.safetensors -o maps/
    """
    from rsseg_cli.bundle import load_bundle
    from rsseg_cli.predict import Engine, Tiling
    from rsseg_cli.raster.sources import list_scenes, open_mosaic, open_scene
    from rsseg_cli.raster.write import creation_options as parse
    from rsseg_cli.segmentation import Outputs, check, default_names, map_scene

    started = time.perf_counter()
    names = list_scenes(scenes)
    if mosaic:
        names = names[:1]
    if len(names) > 1 and (probabilities or confidence):
        raise RssegError(
            "--probabilities and --confidence name one file, and there are several scenes", "map the scenes one by one"
        )
    targets = default_names(names, output)
    if output is not None and targets[0].parent == output:
        output.mkdir(parents=True, exist_ok=True)
    bundle = load_bundle(model)
    engine = Engine(Tiling(tile_px, overlap_px, batch), device, precision)
    done: list[dict[str, Any]] = []
    failed = 0
    pixels = 0
    for name, target in zip(names, targets, strict=True):
        outputs = Outputs(target, probabilities, confidence, overwrite, parse(creation_options))
        try:
            scene = open_mosaic(list_scenes(scenes), alpha) if mosaic else open_scene(name, None, alpha)
            scene = check(scene.select(bands), bundle, outputs)
            done.append(map_scene(scene, bundle, outputs, engine, gsd, resume=resume, track=console.track))
            pixels += scene.grid.width * scene.grid.height
        except RssegError as error:
            if not keep_going:
                raise
            console.fail(error, on_stdout=False)
            failed += 1
    seconds = time.perf_counter() - started
    result = {"outputs": done, "seconds": seconds, "megapixels_per_second": pixels / 1e6 / seconds}
    console.report(result, [path for entry in done for path in _written(entry)])
    if failed:
        raise typer.Exit(1)


def _written(entry: dict[str, Any]) -> list[str]:
    return [entry[kind] for kind in ("labels", "probabilities", "confidence") if entry[kind]]
