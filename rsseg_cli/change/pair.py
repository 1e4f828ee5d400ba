"""Pair: two dates of one place on one grid. It holds no pixels, it reads them.

Whatever the two files are like, a read gives both dates with the same bands in the same pixels, and NaN in both where
either has nothing. A window that is read is the crop of the whole to the bit.
"""

import logging
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from rsseg_cli.change.common import Align, common_grid, on_one_plane, put_on, resampling_for
from rsseg_cli.change.mask import masked
from rsseg_cli.errors import RssegError
from rsseg_cli.raster.bands import listed, matched, shared_names
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.held import bytes_of, held, held_if_slow
from rsseg_cli.raster.scene import Scene
from rsseg_cli.raster.sources import open_scene
from rsseg_cli.raster.tiles import blocks
from rsseg_cli.vector.area import Area, open_area

# Blocks that are looked at to see whether there is anything to compare.
LOOK_PX = 512
# Two dates that take no more than this are read, and resampled, once.
SMALL_BYTES = 1 << 26

logger = logging.getLogger(__name__)

Values = NDArray[np.float32]


@dataclass(frozen=True)
class PairOptions:
    """What the person says about the two dates."""

    before_bands: str | None = None
    after_bands: str | None = None
    before_mask: str | None = None  # FILE[:VALUES]
    after_mask: str | None = None
    aoi: str | None = None  # FILE[:LAYER] of polygons: nothing else is compared
    align: Align = "auto"  # off: pixel by pixel, whatever the files say of their place; auto: registered, too
    alpha: str = "auto"
    mosaic: bool = False


