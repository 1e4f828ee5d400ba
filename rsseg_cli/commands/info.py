"""`rsseg info`: what rsseg understands of a file."""

from typing import Annotated, Any

import typer

from rsseg_cli.commands.options import Alpha, Bands, with_console
from rsseg_cli.console import Console
from rsseg_cli.errors import RssegError


@with_console
def info(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...", help="Rasters, folders of them, red=B04.tif,green=B03.tif, vector files, models."
        ),
    ],
    bands: Bands = None,
    alpha: Alpha = "auto",
    mosaic: Annotated[
        bool, typer.Option("--mosaic", help="See the rasters of a folder or pattern as one map.")
    ] = False,
    *,
    console: Console,
) -> None:
    """Show how a raster, a series or a vector file will be read.

    Example:  rsseg info town.tif --bands red=3,nir=4
    """
    from rsseg_cli.description import describe, describe_mosaic, lines_of
    from rsseg_cli.raster.series import inner_folders

    if mosaic:
        whole = describe_mosaic(files, bands, alpha)
        console.report({"files": [whole]}, lines_of(whole))
        return

    found: list[dict[str, Any]] = []
    errors: list[RssegError] = []
    # Of a folder of folders, each by itself.
    named = [inner for file in files for inner in inner_folders(file)]
    for file in named:
        try:
            found.append(describe(file, bands, alpha))
        except RssegError as error:
            if len(named) == 1:
                raise
            console.fail(error, on_stdout=False)
            errors.append(error)
            found.append({"file": file, "error": error.as_json()})
    readable = [entry for entry in found if "error" not in entry]
    for within in (RssegError(**error) for entry in readable for error in entry.get("errors", [])):
        console.fail(within, on_stdout=False)
        errors.append(within)
    console.report({"files": found}, ["\n".join(lines_of(entry)) for entry in readable])
    if errors:
        raise typer.Exit(1)
