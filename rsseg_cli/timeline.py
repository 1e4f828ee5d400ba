"""Timeline: which scenes of a domain show the same place, and when. No tensors here."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsseg_cli.raster.dates import day_of
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.scene import Scene
from rsseg_cli.raster.series import by_place, common_grid


@dataclass(frozen=True, eq=False)
class Timeline:
    """A place and a day for every scene, by its number; scenes of one place lie on one grid."""

    places: NDArray[np.int64]
    days: NDArray[np.int64]

    @property
    def most_dates(self) -> int:
        """Of the place with the longest series."""
        return int(np.bincount(self.places).max())

    def scenes_of(self, place: int) -> list[int]:
        return [int(number) for number in np.flatnonzero(self.places == place)]

    def beside(self, scene: int, count: int, rng: np.random.Generator) -> list[int]:
        """Other dates of its place, drawn by chance, as many as there are up to a count."""
        others = [number for number in self.scenes_of(int(self.places[scene])) if number != scene]
        return [others[place] for place in rng.permutation(len(others))[:count]]


def single(count: int) -> Timeline:
    """So many scenes, each a place of its own."""
    return Timeline(np.arange(count), np.zeros(count, np.int64))


def laid_out(scenes: Sequence[Scene]) -> tuple[list[Grid], Timeline]:
    """Scenes of one place and several dates as a series, on one grid; the others as they are."""
    grids, timeline = [scene.grid for scene in scenes], single(len(scenes))
    numbers = {id(scene): number for number, scene in enumerate(scenes)}
    for group in by_place(scenes):
        dated = [scene for scene in group if scene.date]
        if len({scene.date for scene in dated}) < 2:
            continue
        members = [numbers[id(scene)] for scene in sorted(dated, key=lambda scene: day_of(scene.date or ""))]
        grid = common_grid([scenes[number] for number in members])
        for number in members:
            grids[number] = grid
            timeline.places[number] = members[0]
            timeline.days[number] = day_of(scenes[number].date or "").toordinal()
    return grids, Timeline(np.unique(timeline.places, return_inverse=True)[1], timeline.days)
