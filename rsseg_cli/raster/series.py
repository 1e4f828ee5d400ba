"""Series: dated scenes of one place on one grid. It holds no pixels, it reads them.

The grid has the pixels that most dates have, and reaches as far as any of them: what a date does not cover is nothing
there, as its gaps and clouds are. Dates that lie on other pixels are resampled once, when they are read.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from rsseg_cli.errors import RssegError
from rsseg_cli.raster.align import align
from rsseg_cli.raster.bands import listed, matched
from rsseg_cli.raster.dates import day_of
from rsseg_cli.raster.files import is_local
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.mosaic import joint_grid, place_on
from rsseg_cli.raster.scene import Band, Scene
from rsseg_cli.raster.sources import has_rasters, is_label_name, list_scenes, open_scene, scenes_as_one

# Scenes that have more than this of the smaller one in common show one place. Neighbouring tiles have less.
ONE_PLACE = 0.2
# Of one date they may be pieces of it, beside each other; with more in common they are two pictures of the same.
BESIDE = 0.5

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Series:
    """Scenes of one place by date, all on one grid and with the same bands."""

    path: str  # the folder of its files; for messages and default names
    grid: Grid
    scenes: tuple[Scene, ...]
    whole: "Series | None" = None  # of which this is a window

    @property
    def names(self) -> tuple[str, ...]:
        return self.scenes[0].names

    @property
    def bands(self) -> tuple[Band, ...]:
        return self.scenes[0].bands

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that is read; no output may replace one."""
        return tuple(file for scene in self.scenes for file in scene.files)

    @property
    def dates(self) -> tuple[str, ...]:
        """ISO, to the precision known."""
        return tuple(scene.date or "" for scene in self.scenes)

    @property
    def days(self) -> NDArray[np.int64]:
        """Since the first date."""
        days = [day_of(date).toordinal() for date in self.dates]
        return np.array(days, np.int64) - days[0]

    @cached_property
    def shifts(self) -> NDArray[np.float32]:
        """By how many pixels (down, right) dates lie off each other in spite of their grid, (date, 2).

        Estimated once, on a sample of the whole series. Values are read as they lie.
        """
        if self.whole is not None:
            return self.whole.shifts
        # What compares two dates stands on the rasters of this folder.
        from rsseg_cli.change.remaining import remaining_shifts

        return remaining_shifts(self.scenes, self.grid)

    def values(self, window: Window | None = None) -> NDArray[np.float32]:
        """The values of a window, (date, band, y, x); NaN where there is nothing."""
        return np.stack([scene.values(window) for scene in self.scenes])

    def each(self, change: Callable[[Scene], Scene]) -> "Series":
        """The same series with something done to every scene, such as a choice of bands."""
        return replace(self, scenes=tuple(change(scene) for scene in self.scenes))

    def select(self, wanted: str | None) -> "Series":
        """The same series with the bands of a list such as `red,green`."""
        return self.each(lambda scene: scene.select(wanted))

    def crop(self, window: Window) -> "Series":
        """The same dates of a window."""
        grid = self.grid.crop(window)
        return replace(self.each(lambda scene: align(scene, grid)), grid=grid, whole=self.whole or self)


def open_series(place: str | Path | Sequence[str], bands: str | None = None, alpha: str = "auto") -> Series:
    """The dated scenes of a folder, of a pattern, or of a list of names."""
    texts = [str(place)] if isinstance(place, str | Path) else list(place)
    scenes = [open_scene(name, bands, alpha) for name in image_names(texts)]
    return series_of(scenes, _called(scenes))


def find_series(texts: Sequence[str | Path], bands: str | None = None, alpha: str = "auto") -> list["Series | Scene"]:
    """What folders and files hold: a series where dates show one place, the others as scenes.

    Files that are named one by one are looked at together. Of a folder of folders each is looked at by itself.
    """
    return [found for group in groups_of([str(text) for text in texts]) for found in _places(group, bands, alpha)]


def image_names(texts: Sequence[str]) -> list[str]:
    """The rasters of folders, patterns and names that do not call themselves labels."""
    names = list_scenes(texts)
    return [name for name in names if not is_label_name(name)] or names


def inner_folders(text: str) -> list[str]:
    """The folders with rasters in a folder that holds none itself; else the folder."""
    folder = Path(text)
    if not folder.is_dir() or has_rasters(folder):
        return [text]
    return [str(inner) for inner in sorted(folder.iterdir()) if inner.is_dir() and has_rasters(inner)] or [text]


def groups_of(texts: Sequence[str]) -> Iterator[list[str]]:
    """What is looked at together: each folder, or the folders in it, and files that are named one after the other."""
    for is_folder, group in groupby(texts, lambda text: Path(text).is_dir()):
        if is_folder:
            yield from ([inner] for text in group for inner in inner_folders(text))
        else:
            yield list(group)


