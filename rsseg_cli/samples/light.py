"""Sun and season, and the light that reaches every pixel."""

import math
from dataclasses import dataclass

import numpy as np

from rsseg_cli.samples.canvas import Canvas, Floats

SKY = np.array([0.24, 0.27, 0.33, 0.17], np.float32)
"""Share of the light of flat open ground that comes from a clear sky: red, green, blue, near infrared."""


@dataclass(frozen=True)
class Season:
    """Light and plant growth on the day of an image."""

    date: str
    """ISO date."""
    sun_azimuth_deg: float
    """Where the sun stands, clockwise from north."""
    sun_elevation_deg: float
    """Height of the sun above the horizon."""
    dryness: float
    """How far grass has turned to straw, 0 to 1."""
    glint: float
    """Strength of the sun's glitter on water."""
    sky: float = 1.0
    """Light of the sky against that of a clear day with a high sun."""

    @property
    def sun(self) -> tuple[float, float, float]:
        """Return the direction to the sun: east, north, up."""
        azimuth, elevation = math.radians(self.sun_azimuth_deg), math.radians(self.sun_elevation_deg)
        flat = math.cos(elevation)
        return flat * math.sin(azimuth), flat * math.cos(azimuth), math.sin(elevation)


def lit(canvas: Canvas, season: Season) -> Floats:
    """Return 1 where the sun reaches the surface and 0 in cast shadow."""
    east, north, up = season.sun
    flat = math.hypot(east, north)
    rise_m = up / flat * canvas.resolution_m
    size = canvas.side_px
    shaded = np.full((size, size), -1.0, np.float32)
    for step in range(1, math.ceil(float(canvas.height.max()) / rise_m) + 1):
        down, right = round(-north / flat * step), round(east / flat * step)
        here, there = _overlap(size, down), _overlap(size, right)
        part = shaded[here[0], there[0]]
        np.maximum(part, canvas.height[here[1], there[1]] - np.float32(rise_m * step), out=part)
    return (shaded <= canvas.height + 0.05).astype(np.float32)


def _overlap(size: int, offset: int) -> tuple[slice, slice]:
    """Return the pixels that have a partner at the offset, and the partners."""
    first, last = max(0, -offset), min(size, size - offset)
    return slice(first, max(first, last)), slice(first + offset, max(first, last) + offset)


def facing(canvas: Canvas, season: Season) -> Floats:
    """Return the direct light on each surface against that on flat ground."""
    east, north, up = (np.float32(part) for part in season.sun)
    slope_east, slope_north = canvas.slope
    length = np.sqrt(1 + slope_east**2 + slope_north**2)
    return np.asarray(np.maximum(up - slope_east * east - slope_north * north, 0) / (length * up), np.float32)
