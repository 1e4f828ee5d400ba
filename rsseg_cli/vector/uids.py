"""Names of polygons that stay the same from run to run."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsseg_cli.vector.coverage import Coverage

PLACE_BITS = 28


def uids(coverage: Coverage, numbers: NDArray[Any]) -> NDArray[np.uint64]:
    """A number for each region: the last 8 bits of its class's, and the row and column of its first pixel (28 each).

    They are counted from the origin of the coordinate system in pixels like these, so that a mask cut out of a larger
    one gives the same numbers. A region's own pixels alone decide: no two of a mask share a number, and none changes
    with another. Ask before lines are moved.
    """
    lines, rings = coverage.lines, coverage.rings
    width = coverage.grid.width + 1
    tops = np.minimum.reduceat(lines.y.astype(np.int64) * width + lines.x.astype(np.int64), lines.offsets[:-1])
    tops = np.minimum.reduceat(tops[rings.sides >> 1], rings.offsets[coverage.parts[:-1]])
    row, col = (_within_bits(place) for place in _on_lattice(coverage, *np.divmod(tops, width)))
    return (numbers & 0xFF).astype(np.uint64) << np.uint64(2 * PLACE_BITS) | row << np.uint64(PLACE_BITS) | col


def hex_texts(numbers: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """(number, 16) digits: text, because not all programs read whole numbers of 64 bits."""
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    shifts = np.arange(60, -1, -4, dtype=np.uint64)
    return digits[(numbers[:, np.newaxis] >> shifts & np.uint64(15)).astype(np.uint8)]


def _on_lattice(
    coverage: Coverage, row: NDArray[np.int64], col: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if coverage.grid.crs is None:
        return row, col
    t = coverage.grid.transform
    west = (t.c * t.e - t.f * t.b) / t.determinant
    north = (t.f * t.a - t.c * t.d) / t.determinant
    # Most rasters begin at a whole or at half a pixel; a quarter more, and rounded coordinates do no harm to either.
    return row + int(np.floor(north + 0.25)), col + int(np.floor(west + 0.25))


def _within_bits(place: NDArray[np.int64]) -> NDArray[np.uint64]:
    # Whoever is farther out starts again from 0; no raster is wide enough to meet itself.
    return (place & ((1 << PLACE_BITS) - 1)).astype(np.uint64)