def _places(texts: list[str], bands: str | None, alpha: str) -> Iterator["Series | Scene"]:
    places = by_place([open_scene(name, bands, alpha) for name in image_names(texts)])
    for scenes in places:
        dated = [scene for scene in scenes if scene.date]
        if len({scene.date for scene in dated}) < 2:
            yield from scenes
            continue
        yield series_of(dated, _called(dated) if len(places) == 1 else f"{dated[0].path} and {len(dated) - 1} more")
        yield from (scene for scene in scenes if not scene.date)


def _called(scenes: Sequence[Scene]) -> str:
    """The folder that scenes lie in; files have one, and what else GDAL reads may have none."""
    folders = {str(Path(scene.path).parent) for scene in scenes if is_local(scene.path)}
    return folders.pop() if len(folders) == 1 else f"{scenes[0].path} and {len(scenes) - 1} more"


def by_place(scenes: Sequence[Scene]) -> list[list[Scene]]:
    """Scenes that show the same ground together, in the order in which they came."""
    places: list[list[Scene]] = []
    for scene in scenes:
        same = [place for place in places if any(_shared(scene, other) > ONE_PLACE for other in place)]
        places = [place for place in places if place not in same]
        places.append([other for place in same for other in place] + [scene])
    return places


def series_of(scenes: Sequence[Scene], path: str) -> Series:
    """Opened scenes as a series."""
    dated = by_date(scenes)
    grid = common_grid(dated)
    wanted = dated[0].names
    series = Series(path, grid, tuple(_with_bands(scene, wanted, dated[0].path) for scene in dated))
    if moved := [scene for scene in dated if grid.offset_of(scene.grid) is None]:
        logger.info(
            "%s: %d of %d dates lie on other pixels than most and are resampled (rsseg info shows which)",
            path,
            len(moved),
            len(dated),
        )
    return series.each(lambda scene: align(scene, grid))


def by_date(scenes: Sequence[Scene]) -> list[Scene]:
    """One scene a date, in order; pieces of one date that lie beside each other are joined."""
    if undated := [scene for scene in scenes if not scene.date]:
        raise RssegError(
            f"{undated[0].path}: neither its tags nor its name say when it was taken, which a series needs",
            "put the date into the name, such as town_2021-07-03.tif, or leave the file out",
            file=undated[0].path,
        )
    ordered = sorted(scenes, key=lambda scene: (day_of(scene.date or ""), scene.date or "", scene.path))
    return [_joined(list(pieces)) for _, pieces in groupby(ordered, lambda scene: scene.date)]


def _joined(pieces: list[Scene]) -> Scene:
    for number, piece in enumerate(pieces):
        for other in pieces[:number]:
            if _shared(piece, other) > BESIDE:
                raise RssegError(
                    f"{other.path} and {piece.path} show the same ground on the same date, {piece.date}",
                    "leave one of them out, or give their full dates in the names: town_2021-07-03.tif",
                    file=piece.path,
                )
    return scenes_as_one(pieces)


def common_grid(scenes: Sequence[Scene]) -> Grid:
    """The pixels that most scenes have, of the earliest where several are as many, as far as any of them reaches."""
    alike = [sum(scene.grid.offset_of(other.grid) is not None for other in scenes) for scene in scenes]
    first = scenes[int(np.argmax(alike))]
    for scene in scenes:
        if not first.grid.overlaps(scene.grid):
            raise RssegError(
                f"{scene.path} and {first.path} share no ground",
                "a series shows one place; check with `rsseg info` where both lie, or give each place its own folder",
                file=scene.path,
            )
    ordered = [first, *(scene for scene in scenes if scene is not first)]
    return joint_grid([scene.path for scene in ordered], [scene.grid for scene in ordered])[0]


def _with_bands(scene: Scene, wanted: tuple[str, ...], whose: str) -> Scene:
    found = matched(scene, wanted, f"{listed(wanted)} of {whose}")
    if found is None:
        raise RssegError(
            f"{scene.path} has the bands {listed(scene.names)}; {whose} has {listed(wanted)}",
            "a series needs the same bands on every date: pick them with --bands, or leave the odd date out",
            file=scene.path,
        )
    return found


def _shared(one: Scene, other: Scene) -> float:
    """How much of the smaller of two scenes both show, by the bounds of one among the pixels of the other."""
    if (one.grid.crs is None) != (other.grid.crs is None):
        return 0.0
    place = place_on(one.grid, other.grid)
    if place is None:
        return 0.0
    width = min(place.col_off + place.width, one.grid.width) - max(place.col_off, 0)
    height = min(place.row_off + place.height, one.grid.height) - max(place.row_off, 0)
    smaller = min(place.width * place.height, one.grid.width * one.grid.height)
    return float(max(0, width) * max(0, height) / smaller)
