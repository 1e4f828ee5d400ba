"""The sample pair: one place at two dates, with known changes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rsseg_cli.samples.canvas import Floats
from rsseg_cli.samples.classes import CLASSES
from rsseg_cli.samples.drift import in_autumn
from rsseg_cli.samples.landscape import Landscape
from rsseg_cli.samples.light import Season
from rsseg_cli.samples.render import CLASS_OF, Textures, draw, render
from rsseg_cli.samples.scenes import (
    DEFAULT_SIZE_PX,
    Domain,
    SampleScene,
    drawn_size,
    inner,
    lattice_of,
    photograph,
)
from rsseg_cli.samples.sensor import BANDS, SUPERSAMPLING, Sensor, majority
from rsseg_cli.samples.styles import MEADOW
from rsseg_cli.samples.town import lay_out
from rsseg_cli.samples.works import GAINED, LOST, emptied, filled, planned

NOTHING = 255
"""In the truth, where one of the dates has no pixels."""
UNSEEN = 0
"""In the second image, where it has no pixels."""
SHIFT_PX = (0.6, 0.36)
"""How far to the right and down the second image shows everything from where it is; 0.7 pixels in all."""
CORNER = 0.2
"""Side of the corner that the second image lacks, as a share of the image."""

BEFORE = Domain(
    "change", MEADOW,
    Sensor(BANDS, 0.8, 0.42, (1.9, 2.0, 2.2, 1.45), (0.01, 0.014, 0.02, 0.004), 0.75, 0.06, 0.06, 0.013, 0.007),
    Season("2023-06-02", 141.0, 55.0, 0.05, 0.02),
    32632, (712400.0, 5329600.0), (47,),
)  # fmt: skip
AFTER = replace(
    BEFORE,
    sensor=replace(BEFORE.sensor, haze=(0.02, 0.027, 0.042, 0.007)),
    season=Season("2024-09-10", 169.0, 45.0, 0.3, 0.03, 1.1),
)


@dataclass(frozen=True)
class SamplePair:
    """Two images of one place, and what changed between them."""

    before: SampleScene
    """The first date."""
    after: SampleScene
    """The second date, on the same grid but misplaced by `SHIFT_PX`."""
    kinds: NDArray[np.uint8]
    """Number of the kind of change (y, x), 0 for none, 255 where a date has no pixels."""

    @property
    def truth(self) -> NDArray[np.uint8]:
        """Return 1 where the ground changed, 0 where it did not, 255 where a date has no pixels."""
        return np.where(self.kinds == NOTHING, NOTHING, self.kinds > 0).astype(np.uint8)


def draw_pair(size_px: int = DEFAULT_SIZE_PX, seed: int = 1) -> SamplePair:
    """Draw the pair; a larger size shows more ground at the same scale."""
    key = (seed - 1) * 1000 + BEFORE.towns[0]
    side_px, resolution_m = drawn_size(BEFORE, size_px)
    lattice = lattice_of(BEFORE.style, key)
    first = lay_out(lattice, side_px * resolution_m)
    works = planned(lattice, first.side_m)
    cleared = emptied(first, works)
    last = filled(cleared, works)
    kinds = changed_kinds((first, cleared, last), side_px, resolution_m)
    early = render(first, BEFORE.season, side_px, resolution_m)
    before = photograph(BEFORE, "before", early, key)
    late = render(in_autumn(last), AFTER.season, side_px, resolution_m)
    after = photograph(AFTER, "after", replace(late, reflectance=_misplaced(late.reflectance)), key, 2)
    seen = _seen(size_px)
    return SamplePair(before, _cut(after, seen), np.where(seen, kinds, NOTHING).astype(np.uint8))


def changed_kinds(
    plans: tuple[Landscape, Landscape, Landscape], side_px: int, resolution_m: float
) -> NDArray[np.uint8]:
    """Return the kind of change of each pixel from the ground before, between and after the works.

    A pixel changed where another material lies on top than before. Light, season and cars are left out: what is
    compared are plans, not images.
    """
    textures = Textures.of(plans[0].seed, side_px, resolution_m)
    first, between, last = (draw(replace(plan, cars=()), side_px, resolution_m, textures).material for plan in plans)
    lost, gained = _by_class(LOST)[CLASS_OF[first]], _by_class(GAINED)[CLASS_OF[last]]
    kinds = np.where(last != between, gained, np.where(between != first, lost, 0))
    return inner(majority(kinds.astype(np.uint8)))


def _by_class(kinds: Mapping[int, int]) -> NDArray[np.uint8]:
    table = np.zeros(len(CLASSES), np.uint8)
    table[list(kinds)] = list(kinds.values())
    return table


def _misplaced(reflectance: Floats) -> Floats:
    """Return what a sensor sees that takes itself to be elsewhere."""
    right, down = (SUPERSAMPLING * px for px in SHIFT_PX)
    moved = [ndimage.shift(band, (down, right), order=3, mode="nearest") for band in reflectance]
    return np.asarray(np.maximum(np.stack(moved), 0), np.float32)


def _seen(size_px: int) -> NDArray[np.bool_]:
    """Return where the second image has pixels: not in its upper right corner, along a slanting edge."""
    row, column = np.indices((size_px, size_px)) / size_px
    return np.asarray(1 - column + 0.8 * row > CORNER)


def _cut(scene: SampleScene, seen: NDArray[np.bool_]) -> SampleScene:
    image = np.where(seen, np.maximum(scene.image, UNSEEN + 1), UNSEEN).astype(np.uint8)
    labels = np.where(seen, scene.labels, NOTHING).astype(np.uint8)
    return replace(scene, image=image, labels=labels, nodata=UNSEEN)
