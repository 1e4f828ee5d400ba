"""A date as if it had been taken once more: other light, other noise, not quite in the same place."""

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]

# Of a band's spread: how far gain and offset are off, either way, and how much noise is added.
LIGHT, NOISE = 0.03, 0.03
# How far it lies off, either way.
SHIFT_PX = 0.5
WHOLE = 0.999


def again(image: Values, spread: NDArray[np.float64], rng: np.random.Generator) -> Values:
    """Of a window (band, y, x); a pixel that is made of one with nothing holds nothing."""
    held = np.isfinite(image)
    if not held.any():
        return image
    moved = _moved(np.where(held, image, np.float32(0)), held, rng.uniform(-SHIFT_PX, SHIFT_PX, 2))
    gains, offsets = 1 + LIGHT * rng.uniform(-1, 1, (2, len(image), 1, 1))
    unit, middle = spread[:, np.newaxis, np.newaxis], np.nanmean(image, axis=(1, 2), keepdims=True)
    noise = NOISE * unit * rng.standard_normal(image.shape)
    return np.asarray((moved - middle) * gains + middle + (offsets - 1) * unit + noise, np.float32)


def _moved(image: Values, held: NDArray[np.bool_], by: NDArray[np.float64]) -> Values:
    """Between pixels; beyond the edge there is the edge."""
    from scipy.ndimage import shift

    bands = [shift(band, by, order=1, mode="nearest") for band in image]
    weight = shift(held[0].astype(np.float32), by, order=1, mode="nearest")
    return np.where(weight > WHOLE, np.stack(bands), np.float32(np.nan))
