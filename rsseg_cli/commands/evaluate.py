"""`rsseg evaluate`: how good a map is."""

from typing import Annotated, Any

import typer

from rsseg_cli.commands.options import Background, Classes, ClassField, Where, with_console
from rsseg_cli.console import Console


@with_console
def evaluate(
    prediction: Annotated[str, typer.Argument(help="Label map, or a map of scores such as a change score.")],
    truth: Annotated[str, typer.Argument(help="Label raster, or polygons: FILE[:LAYER].")],
    classes: Classes = None,
    prediction_classes: Annotated[
        str | None, typer.Option(metavar="FILE", help="What the prediction's numbers mean, if not what the truth's do.")
    ] = None,
    class_field: ClassField = None,
    where: Where = None,
    background: Background = False,
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="CLASS", help="Class of the truth to leave out, by name or number.")
    ] = None,
    boundary: Annotated[
        int, typer.Option(metavar="PIXELS", min=0, help="Leave out this many pixels on either side of class borders.")
    ] = 0,
    positive: Annotated[
        str | None, typer.Option(metavar="CLASS", help="Scores: the class they are for. Default: the higher of two.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Scores: from here on a pixel counts as positive. Default: 0.5. Given, the map is a score."),
    ] = None,
    confidence: Annotated[
        str | None, typer.Option(metavar="RASTER", help="How sure the map is, from 0 to 1: is it right that often?")
    ] = None,
    *,
    console: Console,
) -> None:
    """Score a map against the truth.

    Each labelled pixel of a truth raster counts once; the prediction is brought onto its grid by nearest neighbour.
    Only classes that occur in the truth enter the means.

    Example:  rsseg evaluate town_labels.tif truth/town.gpkg:landcover --boundary 2
    """
    from rsseg_cli.evaluation import Rules
    from rsseg_cli.evaluation import evaluate as score

    result = score(
        prediction,
        truth,
        classes=classes,
        prediction_classes=prediction_classes,
        class_field=class_field,
        where=where,
        background=background,
        confidence=confidence,
        rules=Rules(threshold, positive, boundary, tuple(ignore or ())),
        track=console.track,
    )
    console.report(result, _lines(result))


def _lines(result: dict[str, Any]) -> list[str]:
    width = max(len(name) for name in ("class", *result["classes"]))
    lines = [f"{'class':<{width}}     IoU      F1   precision  recall     pixels"]
    for name, figures in result["classes"].items():
        iou, f1, precision, recall = (_share(figures[key]) for key in ("iou", "f1", "precision", "recall"))
        lines.append(f"{name:<{width}}  {iou:>6}  {f1:>6}  {precision:>10}  {recall:>6}  {figures['pixels']:>9}")
    scored = len(result["classes_in_mean"])
    lines += [
        "",
        f"mIoU {_share(result['miou'])}, F1 {_share(result['f1_macro'])}: means over the {scored} classes in the truth",
        f"accuracy {_share(result['accuracy'])} of {result['pixels']} labelled pixels, on {result['scored_on']}",
    ]
    if "auc" in result:
        lines.append(
            f"{result['positive']}: AUC {_share(result['auc'])}, average precision "
            f"{_share(result['average_precision'])}, F1 {_share(result['f1'])}, best F1 {_share(result['best_f1'])}"
        )
    if result.get("ece") is not None:
        lines.append(
            f"confidence {_share(result['mean_confidence'])} on average; it is off by {_share(result['ece'])} "
            "(expected calibration error, 15 bins)"
        )
    return lines


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
