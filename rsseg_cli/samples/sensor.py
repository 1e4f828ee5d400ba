"""How a sensor sees reflectance: bands, blur, sampling, response and noise."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rsseg_cli.samples.canvas import Floats

SUPERSAMPLING = 2
"""Drawn pixels along the side of an image pixel."""
BANDS = ("red", "green", "blue", "nir")
"""Order of the bands of reflectance."""


@dataclass(frozen=True)
class Sensor:
    """A camera."""

    bands: tuple[str, ...]
    """Band names in file order."""
    gsd_m: float
    """Side of a pixel on the ground."""
    blur_m: float
    """Deviation of the point spread function on the ground."""
    gain: tuple[float, float, float, float]
    """Response to reflectance per band: red, green, blue, near infrared."""
    haze: tuple[float, float, float, float]
    """Light of the air added per band, as reflectance."""
    gamma: float
    """Exponent of the tone curve."""
    mixing: float
    """Share of each visible band that leaks in from the other visible bands."""
    vignette: float
    """Loss of light in the corners."""
    shot: float
    """Deviation of the noise at full brightness, 0 to 1 scale."""
    read: float
    """Deviation of the noise in the dark, 0 to 1 scale."""


def exposed_as(sensor: Sensor, rng: np.random.Generator) -> Sensor:
    """Return the sensor with the exposure and colour balance of one flight strip."""
    factors = np.exp(rng.normal(0, 0.04) + rng.normal(0, 0.028, 4))
    red, green, blue, nir = (float(gain * factor) for gain, factor in zip(sensor.gain, factors, strict=True))
    return replace(sensor, gain=(red, green, blue, nir))


def expose(sensor: Sensor, reflectance: Floats, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the image (band, y, x) of reflectance drawn at a fraction of the pixel size."""
    blur_px = sensor.blur_m / sensor.gsd_m * SUPERSAMPLING
    sampled = np.stack([area_mean(ndimage.gaussian_filter(band, blur_px)) for band in reflectance])
    sampled[:3] += np.float32(sensor.mixing) * (sampled[:3].mean(axis=0) - sampled[:3])
    fall_off = _fall_off(sampled.shape[1], sensor.vignette)
    order = [BANDS.index(name) for name in sensor.bands]
    return np.stack([_band(sensor, sampled[band], fall_off, band, rng) for band in order])


def _band(
    sensor: Sensor, reflectance: Floats, fall_off: Floats, band: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    light = np.clip((reflectance + sensor.haze[band]) * sensor.gain[band] * fall_off, 0, 1)
    noise = rng.standard_normal(light.shape, dtype=np.float32)
    light += noise * np.sqrt(sensor.shot**2 * light + sensor.read**2).astype(np.float32)
    return np.asarray(np.rint(np.clip(light, 0, 1) ** np.float32(sensor.gamma) * 255), np.uint8)


def _fall_off(side_px: int, loss: float) -> Floats:
    place = np.linspace(-1, 1, side_px, dtype=np.float32)
    return (1 - loss * (place[:, None] ** 2 + place[None, :] ** 2) / 2).astype(np.float32)


def area_mean(fine: Floats) -> Floats:
    """Return the mean of each square of drawn pixels."""
    rows, columns = (size // SUPERSAMPLING for size in fine.shape)
    return np.asarray(fine.reshape(rows, SUPERSAMPLING, columns, SUPERSAMPLING).mean(axis=(1, 3)), np.float32)


def majority(fine: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the most frequent number of each square of drawn pixels."""
    numbers = np.unique(fine)
    votes = [area_mean((fine == number).astype(np.float32)) for number in numbers]
    return np.asarray(numbers[np.argmax(np.stack(votes), axis=0)], np.uint8)
