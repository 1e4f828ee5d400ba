"""Class maps of the two dates, on the pixels that the dates are compared on: what changed from what to what."""

from dataclasses import replace

from rasterio.windows import Window

from rsseg_cli.change.pair import Pair
from rsseg_cli.change.shift import Shift
from rsseg_cli.errors import RssegError
from rsseg_cli.raster.labels import Labels, align_labels, open_label_raster

FROM, TO = "from", "to"


def open_classes(
    before: str | None, after: str | None, pair: Pair, moved: Shift | None, by_place: bool
) -> dict[str, Labels]:
    """By column, the class maps of the dates; a map moves as its date was moved, if it was."""
    found = {}
    for column, path, way in ((FROM, before, -1), (TO, after, 1)):
        if path is not None:
            gives_way = (column == FROM) == pair.keeps_after
            shift = (way * moved.dx, way * moved.dy) if moved is not None and gives_way else (0.0, 0.0)
            labels = open_label_raster(path)
            found[column] = _put_on(labels if by_place else _laid_upon(labels, pair), pair, *shift)
    return found


def _put_on(labels: Labels, pair: Pair, dx: float, dy: float) -> Labels:
    height, width = pair.grid.shape
    return align_labels(labels, pair.grid.crop(Window(dx, dy, width, height)))


def _laid_upon(labels: Labels, pair: Pair) -> Labels:
    """Pixel by pixel, as the dates are."""
    if labels.grid.shape != pair.loose.grid.shape:
        (height, width), (rows, cols) = labels.grid.shape, pair.loose.grid.shape
        raise RssegError(
            f"{labels.path}: is {width} x {height} pixels, and its date {cols} x {rows}",
            "with --align off, name a map of the size of its image",
            file=labels.path,
        )
    return replace(labels, grid=pair.loose.grid)
