"""Clouds over a drawn square, the shadows they cast, and the mask that tells where both are."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rsseg_cli.samples.canvas import Floats
from rsseg_cli.samples.light import Season
from rsseg_cli.samples.noise import band_noise
from rsseg_cli.samples.render import Picture
from rsseg_cli.samples.sensor import area_mean

WHITE = np.array([0.60, 0.61, 0.63, 0.58], np.float32)
"""Reflectance of a thick cloud: red, green, blue, near infrared."""
HEIGHT_M = 60.0
"""Of clouds above the ground. So low, they cast their shadows into the same small image."""
DARK = 0.62
"""Share of the light that a thick cloud keeps from the ground below."""
SOFT = 0.5
"""Deviations of the field from a cloud's edge to where it is thick."""
SEEN = 0.1
"""Opacity of a cloud or a shadow that a mask tells of; thinner ones it misses."""


@dataclass(frozen=True)
class Clouds:
    """What hides the ground."""

    opacity: Floats
    """Of the clouds, (y, x), 0 to 1."""
    shadow: Floats
    """Opacity of what stands between the ground and the sun."""


def draw_clouds(cover: float, season: Season, side_px: int, resolution_m: float, rng: np.random.Generator) -> Clouds:
    """Draw clouds over a share of a square."""
    shape = (side_px, side_px)
    field = band_noise(shape, resolution_m, 40.0, 160.0, rng) + 0.12 * band_noise(shape, resolution_m, 6.0, 30.0, rng)
    edge = float(np.quantile(field, 1 - cover)) if cover else float(field.max())
    opacity = np.asarray(np.clip((field - edge) / SOFT, 0, 1), np.float32)
    east, north, up = season.sun
    right, down = (round(HEIGHT_M * way / up / resolution_m) for way in (-east, north))
    # What leaves the square on one side comes in on the other: there are clouds beyond it, too.
    return Clouds(opacity, np.roll(opacity, (down, right), axis=(0, 1)))


def clouded(picture: Picture, clouds: Clouds) -> Picture:
    """Return the picture with clouds before it."""
    lit = picture.reflectance * (1 - DARK * clouds.shadow)
    white = WHITE[:, None, None] * clouds.opacity
    return replace(picture, reflectance=(lit * (1 - clouds.opacity) + white).astype(np.float32))


def cloud_mask(clouds: Clouds) -> NDArray[np.uint8]:
    """Return 1 where clouds or their shadows are told of, a pixel beyond them, else 0; in pixels of the image."""
    hidden = area_mean(clouds.opacity) > SEEN
    hidden |= area_mean(clouds.shadow) > SEEN
    return np.asarray(ndimage.binary_dilation(hidden, np.ones((3, 3))), np.uint8)
