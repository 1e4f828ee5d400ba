"""Pairs of dates that are made: real ground, at the later date under another light, and with what is put upon it.

The later date is the earlier one with gain and offset of each band up to a tenth away, noise of 3 % of the band's
spread, and a shift in any direction. Objects are put on the shifted image, so that their truth is exact on its pixels.
They are patches of the same image from elsewhere, with hard edges, unlike what they cover.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]
Flags = NDArray[np.bool_]

JITTER, NOISE = 0.1, 0.03
SHARES, SHIFTS_PX = (0.001, 0.01, 0.05, 0.1, 0.3, 0.5), (0.0, 0.5, 1.0, 2.0)
NO_CHANGE_SHIFT_PX = 0.5
# Shifted images are unsure at their edges.
MARGIN_PX = 4
LEAST_SIDE_PX, MOST_SIDE_PX = 4, 60
# In how many spreads of some band an object differs from what it covers, at least.
UNLIKE = 0.8
STRIP_ROWS = 512
SCALE_BANDS = 4


class Files(NamedTuple):
    before: Path
    after: Path
    truth: Path | None  # 0 not known, 1 unchanged, 2 changed, or 0 and 255; None: nothing changed, or it is not asked


@dataclass(frozen=True)
class Pair:
    """Two dates, made when they are needed."""

    name: str
    make: Callable[[Path, int], Files]  # in a folder, by a seed
    counts: bool = True  # in means over pairs
    is_small: bool = False
    words: tuple[str, ...] = ()  # the command needs
    facts: Mapping[str, Any] = field(default_factory=dict)


def simulated(grounds: Mapping[str, Path]) -> Iterator[Pair]:
    """Every share of change under every shift, on every ground."""
    for ground, path in grounds.items():
        for share in SHARES:
            for shift in SHIFTS_PX:
                name = f"{ground} {share:.1%} {shift} px"
                facts = {"ground": ground, "wanted_share": share, "made_shift_px": shift}
                yield Pair(name, partial(_make_changed, path, share, shift), facts=facts)


def unchanged(grounds: Mapping[str, Path]) -> Iterator[Pair]:
    for ground, path in grounds.items():
        yield Pair(ground, partial(_make_changed, path, 0.0, NO_CHANGE_SHIFT_PX), facts={"wanted_share": 0.0})


def scaled(name: str, staged: Files, size: int) -> Pair:
    """A pair of four bands grown to a size by mirrored copies."""
    return Pair(f"{name} {size} px", partial(_make_large, staged, size), facts={"size_px": size})


def read(path: Path) -> NDArray[Any]:
    import rasterio

    with rasterio.open(path) as dataset:
        return np.asarray(dataset.read())


def write(path: Path, values: NDArray[Any]) -> Path:
    import rasterio

    count, height, width = values.shape
    with rasterio.open(path, "w", "GTiff", width, height, count, dtype=values.dtype.name) as dataset:
        dataset.write(values)
    return path


def _make_changed(ground: Path, share: float, shift_px: float, folder: Path, seed: int) -> Files:
    image = read(ground).astype(np.float32)
    rng = np.random.default_rng([seed, zlib.crc32(f"{ground.parent.name}/{ground.name}".encode())])
    inner = np.s_[:, MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
    after = stressed(image, shift_px, rng)[inner]
    after, changed = with_objects(after, share, rng)
    before_path, after_path = write(folder / "before.tif", image[inner]), write(folder / "after.tif", after)
    truth = write(folder / "truth.tif", changed[np.newaxis].astype(np.uint8) + 1) if share else None
    return Files(before_path, after_path, truth)


def stressed(image: Values, shift_px: float, rng: np.random.Generator) -> Values:
    """The same ground another day."""
    from scipy.ndimage import shift

    angle = rng.uniform(0, 2 * np.pi)
    move = shift_px * np.sin(angle), shift_px * np.cos(angle)
    spreads = image.std(axis=(1, 2), keepdims=True)
    moved = np.stack([shift(band, move, order=3, mode="mirror") if shift_px else band for band in image])
    gain, offset = (
        1 + rng.uniform(-JITTER, JITTER, spreads.shape),
        spreads * rng.uniform(-JITTER, JITTER, spreads.shape),
    )
    another: Values = (moved * gain + offset + NOISE * spreads * rng.standard_normal(image.shape)).astype(np.float32)
    return another


def with_objects(ground: Values, share: float, rng: np.random.Generator) -> tuple[Values, Flags]:
    """The ground with objects on so much of it, and where they are."""
    image, changed = ground.copy(), np.zeros(ground.shape[1:], bool)
    wanted, spreads = share * changed.size, ground.std(axis=(1, 2))
    most = np.clip(np.sqrt(wanted / 3), LEAST_SIDE_PX + 1, MOST_SIDE_PX)
    covered = 0
    while covered < wanted:
        outline = _outline(most, rng)
        there, elsewhere = (_place(outline.shape, changed.shape, rng) for _ in range(2))
        patch = ground[:, *elsewhere][:, outline]
        apart = np.abs(patch.mean(axis=1) - ground[:, *there][:, outline].mean(axis=1)) / spreads
        if apart.max() >= UNLIKE:
            image[:, *there][:, outline] = patch
            covered += int(np.count_nonzero(outline & ~changed[there]))
            changed[there] |= outline
    return image, changed


def _outline(most: float, rng: np.random.Generator) -> Flags:
    """A rectangle or an ellipse."""
    height, width = np.exp(rng.uniform(np.log(LEAST_SIDE_PX), np.log(most), 2)).round().astype(int)
    if rng.random() < 0.5:
        return np.ones((height, width), bool)
    y, x = (np.linspace(-1, 1, size + 2)[1:-1] for size in (height, width))
    return np.asarray(np.hypot(y[:, np.newaxis], x) <= 1)


def _place(shape: tuple[int, ...], within: tuple[int, ...], rng: np.random.Generator) -> tuple[slice, slice]:
    row, col = (int(rng.integers(0, size - own + 1)) for own, size in zip(shape, within, strict=True))
    return slice(row, row + shape[0]), slice(col, col + shape[1])


def _make_large(staged: Files, size: int, folder: Path, _: int) -> Files:
    paths = [_mirrored_copies(read(path), size, folder / f"{path.stem}.tif") for path in staged[:2] if path]
    return Files(paths[0], paths[1], None)


def _mirrored_copies(image: NDArray[Any], size: int, path: Path) -> Path:
    import rasterio
    from rasterio.transform import from_origin
    from rasterio.windows import Window

    # The fourth band is the first upside down: ground of its own.
    bands = np.concatenate([image, image[:1, ::-1]])[:SCALE_BANDS]
    rows, cols = (_there_and_back(size, own) for own in bands.shape[1:])
    place = {"crs": "EPSG:32611", "transform": from_origin(500_000, 4_000_000, 10, 10)}
    layout = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "zlevel": 1}
    with rasterio.open(path, "w", "GTiff", size, size, SCALE_BANDS, dtype=bands.dtype.name, **place, **layout) as out:
        for top in range(0, size, STRIP_ROWS):
            part = bands[:, rows[top : top + STRIP_ROWS]][:, :, cols]
            out.write(part, window=Window(0, top, size, part.shape[1]))
    return path


def _there_and_back(size: int, own: int) -> NDArray[np.intp]:
    at = np.arange(size) % (2 * own)
    return np.where(at < own, at, 2 * own - 1 - at)
