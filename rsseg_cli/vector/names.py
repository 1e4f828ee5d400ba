"""File names that pyogrio would take for other places."""

from pathlib import Path

from pyogrio.util import vsi_path

from rsseg_cli.errors import Kind, RssegError


def refuse_disguised(path: str | Path, kind: Kind) -> None:
    # pyogrio takes `a!b.gpkg` for b.gpkg in an archive, and `a;b.gpkg` for a with parameters: it goes elsewhere.
    absolute = str(Path(path).absolute())
    if vsi_path(absolute) != absolute:
        raise RssegError(
            f"{path}: the path looks like a URL or an archive to GDAL",
            "choose a name and folder without ! ; and line breaks",
            file=str(path),
            kind=kind,
        )
