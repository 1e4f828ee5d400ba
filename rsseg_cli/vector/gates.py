"""Gates: where lines may pass without crossing others or parting other regions than the pixels' edges do.

A border between pixels passes the middles of their edges. Around each of its corners lies a cell, a pixel wide; from
one cell to the next a border goes through a gate, at right angles to the pixels' edge between them. Whatever way lines
take, as long as they go through the same cells and gates they part the same regions, cross nothing, and stay within
half a pixel of where they were.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsseg_cli.vector.chains import Offsets, offsets_of

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Numbers = NDArray[np.int64]

# Half a gate, in pixels. Lines that both lean towards each other as far as they may still keep apart.
REACH_PX = 0.49
# How far points slide along their gates, and nodes in their cells.
SLIDE_PX = 0.45


@dataclass(frozen=True)
class Path:
    """Points along arcs, and the way through the gate in which each lies: (0, 0) for ends and corners, in no gate."""

    x: Floats
    y: Floats
    dx: NDArray[np.int8]
    dy: NDArray[np.int8]
    offsets: Offsets  # of arcs


def between(a: Numbers, b: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """(the points between a and b, the number of the step of each, where those of each step begin)."""
    sizes = b - a - 1
    begins = offsets_of(sizes)[:-1]
    step = np.repeat(np.arange(len(a)), sizes)
    return np.repeat(a + 1 - begins, sizes) + np.arange(len(step)), step, begins


def blocked(path: Path, x: Floats, y: Floats, a: Numbers, b: Numbers) -> Flags:
    """Which steps from a to b, with points between, miss the gate of one of these, or go back through their own."""
    at, step, begins = between(a, b)
    wx, wy = x[b] - x[a], y[b] - y[a]
    sx, sy = wx[step], wy[step]
    off_gate = np.abs(sx * (path.y[at] - y[a][step]) - sy * (path.x[at] - x[a][step]))
    is_bad = np.maximum.reduceat(off_gate - REACH_PX * (sx * path.dx[at] + sy * path.dy[at]), begins) >= 0
    for end in (a, b):
        is_bad |= (wx * path.dx[end] + wy * path.dy[end] <= 0) & ((path.dx[end] != 0) | (path.dy[end] != 0))
    return np.asarray(is_bad)
