"""The sample scenes: which towns are seen, when and by which sensor."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rsseg_cli.samples.lattice import Lattice
from rsseg_cli.samples.light import Season
from rsseg_cli.samples.render import Picture, render
from rsseg_cli.samples.sensor import BANDS, SUPERSAMPLING, Sensor, expose, exposed_as, majority
from rsseg_cli.samples.streams import Kind, stream
from rsseg_cli.samples.styles import KARST, MEADOW, Style
from rsseg_cli.samples.town import lay_out

DEFAULT_SIZE_PX = 256
MARGIN_PX = 32
"""Drawn beyond the image on each side, for shadows and blur that reach in."""


@dataclass(frozen=True)
class SampleScene:
    """One labelled image."""

    name: str
    """Short name, unique among the scenes."""
    domain: str
    """"source" or "target"."""
    image: NDArray[np.uint8]
    """Pixels (band, y, x)."""
    bands: tuple[str, ...]
    """Band names in file order."""
    labels: NDArray[np.uint8]
    """Class ids (y, x)."""
    epsg: int
    """Coordinate system, a UTM zone in metres."""
    origin: tuple[float, float]
    """East and north of the upper left corner, metres."""
    gsd_m: float
    """Side of a pixel on the ground."""
    date: str
    """ISO date of acquisition."""
    nodata: int | None = None
    """Value of pixels that hold nothing."""


@dataclass(frozen=True)
class Domain:
    """A town style under one sensor and season."""

    name: str
    """"source" or "target"."""
    style: Style
    """Habits of the town."""
    sensor: Sensor
    """Camera."""
    season: Season
    """Light and growth."""
    epsg: int
    """Coordinate system."""
    origin: tuple[float, float]
    """Upper left corner of the first scene."""
    towns: tuple[int, ...]
    """Numbers of the places seen, picked by eye for a share of every class."""


SOURCE = Domain(
    "source", MEADOW,
    Sensor(BANDS, 0.5, 0.26, (1.9, 2.0, 2.2, 1.45), (0.01, 0.014, 0.02, 0.004), 0.75, 0.04, 0.05, 0.012, 0.006),
    Season("2024-08-14", 129.0, 46.0, 0.18, 0.02),
    32632, (691200.0, 5335800.0), (16, 34, 8),
)  # fmt: skip
TARGET = Domain(
    "target", KARST,
    Sensor(
        ("nir", "red", "green", "blue"), 0.8, 0.62, (1.75, 1.95, 2.0, 1.4), (0.025, 0.032, 0.05, 0.008), 0.85, 0.12,
        0.12, 0.016, 0.009,
    ),
    Season("2023-10-07", 204.0, 37.0, 0.5, 0.05, 1.3),
    32633, (402400.0, 5066400.0), (33, 20, 7),
)  # fmt: skip
SCENES_PER_DOMAIN = 3
APART_M = 5000.0
"""Distance between the scenes of a domain."""


def draw_samples(size_px: int = DEFAULT_SIZE_PX, seed: int = 1) -> Iterator[SampleScene]:
    """Yield the source scenes, then the target scenes; a larger size shows more ground at the same scale."""
    for domain in (SOURCE, TARGET):
        for number in range(1, SCENES_PER_DOMAIN + 1):
            yield draw_scene(domain, number, size_px, seed)


def draw_scene(domain: Domain, number: int, size_px: int, seed: int) -> SampleScene:
    """Draw one scene of a domain."""
    key = _key(domain, number, seed)
    side_px, resolution_m = drawn_size(domain, size_px)
    landscape = lay_out(lattice_of(domain.style, key), side_px * resolution_m)
    picture = render(landscape, domain.season, side_px, resolution_m)
    origin = (domain.origin[0] + (number - 1) * APART_M, domain.origin[1])
    there = replace(domain, origin=origin)
    return photograph(there, f"{domain.style.name}_{number}", picture, key)


def drawn_size(domain: Domain, size_px: int) -> tuple[int, float]:
    """Return the side of the square to draw for an image, in drawn pixels, and the side of a drawn pixel."""
    return (size_px + 2 * MARGIN_PX) * SUPERSAMPLING, domain.sensor.gsd_m / SUPERSAMPLING


def photograph(domain: Domain, name: str, picture: Picture, key: int, *strip: int) -> SampleScene:
    """Take the image of a drawn square on one flight strip; its margin is cut off."""
    exposed = exposed_as(domain.sensor, stream(key, Kind.SENSOR, 1, *strip))
    image = inner(expose(exposed, picture.reflectance, stream(key, Kind.SENSOR, *strip)))
    labels = inner(majority(picture.labels))
    return SampleScene(
        name, domain.name, image, domain.sensor.bands, labels, domain.epsg, domain.origin, domain.sensor.gsd_m,
        domain.season.date,
    )  # fmt: skip


def inner(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the values (..., y, x) without the margin."""
    return np.ascontiguousarray(values[..., MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX])


def _key(domain: Domain, number: int, seed: int) -> int:
    return (seed - 1) * 1000 + domain.towns[number - 1]


def lattice_of(style: Style, key: int) -> Lattice:
    """Return a street net turned and shifted by the key, with a river within reach of the middle."""
    rng = stream(key, Kind.WARP, 1)
    turned = replace(style, turn=style.turn + float(rng.uniform(-0.8, 0.8)))
    shift = (float(rng.uniform(-1.5, 1.5)) * style.block_m[0], float(rng.choice([-1, 1]) * rng.uniform(18, 42)))
    return Lattice(key, turned, shift)
