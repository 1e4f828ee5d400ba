"""`rsseg adapt`: learn a model from labelled scenes."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from rsseg_cli.commands.options import Background, Classes, ClassField, Device, Overwrite, Where, with_console
from rsseg_cli.console import Console

Method = Literal["source-only"]
Rule = Literal["robust", "fixed"]


@with_console
def adapt(
    source: Annotated[list[str], typer.Option(metavar="DIR", help="Labelled scenes; may be repeated.")],
    target: Annotated[
        list[str] | None, typer.Option(metavar="DIR", help="Unlabelled scenes the model is for; may be repeated.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The model to write (.safetensors).")
    ] = Path("model.safetensors"),
    method: Annotated[Method, typer.Option(help="How to learn.")] = "source-only",
    encoder: Annotated[str, typer.Option(metavar="NAME", help="tiny, mobilenet-v2, mit-b0 to mit-b5.")] = "tiny",
    encoder_weights: Annotated[
        str | None, typer.Option(metavar="FILE", help="Published weights to start from (.safetensors, .npz, .pth).")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="FILE[:LAYER]", help="One label file for all source scenes.")
    ] = None,
    classes: Classes = None,
    class_field: ClassField = None,
    where: Where = None,
    background: Background = False,
    source_bands: Annotated[str | None, typer.Option(metavar="LIST", help="Bands of the source to use.")] = None,
    target_bands: Annotated[str | None, typer.Option(metavar="LIST", help="The same bands in the target.")] = None,
    gsd: Annotated[
        float | None, typer.Option(metavar="METRES", help="Size of a pixel to learn at. Default: the coarser domain's.")
    ] = None,
    normalise: Annotated[Rule, typer.Option(help="Bands scaled by the domain's own statistics, or fixed.")] = "robust",
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps. Default: by encoder.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Crops a step.")] = 8,
    crop_px: Annotated[int, typer.Option(min=32, help="Side of a crop.")] = 128,
    seed: Annotated[int, typer.Option(help="The same seed gives the same model on a CPU.")] = 0,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting of the method.")
    ] = None,
    workdir: Annotated[Path | None, typer.Option(metavar="DIR", help="Where checkpoints go.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --workdir.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what was found and stop.")] = False,
    device: Device = "auto",
    overwrite: Overwrite = False,
    *,
    console: Console,
) -> None:
    """Learn a model from labelled scenes.

    Labels lie beside the scenes (town_labels.tif or town_labels.gpkg beside town.tif), in images/ and labels/ with the
    same names, or in one vector file.

    Example:  rsseg adapt --source src/ --target tgt/ -o tgt.safetensors
    """
    from rsseg_cli.adaptation import Request, make_plan, parse_settings
    from rsseg_cli.adaptation import adapt as learn
    from rsseg_cli.class_files import read_classes
    from rsseg_cli.folders import LabelOptions
    from rsseg_cli.labels import PolygonOptions
    from rsseg_cli.patches import Crops

    request = Request(
        sources=tuple(source),
        targets=tuple(target or ()),
        method=method,
        encoder=encoder,
        encoder_weights=encoder_weights,
        labels=LabelOptions(
            labels, read_classes(classes) if classes else None, PolygonOptions(class_field, where, background)
        ),
        source_bands=source_bands,
        target_bands=target_bands,
        gsd_m=gsd,
        normalise=normalise,
        steps=steps,
        crops=Crops(side_px=crop_px, batch=batch, seed=seed),
        settings=parse_settings(set_),
        device=device,
        workdir=workdir,
        resume=resume,
    )
    plan = make_plan(request)
    if dry_run:
        found = plan.to_json()
        console.report(found, [f"{name}: {value}" for name, value in found.items()])
        return
    result = learn(request, plan, output, overwrite=overwrite, track=console.track)
    console.report(result, [result["model"]])
