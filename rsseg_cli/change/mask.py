"""What a person masks of a date, such as clouds: pixels that count as nothing there."""

import logging
import re
from pathlib import Path

from rsseg_cli.change.common import covered
from rsseg_cli.errors import RssegError
from rsseg_cli.raster.masked import Ranges, without
from rsseg_cli.raster.scene import Scene
from rsseg_cli.raster.sources import open_scene

VALUES = re.compile(r"^\d+(-\d+)?(,\d+(-\d+)?)*$")

logger = logging.getLogger(__name__)


def masked(scene: Scene, text: str) -> Scene:
    """The scene without what `FILE[:VALUES]` masks; without values, all but 0."""
    path, ranges = split_values(text)
    mask = open_scene(path)
    found = without(scene, mask, ranges)
    if covered(scene.grid, mask.grid) not in (None, scene.grid.window):
        logger.info("%s: covers a part of %s; elsewhere nothing is masked", mask.path, scene.path)
    return found


def split_values(text: str) -> tuple[str, Ranges]:
    """(file, ranges of values, ends included) of `clouds.tif:3,8-10`; no ranges where no values are given."""
    file, _, values = text.rpartition(":")
    if not file or Path(text).exists() or not (VALUES.match(values) or Path(file).is_file()):
        return text, ()
    ends = [item.split("-") for item in values.split(",")]
    ranges = tuple((int(each[0]), int(each[-1])) for each in ends) if VALUES.match(values) else ()
    if not ranges or any(first > last for first, last in ranges):
        raise RssegError(f"{text}: {values} are no values of a mask", f"list them, small ones first: {file}:3,8-10")
    return file, ranges
