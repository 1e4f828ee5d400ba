"""How far one image lies from another: correlation of their outlines at every displacement.

Light, season and sensors change what a field looks like, and even whether it is brighter than the road; that there is
an outline stays. So the strength of the outlines of all bands is compared, not the values. Correlation is normalised
over the pixels that both images hold at each displacement: neither nodata nor the edges of a window draw it to zero,
as they do where windows are tapered. It is written here on scipy's transforms, which is all it needs.
"""

import numpy as np
from numpy.typing import NDArray

# Smoothing of the outlines. Sharper ones are noise to a large part, and their peak is too thin to be placed exactly.
BLUR_PX = 1.5
# Outlines reach this far beyond what makes them.
SKIRT_PX = 3
# More bands say the same again, and cost time.
MOST_BANDS = 6
# Around the peak: what is interpolated, and at how many places from one pixel before it to one behind it.
AROUND_PX = 4
STEPS = 81
# What correlates by chance looks like so many pixels that follow each other, of outlines as smooth as these.
ALIKE_PX = 30
CHANCE = 4.0  # deviations
# Of an image without outlines, next to those that go from 0 to 1; keeps rounding errors from correlating.
LEAST_POWER = 1e-6

Floats = NDArray[np.float32]
Places = NDArray[np.float64]


def outlines(values: Floats, valid: NDArray[np.bool_]) -> Floats:
    """Strength of the outlines (y, x) in bands (band, y, x): between 0 and 1, half at the middling ones."""
    from scipy import ndimage

    strength = np.zeros(values.shape[1:], np.float32)
    for band in values[:: -(-len(values) // MOST_BANDS)]:
        held = band[valid]
        filled = (np.where(valid, band, np.median(held)) - held.mean()) / (held.std() + np.float32(1e-9))
        # Quicker than a filter for each slope, and as good on outlines this smooth.
        down, across = np.gradient(ndimage.gaussian_filter(filled, BLUR_PX, truncate=3))
        strength += down**2 + across**2
    strength = np.sqrt(strength)
    # Bounded, so that a few roofs that glare at one date do not outweigh all the rest.
    return np.asarray(strength / (strength + np.median(strength[valid]) + np.float32(1e-9)), np.float32)


def inner(valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels whose outlines do not come from what lies beside nodata."""
    from scipy import ndimage

    return np.asarray(ndimage.binary_erosion(valid, iterations=SKIRT_PX, border_value=1))


def correlation(first: Floats, second: Floats, valid: NDArray[np.bool_], reach_px: int) -> Places:
    """Correlation at each displacement of `second` up to the reach, (2 reach + 1, 2 reach + 1); 0 is in the middle."""
    from scipy import fft

    shape = tuple(fft.next_fast_len(length + reach_px, real=True) for length in valid.shape)
    lags = np.arange(-reach_px, reach_px + 1)
    held = valid.astype(np.float32)
    a, b = ((image - image[valid].mean()) * held for image in (first, second))
    spectra = [fft.rfft2(image, shape) for image in (held, a, b, a * a, b * b)]

    def summed(one: int, other: int) -> Floats:
        """Of products of the two, over the pixels that both hold at each displacement."""
        found = fft.irfft2(np.conj(spectra[one]) * spectra[other], shape)
        return np.asarray(found[np.ix_(lags, lags)])

    count = np.maximum(summed(0, 0), 1)
    of_first, of_second = summed(1, 0), summed(0, 2)
    product = summed(1, 2) - of_first * of_second / count
    power = (summed(3, 0) - of_first**2 / count) * (summed(0, 4) - of_second**2 / count)
    return np.asarray(product / np.sqrt(np.maximum(power, LEAST_POWER * count**2)), np.float64)


def peak(surface: Places) -> tuple[float, float]:
    """(x, y) displacement with the highest correlation, to a part of a pixel; whole pixels near the reach."""
    from scipy import ndimage

    reach = len(surface) // 2
    row, col = (int(at) for at in np.unravel_index(np.argmax(surface), surface.shape))
    if min(row, col) < AROUND_PX or max(row, col) > 2 * reach - AROUND_PX:
        return float(col - reach), float(row - reach)
    around = surface[row - AROUND_PX : row + AROUND_PX + 1, col - AROUND_PX : col + AROUND_PX + 1]
    steps = np.linspace(-1, 1, STEPS)
    places = np.stack(np.meshgrid(steps, steps, indexing="ij")) + AROUND_PX
    fine = ndimage.map_coordinates(around, places, order=5, mode="mirror")
    down, across = np.unravel_index(np.argmax(fine), fine.shape)
    return float(col - reach + steps[across]), float(row - reach + steps[down])


def is_by_chance(surface: Places, held_px: int) -> bool:
    """Whether noise alone would correlate as well as this somewhere, with so many pixels held."""
    return bool(surface.max() < CHANCE * np.sqrt(ALIKE_PX / held_px))
