"""Bands brought to one scale: what a network sees is robustly standardised, about -3 to 3, 0 where there is nothing."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsseg_cli.errors import RssegError

# Of a normal distribution the 2nd and the 98th percentile lie this many standard deviations apart.
SPREAD = 4.107
# Beyond this many spreads a value is a glint, a dead pixel or a wrong unit.
LIMIT = 5.0
# Of so many times the spread, or of so small a part of it, a band is in another unit or of another sensor.
OTHER_SPREAD = 8.0
# (centre, spread) of ordinary photographs, and of reflectance over land.
FIXED = {
    "uint8": (0.45 * 255, 0.225 * 255),
    "uint16": (1500.0, 1000.0),
    "int16": (1500.0, 1000.0),
    "float32": (0.15, 0.1),
}


@dataclass(frozen=True)
class Normalisation:
    """How stored values become the network's: (value - centre) / spread, band by band."""

    rule: str  # "robust": from the pixels of a domain; "fixed": from the number range alone
    centres: tuple[float, ...]
    spreads: tuple[float, ...]
    # What comes after, where bands are brought to the statistics of another domain; () where they are not.
    factors: tuple[tuple[float, ...], ...] = ()
    offsets: tuple[float, ...] = ()

    def apply(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Bands (band, y, x), or a batch of them; where there is nothing, 0."""
        centres, spreads = (np.array(v, np.float32)[:, None, None] for v in (self.centres, self.spreads))
        scaled = np.clip((values - centres) / spreads, -LIMIT, LIMIT)
        if self.factors:
            # A pixel that lacks a band becomes NaN in all of them here, and 0 below.
            factors, offsets = np.array(self.factors, np.float32), np.array(self.offsets, np.float32)
            scaled = np.einsum("mn,...nyx->...myx", factors, scaled) + offsets[:, None, None]
        return np.asarray(np.nan_to_num(scaled, copy=False, nan=0.0), np.float32)

    def to_json(self) -> dict[str, Any]:
        entry = {"rule": self.rule, "centres": list(self.centres), "spreads": list(self.spreads)}
        return entry | (
            {"factors": list(map(list, self.factors)), "offsets": list(self.offsets)} if self.factors else {}
        )

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> "Normalisation":
        lists = [tuple(map(float, entry.get(name, ()))) for name in ("centres", "spreads", "offsets")]
        factors = tuple(tuple(map(float, row)) for row in entry.get("factors", ()))
        return cls(str(entry["rule"]), lists[0], lists[1], factors, lists[2])


def robust(samples: Iterable[NDArray[np.float32]], names: tuple[str, ...], path: str) -> Normalisation:
    """From samples (band, n) of valid pixels: middle and width of the range from the 2nd to the 98th percentile.

    Not the median: it tells how much water and sand a domain holds, and taking that out moves each of its classes.
    """
    pixels = np.concatenate(list(samples), axis=1)
    if pixels.shape[1] == 0:
        raise RssegError(f"{path}: holds nothing but nodata", "leave it out, or check its nodata value", file=path)
    low, high = np.nanpercentile(pixels, (2, 98), axis=1)
    centre, spreads = (low + high) / 2, (high - low) / SPREAD
    if len(flat := np.flatnonzero(~(spreads > 0))):
        # A constant band tells nothing; it must not be blown up to noise either.
        spreads[flat] = np.maximum(np.abs(centre[flat]), 1.0)
    return Normalisation("robust", tuple(centre.tolist()), tuple(spreads.tolist()))


def fixed(dtype: str, bands: int) -> Normalisation:
    """From the number range: 8 bit as photographs, 16 bit as reflectance times 10000, floats as reflectance."""
    centre, spread = FIXED.get(dtype, FIXED["float32"])
    return Normalisation("fixed", (centre,) * bands, (spread,) * bands)


def bands_unlike(own: Normalisation, known: Normalisation) -> list[int]:
    """Places of the bands whose values a network that knows others can make nothing of."""
    (centres, spreads), (expected, width) = (np.array((each.centres, each.spreads)) for each in (own, known))
    elsewhere = (np.abs(centres - expected) > LIMIT * width) | (spreads > OTHER_SPREAD * width)
    # Water or snow alone is narrow, too, but hardly in all bands at once.
    narrow = spreads < width / OTHER_SPREAD
    return np.flatnonzero(elsewhere | narrow.all()).tolist()