@dataclass(frozen=True)
class Pair:
    """Two dates on one grid, with the same bands in the same order."""

    before: Scene  # on the grid
    after: Scene
    grid: Grid
    keeps_after: bool  # whether the grid is cut from the later date's pixels; the other date gives way
    loose: Scene  # the date that gives way, as it was opened
    area: Area | None = None  # on a grid of which `grid` is the area's window

    @property
    def is_resampled(self) -> bool:
        """Whether a date lies on other pixels than those of the grid, so that a shift costs nothing more."""
        return self.loose.grid.offset_of(self.grid) is None

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that is read; no output may replace one."""
        return self.before.files + self.after.files

    def read(self, window: Window | None = None) -> tuple[Values, Values]:
        """(before, after) of a window, each (band, y, x); NaN in all bands of both where either has nothing."""
        window = window or self.grid.window
        before, after = self.before.values(window), self.after.values(window)
        held = np.isfinite(before).all(axis=0) & np.isfinite(after).all(axis=0)
        if self.area is not None:
            held &= self.area.inside.read(_within(self.area.window, window)) > 0
        before[:, ~held] = after[:, ~held] = np.nan
        return before, after

    def held(self, window: Window) -> "Pair":
        """The pair with a window at hand, and nothing else: what is read many times is unpacked once."""
        before, after = self.read(window)
        return replace(self, before=held(self.before, before, window), after=held(self.after, after, window))

    def held_if_small(self) -> "Pair":
        small = bytes_of(self.before) + bytes_of(self.after) <= SMALL_BYTES
        return self.held(self.grid.window) if small else self

    def shifted(self, dx: float, dy: float) -> "Pair":
        """The pair after taking out a shift of the later date by so many pixels; resampled once in all."""
        if self.keeps_after:
            return replace(self, before=put_on(self.loose, self.grid, dx, dy))
        return replace(self, after=put_on(self.loose, self.grid, -dx, -dy))


def open_pair(before: str | Scene, after: str | Scene, options: PairOptions = PairOptions()) -> Pair:
    """Two dates, named or held, as one pair, on the ground that both cover."""
    if options.align not in get_args(Align):
        raise RssegError(f"--align {options.align}: not known", f"use {', '.join(get_args(Align))}")
    one = _open(before, options.before_bands, options.before_mask, options)
    other = _open(after, options.after_bands, options.after_mask, options)
    one, other = on_one_plane(one, _same_bands(one, other), options.align)
    grid, keeps_after = common_grid(one, other)
    pair = Pair(put_on(one, grid), put_on(other, grid), grid, keeps_after, one if keeps_after else other)
    if options.aoi is not None:
        pair = _inside(pair, options.aoi)
    _say_where(pair)
    _say_order(pair)
    _look(pair)
    return pair


def _open(date: str | Scene, bands: str | None, mask: str | None, options: PairOptions) -> Scene:
    scene = date.select(bands) if isinstance(date, Scene) else open_scene(date, bands, options.alpha, options.mosaic)
    return held_if_slow(scene if mask is None else masked(scene, mask))


def _same_bands(before: Scene, after: Scene) -> Scene:
    """The later date with the bands of the earlier one. Nothing is left out unasked: that may be what has changed."""
    called = f"{listed(before.names)} of {before.path}"
    found = matched(after, before.names, called) if len(before.bands) == len(after.bands) else None
    if found is not None:
        return found
    shared = ",".join(shared_names(after, before.names))
    hint = f"take those that both have: --before-bands {shared} --after-bands {shared}"
    if not shared:
        hint = "say which are to be compared: --before-bands red=3,green=2 --after-bands red=1,green=2"
    raise RssegError(
        f"{before.path} has {len(before.bands)} bands: {listed(before.names)}; "
        f"{after.path} has {len(after.bands)}: {listed(after.names)}",
        hint,
        file=after.path,
    )


def _inside(pair: Pair, aoi: str) -> Pair:
    """The pair cut to the bounds of the polygons."""
    area = open_area(aoi, pair.after)
    grid = pair.grid.crop(area.window)
    one, other = (pair.loose, pair.after) if pair.keeps_after else (pair.before, pair.loose)
    return replace(pair, before=put_on(one, grid), after=put_on(other, grid), grid=grid, area=area)


def _within(outer: Window, window: Window) -> Window:
    return Window(window.col_off + outer.col_off, window.row_off + outer.row_off, window.width, window.height)


def _say_where(pair: Pair) -> None:
    from rsseg_cli.vector.projection import crs_name

    kept = pair.after if pair.keeps_after else pair.before
    size = f" of {pair.grid.gsd_m:.4g} m" if pair.grid.gsd_m else ""
    how = f"resampled ({resampling_for(pair.loose, pair.grid).name})" if pair.is_resampled else "read as it is"
    logger.info(
        "the dates are compared on %d x %d pixels%s, those of %s (%s); %s is %s",
        pair.grid.width,
        pair.grid.height,
        size,
        kept.path,
        crs_name(pair.grid.crs) if pair.grid.crs else "no coordinate system",
        pair.loose.path,
        how,
    )


def _say_order(pair: Pair) -> None:
    before, after = pair.before, pair.after
    # Dates may be known to the year alone: what is compared is what both say.
    if before.date and after.date and before.date[: len(after.date)] > after.date[: len(before.date)]:
        logger.warning("%s (%s) is later than %s (%s): swapped?", before.path, before.date, after.path, after.date)


def _look(pair: Pair) -> None:
    """Refuses a pair with nothing to compare, and warns of one where nothing differs; stops when all is well."""
    holds_any = False
    for window in blocks(pair.grid, LOOK_PX):
        before, after = pair.read(window)
        held = np.isfinite(before[0])
        if not np.array_equal(before[:, held], after[:, held]):
            return
        holds_any |= bool(held.any())
    if not holds_any:
        raise _empty(pair)
    logger.warning("%s and %s hold the same pixels: nothing can have changed", pair.before.path, pair.after.path)


def _empty(pair: Pair) -> RssegError:
    """What to say of a pair without a pixel in both dates."""
    where = " in the area asked for" if pair.area else " where both lie"
    for scene in (pair.before, pair.after):
        if not any(np.isfinite(scene.values(window)).all(axis=0).any() for window in blocks(pair.grid, LOOK_PX)):
            return RssegError(
                f"{scene.path}: holds nothing but nodata and what is masked{where}",
                "check its nodata value with `rsseg info`, and its mask",
                file=scene.path,
            )
    return RssegError(
        f"{pair.before.path} and {pair.after.path}: no pixel{where} holds something at both dates",
        "take dates with less cloud, or check the masks",
        file=pair.after.path,
    )
