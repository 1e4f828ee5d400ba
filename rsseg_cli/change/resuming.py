"""What a run has found so far stays beside its output, and another run can go on with it, if it is asked for the same.

The method itself is fitted anew: that takes the same seed, and comes to the same.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsseg_cli import __version__
from rsseg_cli.change.pair import Pair
from rsseg_cli.errors import RssegError
from rsseg_cli.journal import Journal
from rsseg_cli.raster.scene import Scene
from rsseg_cli.raster.tiles import blocks
from rsseg_cli.raster.verify import gdal_errors
from rsseg_cli.sameness import FILES, stamps

if TYPE_CHECKING:
    from rsseg_cli.change.detection import Request

FINISHED = "distances.finished"
READ_PX = 1024
# Of a request: what is said of in another way, and what makes no difference.
APART = {"before", "after", "score", "pair", "choice", "overwrite", "resume"}

logger = logging.getLogger(__name__)

Begin = Callable[[Mapping[str, Any], bool], Path]


@contextmanager
def unfinished(target: Path) -> Iterator[Begin]:
    """Gives what begins a run, new or where another stopped, in a folder beside the target; the folder goes at the end.

    If the run breaks off, what it has finished stays. From a full disk it goes: there, space is worth more.
    """
    journal, begun = Journal(target.with_name(f".{target.name}.rsseg-blocks")), False

    def begin(run: Mapping[str, Any], resume: bool) -> Path:
        nonlocal begun
        with gdal_errors(target):
            journal.start(run, resume)
        begun = True
        return journal.folder

    try:
        yield begin
    except BaseException as stop:
        if begun:
            _leave(journal, target, is_full=isinstance(stop, RssegError) and stop.kind == "space")
        raise
    journal.remove()


def _leave(journal: Journal, target: Path, is_full: bool) -> None:
    finished = journal.folder / FINISHED
    if is_full or not finished.is_file() or not finished.stat().st_size:
        journal.remove()
    else:
        logger.info("%s: the blocks that are finished are kept; --resume goes on from there", target)


def run_of(request: "Request", pair: Pair) -> dict[str, Any]:
    """What must be the same for a run to go on where another stopped, by the names of options."""
    said = {each.name: getattr(request, each.name) for each in fields(request) if each.name not in APART}
    said |= {**asdict(request.pair), **asdict(request.choice), "probability": request.score}
    others = (request.before_classes, request.after_classes, request.choice.encoder_weights)
    return {
        "rsseg": __version__,
        "before": _content(request.before),
        "after": _content(request.after),
        FILES: stamps(file for file in (*pair.files, *others) if file is not None),
        **{name.replace("_", "-"): str(value) if isinstance(value, Path) else value for name, value in said.items()},
        "aoi": [pair.area.digest] if pair.area else None,
    }


def _content(date: str | Scene) -> str | list[str]:
    """The name of a file; of an array, which has none, a digest."""
    if isinstance(date, str):
        return date
    digest = hashlib.sha256(f"{date.grid} {date.bands}".encode())
    for window in blocks(date.grid, READ_PX):
        digest.update(date.values(window).tobytes())
    return [digest.hexdigest()]
