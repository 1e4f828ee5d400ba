"""`rsseg qgis-plugin`: the plugin for QGIS, to install there."""

import logging
from pathlib import Path
from typing import Annotated
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile, ZipInfo

import typer

from rsseg_cli import __version__
from rsseg_cli.commands.options import Overwrite, with_console
from rsseg_cli.console import Console
from rsseg_cli.delivery import deliver, system_errors
from rsseg_cli.errors import RssegError

PLUGIN = Path(__file__).parent.parent / "qgis"
FOLDER = "rsseg"  # QGIS calls a plugin by the folder that it finds in the zip
HOW = "in QGIS: Plugins > Manage and Install Plugins > Install from ZIP; then see rsseg in the Processing toolbox"

logger = logging.getLogger(__name__)


@with_console
def qgis_plugin(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The zip to write, which QGIS installs.")
    ] = Path("rsseg.zip"),
    overwrite: Overwrite = False,
    *,
    console: Console,
) -> None:
    """Write the plugin that brings rsseg into the toolbox of QGIS, 3.22 or newer.

    Example:  rsseg qgis-plugin -o rsseg.zip
    """
    if output.suffix.lower() != ".zip":
        raise RssegError(f"{output}: QGIS installs plugins from a zip", f"-o {output}.zip", kind="output")
    files = sorted(path for path in PLUGIN.iterdir() if path.is_file())

    def verify(finished: Path) -> None:
        try:
            with ZipFile(finished) as plugin:
                is_whole = plugin.testzip() is None and len(plugin.namelist()) == len(files)
        except BadZipFile:
            is_whole = False
        if not is_whole:
            raise RssegError(f"{output}: could not be written", "try again, in another folder", kind="output")

    with deliver(output, verify, overwrite=overwrite) as folder, system_errors(output):
        _pack(files, folder / output.name)
    logger.info("%s", HOW)
    names = [f"{FOLDER}/{path.name}" for path in files]
    console.report({"plugin": str(output), "version": __version__, "files": names}, [str(output)])


def _pack(files: list[Path], target: Path) -> None:
    with ZipFile(target, "w") as plugin:
        for path in files:
            # Without the times of files, the same version is the same zip.
            plugin.writestr(ZipInfo(f"{FOLDER}/{path.name}"), path.read_bytes(), ZIP_DEFLATED)
