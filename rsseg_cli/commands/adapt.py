"""`rsseg adapt`: learn a model from labelled scenes, for unlabelled ones."""

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from rsseg_cli.commands.options import Background, Classes, ClassField, Device, Overwrite, Where, with_console
from rsseg_cli.console import Console

Method = Literal["self-training", "st-dasegnet", "da-stc", "ktda", "source-only"]
Head = Literal["all-mlp", "uper"]
Rule = Literal["robust", "fixed"]
Match = Literal["auto", "none", "mean-std", "coral"]


@with_console
def adapt(
    source: Annotated[
        list[str], typer.Option(metavar="DIR", help="Labelled scenes; may be repeated, and each counts alike.")
    ],
    target: Annotated[
        list[str] | None, typer.Option(metavar="DIR", help="Unlabelled scenes the model is for; may be repeated.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The model to write (.safetensors).")
    ] = Path("model.safetensors"),
    method: Annotated[
        Method | None,
        typer.Option(help="How to learn. Default: self-training where there is a target, source-only without."),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|ID|DIR",
            help="tiny, mobilenet-v2, mit-b0 to mit-b5; or a backbone of transformers by its folder or model id "
            "(fetched if it is not here). Default: tiny, or that of --init.",
        ),
    ] = None,
    encoder_weights: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|ID",
            help="Published weights to start from: a file (.safetensors, .npz, .pth), a folder, or a model id "
            "(fetched if it is not here).",
        ),
    ] = None,
    head: Annotated[
        Head | None,
        typer.Option(help="What makes a map of the encoder's features. Default: all-mlp, or that of --init."),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Start from an earlier model. Classes of the same name go on, others start anew."
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|ID|none",
            help="Of ktda: a vision transformer such as DINOv2 or DINOv3, by its folder or model id (fetched if it is "
            "not here); none: the same network without a teacher.",
        ),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="FILE[:LAYER]", help="One label file for all source scenes.")
    ] = None,
    classes: Classes = None,
    class_field: ClassField = None,
    where: Where = None,
    background: Background = False,
    target_labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE[:LAYER]",
            help="A few labels of the target, if you have some. Nothing else reads labels of the target.",
        ),
    ] = None,
    source_bands: Annotated[str | None, typer.Option(metavar="LIST", help="Bands of the source to use.")] = None,
    target_bands: Annotated[str | None, typer.Option(metavar="LIST", help="The same bands in the target.")] = None,
    gsd: Annotated[
        float | None,
        typer.Option(
            metavar="METRES",
            min=0.001,
            help="Size of a pixel to learn at. Default: the finest of all scenes, but at least half of the coarsest.",
        ),
    ] = None,
    normalise: Annotated[Rule, typer.Option(help="Bands scaled by the domain's own statistics, or fixed.")] = "robust",
    match: Annotated[
        Match | None,
        typer.Option(
            help="How the target's bands are brought to the source's statistics. Default: auto, what suits best "
            "without labels; none for source-only."
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Steps of the method. Default: enough for a few minutes on a CPU; or what --minutes allow. A method "
            "that adapts learns from the source alone before: --set source.steps=N.",
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Be done in this time, with fewer steps where needed, by a few that are tried first. source-only "
            "takes as many as fit, unless --steps says how many. With --resume the time used before counts too.",
        ),
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Crops a step. Default: 8.")] = None,
    crop_px: Annotated[
        int | None, typer.Option(min=32, help="Side of a crop. Default: 128; 192 for st-dasegnet.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="The same seed gives the same model on a CPU. Default: 0.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting; may be repeated.")
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            help="Settings, a line each: learning_rate = 0.001; or a .json that --json printed. --dry-run shows them "
            "all. --set and options win.",
        ),
    ] = None,
    workdir: Annotated[Path | None, typer.Option(metavar="DIR", help="Where checkpoints go.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --workdir.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what was found and what it would take, and stop.")
    ] = False,
    device: Device = "auto",
    overwrite: Overwrite = False,
    *,
    console: Console,
) -> None:
    """Learn a model from labelled scenes, for scenes that nobody has labelled.

    Labels lie beside the scenes (town_labels.tif or town_labels.gpkg beside town.tif), in images/ and labels/ with the
    same names, or in one vector file.

    Example:  rsseg adapt --source src/ --target tgt/ -o tgt.safetensors
    """
    from rsseg_cli.class_files import read_classes
    from rsseg_cli.domain import Crops
    from rsseg_cli.folders import LabelOptions
    from rsseg_cli.labels import PolygonOptions
    from rsseg_cli.plan import CROP_PX, Request, check_output, check_request, lines_of, make_plan
    from rsseg_cli.settings import convert, fill, gather, types_of

    started = time.monotonic()
    given = gather(settings, set_ or (), {"steps": steps, "batch": batch, "crop_px": crop_px, "seed": seed})
    chosen: Method = method or ("self-training" if target else "source-only")
    given.setdefault("crop_px", CROP_PX.get(chosen, Crops.crop_px))
    request = Request(
        sources=tuple(source),
        targets=tuple(target or ()),
        method=chosen,
        encoder=encoder,
        encoder_weights=encoder_weights,
        head=head,
        init=init,
        teacher=teacher,
        labels=LabelOptions(
            labels, read_classes(classes) if classes else None, PolygonOptions(class_field, where, background)
        ),
        target_labels=target_labels,
        source_bands=source_bands,
        target_bands=target_bands,
        gsd_m=gsd,
        normalise=normalise,
        match=match or ("none" if chosen == "source-only" else "auto"),
        steps=convert("steps", given["steps"], int) if "steps" in given else None,
        minutes=minutes,
        crops=fill(Crops, given),
        settings={name: value for name, value in given.items() if name not in ("steps", *types_of(Crops))},
        device=device,
        workdir=workdir,
        resume=resume,
    )
    check_request(request)
    if not dry_run:
        check_output(output, overwrite=overwrite, inputs=[init] if init else [])
    plan = make_plan(request)

    # Torch is slow to import, and by now the scenes are known to be sound.
    from rsseg_cli.adaptation import adapt as learn
    from rsseg_cli.adaptation import rehearse

    if dry_run:
        found = rehearse(request, plan, started)
        console.report(found, lines_of(found))
        return
    result = learn(request, plan, output, overwrite=overwrite, track=console.track, started=started)
    console.report(result, [result["model"]])
