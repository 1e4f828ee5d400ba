"""Changes that are known because they were put there: pieces of the same image, where they do not belong."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]
Flags = NDArray[np.bool_]

# Sides of a piece, at random between these on a logarithmic scale, and how much longer one may be than the other.
LEAST_PX, MOST_PX, STRETCH = 4, 40, 2.0
# A piece differs from what it covers by so many standard deviations of a band: else nothing has changed.
LEAST_DIFFERENCE = 0.5
CHIPS_A_WINDOW = 4
# Pieces that may be refused before the ground is taken for too uniform to show a change.
ATTEMPTS = 200


@dataclass(frozen=True, eq=False)
class Chips:
    """Squares cut from all over one date."""

    values: Values  # (chip, band, y, x), all of them held
    spread: NDArray[np.float64]  # (band,) standard deviation

    @classmethod
    def of(cls, windows: Iterable[Values], rng: np.random.Generator) -> "Chips":
        """Some of each window (band, y, x); none where a window is full of gaps."""
        found: list[Values] = []
        for window in windows:
            side = min(MOST_PX, *window.shape[1:])
            for _ in range(CHIPS_A_WINDOW):
                chip = window[:, *somewhere((side, side), window.shape[1:], rng)]
                if np.isfinite(chip).all():
                    found.append(chip.copy())
        values = np.stack(found) if found else np.zeros((0, 1, 1, 1), np.float32)
        return cls(values, values.std(axis=(0, 2, 3), dtype=np.float64) + 1e-12 if found else np.ones(1))


def with_changes(image: Values, chips: Chips, share: float, rng: np.random.Generator) -> tuple[Values, Flags]:
    """(the image (band, y, x) with pieces in it, where they are), until so much of it is covered."""
    image, covered = image.copy(), np.zeros(image.shape[1:], np.bool_)
    for _ in range(ATTEMPTS if len(chips.values) else 0):
        if covered.mean() >= share:
            break
        piece, shape = _piece(chips, image.shape[1:], rng)
        place = somewhere(shape.shape, covered.shape, rng)
        below = image[:, *place]
        apart = np.abs(piece.mean(axis=(1, 2)) - below.mean(axis=(1, 2))) / chips.spread
        if apart.max() >= LEAST_DIFFERENCE:  # not where there is a gap: nothing is at any distance from it
            image[:, *place] = np.where(shape, piece, below)
            covered[place] |= shape
    return image, covered


def _piece(chips: Chips, most: tuple[int, ...], rng: np.random.Generator) -> tuple[Values, Flags]:
    """(values, shape) of a random piece: a rectangle or an ellipse."""
    chip = chips.values[rng.integers(0, len(chips.values))]
    size = np.exp(rng.uniform(np.log(LEAST_PX), np.log(MOST_PX)))
    stretch = np.exp(rng.uniform(-np.log(STRETCH), np.log(STRETCH)))
    sides = [
        max(1, min(round(side), limit // 4, length))
        for side, limit, length in zip((size * stretch, size / stretch), most, chip.shape[1:], strict=True)
    ]
    values = chip[:, *somewhere(sides, chip.shape[1:], rng)]
    if rng.random() < 0.5:
        return values, np.ones(sides, np.bool_)
    y, x = ((np.arange(side) + 0.5) / side * 2 - 1 for side in sides)
    return values, np.add.outer(y**2, x**2) <= 1


def somewhere(sides: Sequence[int], within: Sequence[int], rng: np.random.Generator) -> tuple[slice, slice]:
    """A rectangle (height, width) anywhere within another."""
    starts = [int(rng.integers(0, most - side + 1)) for side, most in zip(sides, within, strict=True)]
    row, col = (slice(start, start + side) for start, side in zip(starts, sides, strict=True))
    return row, col
