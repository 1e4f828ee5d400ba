"""The sample series: two places on six dates each, with clouds, gaps, seasons and ground that changes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rsseg_cli.samples.clouds import cloud_mask, clouded, draw_clouds
from rsseg_cli.samples.landscape import Landscape
from rsseg_cli.samples.light import Season
from rsseg_cli.samples.pair import changed_kinds
from rsseg_cli.samples.render import render
from rsseg_cli.samples.scenes import Domain, SampleScene, drawn_size, inner, lattice_of, photograph
from rsseg_cli.samples.seasons import Growth, grown
from rsseg_cli.samples.sensor import BANDS, Sensor
from rsseg_cli.samples.streams import Kind, stream
from rsseg_cli.samples.styles import KARST, MEADOW
from rsseg_cli.samples.town import lay_out
from rsseg_cli.samples.works import emptied, filled, planned

SERIES_SIZE_PX = 192
UNSEEN = 0
"""In images, where the sensor left a gap."""
STRIPE_PX, GAP_PX = 17, 4
"""From one gap of a date with stripes to the next, and how wide a gap is."""
CLEARED, BUILT = 2, 4
"""Numbers of the first date after trees and sheds have gone, and of the first after works."""


@dataclass(frozen=True)
class Day:
    """What a date is like."""

    season: Season
    """Light, and how dry grass is."""
    growth: Growth
    """How far plants are."""
    cloud_cover: float
    """Share of the ground under clouds; their shadows take about as much again."""
    striped: bool = False
    """Whether the sensor left gaps."""


@dataclass(frozen=True)
class Place:
    """One place under one sensor."""

    domain: Domain
    """Town, sensor and coordinates; of its season nothing is used."""
    days: tuple[Day, ...]
    """The dates, in order."""


@dataclass(frozen=True)
class SampleSeries:
    """Images of one place, and what is true of them."""

    name: str
    """Short name of the place."""
    domain: str
    """"source" or "target"."""
    scenes: tuple[SampleScene, ...]
    """One a date, on one grid, with the labels of that date, also where clouds hide the ground."""
    clouds: tuple[NDArray[np.uint8], ...]
    """Masks (y, x) of the dates, 1 under clouds and their shadows."""
    kinds: NDArray[np.uint8]
    """Number of the kind of change between the first and the last date (y, x), 0 for none."""

    @property
    def change(self) -> NDArray[np.uint8]:
        """Return 1 where the class is not the same on all dates, else 0."""
        labels = np.stack([scene.labels for scene in self.scenes])
        return np.asarray((labels != labels[0]).any(axis=0), np.uint8)


VALLEY = replace(
    KARST,
    ground="meadow",
    lawns=(("lawn", 0.4), ("meadow", 0.25), ("dry grass", 0.2), ("weeds", 0.15)),
    fields=(("crop", 0.4), ("stubble", 0.25), ("ploughed", 0.25), ("dry grass", 0.1)),
)
"""The town of the target scenes in greener country, where seasons show."""

WINTER = Growth((0.9, 0.1, 0.0, 0.0), (0.8, 0.2, 0.0), 0.8)
SPRING = Growth((0.1, 0.6, 0.3, 0.0), (0.2, 0.8, 0.0), 0.92)
EARLY_SUMMER = Growth((0.0, 0.05, 0.95, 0.0), (0.0, 0.8, 0.2), 1.0)
SUMMER = Growth((0.0, 0.0, 1.0, 0.0), (0.0, 0.3, 0.7), 1.0)
LATE_SUMMER = Growth((0.0, 0.0, 0.9, 0.1), (0.4, 0.3, 0.3), 0.96)
AUTUMN = Growth((0.1, 0.0, 0.35, 0.55), (0.8, 0.2, 0.0), 0.82)

SOURCE = Place(
    Domain(
        "source", MEADOW,
        Sensor(
            BANDS, 1.2, 0.6, (1.9, 2.0, 2.2, 1.45), (0.01, 0.014, 0.02, 0.004), 0.75, 0.04, 0.05, 0.012, 0.006,
        ),
        Season("", 0.0, 45.0, 0.0, 0.0), 32632, (718200.0, 5331300.0), (3,),
    ),
    (
        Day(Season("2023-03-12", 150.0, 33.0, 0.35, 0.03), WINTER, 0.0),
        Day(Season("2023-04-21", 147.0, 47.0, 0.12, 0.02), SPRING, 0.1),
        Day(Season("2023-05-30", 138.0, 57.0, 0.05, 0.02), EARLY_SUMMER, 0.22),
        Day(Season("2023-07-09", 134.0, 57.0, 0.25, 0.02), SUMMER, 0.05, striped=True),
        Day(Season("2023-08-28", 146.0, 46.0, 0.4, 0.02), LATE_SUMMER, 0.15),
        Day(Season("2023-10-15", 158.0, 30.0, 0.2, 0.04, 1.1), AUTUMN, 0.08),
    ),
)  # fmt: skip
TARGET = Place(
    Domain(
        "target", VALLEY,
        Sensor(
            ("nir", "red", "green", "blue"), 1.3, 0.7, (1.75, 1.95, 2.0, 1.4), (0.025, 0.032, 0.05, 0.008), 0.85, 0.12,
            0.12, 0.016, 0.009,
        ),
        Season("", 0.0, 45.0, 0.0, 0.0), 32633, (431100.0, 5071200.0), (17,),
    ),
    (
        Day(Season("2024-03-28", 205.0, 44.0, 0.2, 0.04), WINTER, 0.16),
        Day(Season("2024-05-06", 212.0, 54.0, 0.1, 0.03), SPRING, 0.06),
        Day(Season("2024-06-03", 215.0, 58.0, 0.15, 0.03), EARLY_SUMMER, 0.34),
        Day(Season("2024-07-20", 212.0, 56.0, 0.38, 0.03), SUMMER, 0.12, striped=True),
        Day(Season("2024-09-02", 207.0, 49.0, 0.4, 0.04), LATE_SUMMER, 0.1),
        Day(Season("2024-10-19", 203.0, 31.0, 0.25, 0.05, 1.3), AUTUMN, 0.22),
    ),
)  # fmt: skip


def draw_all_series(size_px: int = SERIES_SIZE_PX, seed: int = 1) -> Iterator[SampleSeries]:
    """Yield the source, then the target; a larger size shows more ground at the same scale."""
    for place in (SOURCE, TARGET):
        yield draw_series(place, size_px, seed)


def draw_series(place: Place, size_px: int = SERIES_SIZE_PX, seed: int = 1) -> SampleSeries:
    """Draw all dates of a place."""
    domain = place.domain
    key = (seed - 1) * 1000 + domain.towns[0]
    side_px, resolution_m = drawn_size(domain, size_px)
    lattice = lattice_of(domain.style, key)
    first = lay_out(lattice, side_px * resolution_m)
    works = planned(lattice, first.side_m)
    cleared = emptied(first, works)
    last = filled(cleared, works)
    drawn = [
        _draw_date(place, number, _plan_of(number, (first, cleared, last)), size_px, key)
        for number in range(len(place.days))
    ]
    kinds = changed_kinds((first, cleared, last), side_px, resolution_m)
    scenes, masks = zip(*drawn, strict=True)
    return SampleSeries(domain.style.name, domain.name, scenes, masks, kinds)


def _plan_of(number: int, plans: tuple[Landscape, Landscape, Landscape]) -> Landscape:
    """Return the ground on a date: before, between or after the works."""
    return plans[(number >= CLEARED) + (number >= BUILT)]


def _draw_date(
    place: Place, number: int, plan: Landscape, size_px: int, key: int
) -> tuple[SampleScene, NDArray[np.uint8]]:
    """Draw the image of a date, and its cloud mask."""
    day, domain = place.days[number], replace(place.domain, season=place.days[number].season)
    side_px, resolution_m = drawn_size(domain, size_px)
    picture = render(grown(plan, day.growth, number), day.season, side_px, resolution_m)
    clouds = draw_clouds(day.cloud_cover, day.season, side_px, resolution_m, stream(key, Kind.CLOUDS, number))
    name = f"{domain.style.name}_{day.season.date}"
    # Flight strip 0 is that of the scenes: each date has an exposure and a noise of its own.
    scene = photograph(domain, name, clouded(picture, clouds), key, number + 3)
    return _with_gaps(scene) if day.striped else scene, inner(cloud_mask(clouds))


def _with_gaps(scene: SampleScene) -> SampleScene:
    """Return the scene with slanting stripes in which there is nothing."""
    row, column = np.indices(scene.labels.shape)
    gap = (row + column // 6) % STRIPE_PX < GAP_PX
    image = np.where(gap, UNSEEN, np.maximum(scene.image, UNSEEN + 1)).astype(np.uint8)
    return replace(scene, image=image, nodata=UNSEEN)
