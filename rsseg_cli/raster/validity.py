"""Where a raster holds nothing: the one rule that turns every kind of 'missing' into NaN.

Of each band, a pixel is missing where
- the value is the band's nodata value, or not finite;
- the file's mask (internal, external .msk, or an alpha band that is a mask) is 0.
One exception: where nodata is the end of an unsigned integer's range (0, or 255 in 8 bit), a single band may
well hold that value as a colour, such as a red of 0 on dark water. Such a pixel is missing only where
every one of these bands in use holds its nodata value, which is what `gdalwarp` and QGIS do too.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.io import DatasetReader
from rasterio.windows import Window

from rsseg_cli.raster.dataset import read_window

SCAN_ROWS = 1024


def missing_values(raw: NDArray[Any], nodata: Sequence[float | None]) -> NDArray[np.bool_]:
    """Missing by value, (band, y, x)."""
    missing = np.zeros(raw.shape, bool)
    if np.issubdtype(raw.dtype, np.floating):
        missing |= ~np.isfinite(raw)
    at_end = []
    for band, value in enumerate(nodata):
        stored = _as_stored(value, raw.dtype)
        if stored is not None:
            missing[band] |= raw[band] == stored
            if _may_be_a_colour(stored, raw.dtype):
                at_end.append(band)
    if len(at_end) > 1:
        missing[at_end] = missing[at_end].all(axis=0)
    return missing


def missing_by_mask(
    dataset: DatasetReader, indexes: list[int], window: Window, alpha: int | None
) -> NDArray[np.bool_] | None:
    """Missing by the file's mask, (1 or band, y, x); None if it has none."""
    if alpha is not None:
        return np.asarray(read_window(dataset, [alpha], window) == 0)
    flags = dataset.mask_flag_enums
    if not any(_is_mask(flags[index - 1]) for index in indexes):
        return None
    return np.asarray(dataset.read_masks(indexes, window=window) == 0)


def alpha_index(dataset: DatasetReader) -> int | None:
    """The band that is tagged alpha, whatever it really holds."""
    kinds = dict(zip(dataset.indexes, color_interpretation(dataset), strict=True))
    return max((index for index, kind in kinds.items() if kind == "alpha"), default=None)


def is_mask_like(dataset: DatasetReader, index: int) -> bool:
    """Whether a band holds 0 and its maximum alone, as a mask does and an infrared band does not."""
    highest: float | None = None
    for row in range(0, dataset.height, SCAN_ROWS):
        strip = Window(0, row, dataset.width, min(SCAN_ROWS, dataset.height - row))
        values = np.unique(read_window(dataset, [index], strip))
        values = values[values != 0]
        if len(values) > 1 or (len(values) == 1 and highest not in (None, values[0])):
            return False
        highest = values[0] if len(values) else highest
    return highest is not None


def color_interpretation(dataset: DatasetReader) -> list[str]:
    """Names such as red or alpha; all 'undefined' where one is newer than rasterio, which names none of them then."""
    try:
        return [ColorInterp(kind).name for kind in dataset.colorinterp]
    except ValueError:
        return ["undefined"] * dataset.count


def _is_mask(flags: Sequence[MaskFlags]) -> bool:
    """An internal or external mask, as opposed to a nodata value or an alpha band."""
    return MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags


def _as_stored(nodata: float | None, dtype: np.dtype[Any]) -> Any:
    """The nodata value as the dtype holds it; None if it cannot, and so never occurs."""
    if nodata is None or np.isnan(nodata):
        return None
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        if nodata != int(nodata) or not limits.min <= nodata <= limits.max:
            return None
    return dtype.type(nodata)


def _may_be_a_colour(stored: Any, dtype: np.dtype[Any]) -> bool:
    return np.issubdtype(dtype, np.unsignedinteger) and stored in (0, 2 ** (8 * dtype.itemsize) - 1)
