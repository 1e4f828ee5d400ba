"""`rsseg demo`: the sample scenes, and every command at work on them."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from rsseg_cli.commands.options import Overwrite, with_console
from rsseg_cli.console import Console
from rsseg_cli.environment import WINDOWS
from rsseg_cli.errors import RssegError


@with_console
def demo(
    folder: Annotated[Path, typer.Argument(help="Where to write; made if it is not there.")] = Path("rsseg_demo"),
    size: Annotated[
        int | None, typer.Option(metavar="PIXELS", min=64, max=8192, help="Side of a scene. Default: the small ones.")
    ] = None,
    overwrite: Overwrite = False,
    *,
    console: Console,
) -> None:
    """Draw sample scenes and run every command on them.

    Two towns are drawn, seen by two sensors: source/ with labels, target/ without. What lies in truth/ is for scoring
    alone. The models learn for half a minute each: one of its own town, one adapted to the other.

    Example:  rsseg demo my_demo
    """
    if folder.exists() and not folder.is_dir():
        raise RssegError(f"{folder}: is not a folder", "name a folder", file=str(folder), kind="output")
    made = _draw(folder, size, overwrite, console)
    again = ("--overwrite",) if overwrite else ()
    source, target = folder / "source", folder / "target"
    first, model = folder / "meadow.safetensors", folder / "karst.safetensors"
    own, before, after = (folder / "maps" / name for name in ("source", "not_adapted", "adapted"))
    truth, rules = folder / "truth" / "karst_1_labels.tif", ("--min-area", "10", "--regularize", "building")
    quick, adapting = ("--crop-px", "96", "--steps"), ("--target", target, "--init", first)
    runs = [
        _run(console, "info", source / "meadow_1.tif", source / "meadow_3_labels.gpkg"),
        _run(console, "adapt", "--source", source, *quick, "150", "-o", first, *again),
        _run(console, "segment", source / "meadow_3.tif", "--model", first, "-o", f"{own}/", *again),
        _run(console, "evaluate", own / "meadow_3_labels.tif", source / "meadow_3_labels.gpkg"),
        _run(console, "vectorize", own / "meadow_3_labels.tif", "-o", folder / "meadow_3.gpkg", *rules, *again),
        _run(console, "segment", target, "--model", first, "-o", before, *again),
        _run(console, "evaluate", before / "karst_1_labels.tif", truth),
        _run(console, "adapt", "--source", source, *adapting, *quick, "64", "-o", model, *again),
        _run(console, "segment", target, "--model", model, "-o", after, *again),
        _run(console, "evaluate", after / "karst_1_labels.tif", truth),
    ]
    change, mask = folder / "change", folder / "change.tif"
    polygons = ("--polygons", folder / "change.gpkg")
    runs += [
        _run(console, "detect-change", change / "before.tif", change / "after.tif", "-o", mask, *polygons, *again),
        _run(console, "evaluate", mask, change / "truth.tif"),
    ]
    ending = (
        "The first map is of ground that was learned from, the second of another town under another sensor: what was "
        "learned does not hold there as it is. The third is of a model adapted to that town, without a label of it. "
        "Change is found without learning anything before. "
        f"Open {folder} in QGIS to see the maps."
    )
    console.report({"folder": str(folder), "files": made, "runs": runs}, ["", ending])


def _draw(folder: Path, size: int | None, overwrite: bool, console: Console) -> list[str]:
    """The sample scenes; their names within the folder."""
    from rsseg_cli.samples import DEFAULT_SIZE_PX
    from rsseg_cli.samples.folder import write_samples

    written = write_samples(folder, size or DEFAULT_SIZE_PX, overwrite=overwrite, track=console.track)
    made = [path.relative_to(folder).as_posix() for _, paths in written for path in paths]
    if not console.as_json:
        print(f"Drawn into {folder}: {', '.join(made)}")
    return made


def _run(console: Console, *call: str | Path) -> dict[str, Any]:
    """Runs a command as a person would, and shows its words; with --json takes its result instead."""
    words = [str(word) for word in call]
    if not console.as_json:
        print(f"\n$ rsseg {_typed(words)}", flush=True)
    quiet = ["--json"] if console.as_json else []
    process = [sys.executable, "-m", "rsseg_cli", *words, *quiet, "--progress", "plain", "--quiet"]
    ended = subprocess.run(process, stdout=subprocess.PIPE if console.as_json else None, check=False)  # noqa: S603
    if ended.returncode != 0:
        raise RuntimeError(f"rsseg {_typed(words)} ended with {ended.returncode}")
    return {"command": words, "result": json.loads(ended.stdout) if console.as_json else None}


def _typed(words: list[str]) -> str:
    """With the quotes that this system's shell wants."""
    return subprocess.list2cmdline(words) if WINDOWS else shlex.join(words)
