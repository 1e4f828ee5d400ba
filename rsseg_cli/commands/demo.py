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
    alone. As long as rsseg trains no model, maps/ holds what a classifier of single-pixel colours makes of them.

    Example:  rsseg demo my_demo
    """
    from rsseg_cli.samples.demonstration import draw

    if folder.exists() and not folder.is_dir():
        raise RssegError(f"{folder}: is not a folder", "name a folder", file=str(folder), kind="output")
    made = draw(folder, size, overwrite, console.track)
    if not console.as_json:
        print(f"Drawn into {folder}: {', '.join(made)}")
    runs = [
        _run(console, "info", "source/meadow_1.tif", "source/meadow_3_labels.gpkg", folder=folder),
        _run(console, "evaluate", "maps/meadow_3_colours.tif", "source/meadow_3_labels.gpkg", folder=folder),
        _run(console, "evaluate", "maps/karst_1_colours.tif", "truth/karst_1_labels.tif", folder=folder),
    ]
    ending = f"Colours alone do not travel from town to town. Open {folder} in QGIS to see the maps."
    console.report({"folder": str(folder), "files": made, "runs": runs}, ["", ending])


def _run(console: Console, command: str, *files: str, folder: Path) -> dict[str, Any]:
    """Runs a command as a person would, and shows its words; with --json takes its result instead."""
    words = [command, *(str(folder / file) for file in files)]
    if not console.as_json:
        print(f"\n$ rsseg {shlex.join(words)}", flush=True)
    quiet = ["--json"] if console.as_json else []
    call = [sys.executable, "-m", "rsseg_cli", *words, *quiet, "--progress", "plain", "--quiet"]
    ended = subprocess.run(call, stdout=subprocess.PIPE if console.as_json else None, check=False)  # noqa: S603
    if ended.returncode != 0:
        raise RuntimeError(f"rsseg {shlex.join(words)} ended with {ended.returncode}")
    return {"command": words, "result": json.loads(ended.stdout) if console.as_json else None}
