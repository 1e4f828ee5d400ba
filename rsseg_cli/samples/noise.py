"""Natural-looking random fields of a given band of wavelengths."""

from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy import ndimage

Field = NDArray[np.float32]


def band_noise(
    shape: tuple[int, int], resolution_m: float, shortest_m: float, longest_m: float, rng: np.random.Generator
) -> Field:
    """Return a field of mean 0 and deviation 1 whose waves lie between the two lengths."""
    step = max(1, int(shortest_m / (4 * resolution_m)))
    coarse = (shape[0] // step + 2, shape[1] // step + 2)
    spectrum = scipy.fft.rfft2(rng.standard_normal(coarse, dtype=np.float32))
    spectrum *= _band(coarse, resolution_m * step, shortest_m, longest_m)
    field = np.asarray(scipy.fft.irfft2(spectrum, s=coarse), dtype=np.float32)
    field /= max(float(field.std()), 1e-9)
    return _enlarged(field, step)[: shape[0], : shape[1]]


def _band(shape: tuple[int, int], resolution_m: float, shortest_m: float, longest_m: float) -> NDArray[np.float32]:
    rows = scipy.fft.fftfreq(shape[0], resolution_m)[:, None]
    columns = scipy.fft.rfftfreq(shape[1], resolution_m)[None, :]
    frequency = np.hypot(rows, columns)
    # Amplitude falls with frequency, as it does in natural ground, with soft ends to the band.
    rise = 1 - np.exp(-((frequency * longest_m) ** 4))
    fall = np.exp(-((frequency * shortest_m) ** 4))
    band: NDArray[Any] = rise * fall / np.maximum(frequency, 1e-6)
    return band.astype(np.float32)


def _enlarged(field: Field, step: int) -> Field:
    if step == 1:
        return field
    shape = ((field.shape[0] - 1) * step + 1, (field.shape[1] - 1) * step + 1)
    grown = ndimage.zoom(field, (shape[0] / field.shape[0], shape[1] / field.shape[1]), order=1)
    return np.asarray(grown, dtype=np.float32)
