"""What a run leaves in --workdir for a person to look at: every loss of every step, and pictures of the target."""

import csv
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from rsseg_cli.classes import UNLABELLED, ClassScheme
from rsseg_cli.delivery import system_errors
from rsseg_cli.raster.verify import gdal_errors

# Bands of a picture, if they are there; else the first three, or the first alone.
SHOWN = ("red", "green", "blue")
# Standardised values from black to white.
DARK, BRIGHT = -2.5, 2.5
# Where there is nothing, in maps; scenes are as grey there.
NOTHING = np.uint8(127)


class Diary:
    """Lines of log.csv, written whenever the run could go on from there; and pictures."""

    def __init__(self, folder: Path, palette: "Palette") -> None:
        self.folder, self.palette = folder, palette
        self.waiting: list[tuple[str, str, int, str, float]] = []

    def note(self, stage: str, way: str, step: int, values: dict[str, float]) -> None:
        """`way`: how the target is seen; of several, each has its first steps."""
        self.waiting += [(stage, way, step, name, value) for name, value in values.items()]

    def write(self) -> None:
        path = self.folder / "log.csv"
        is_new = not path.exists()
        with system_errors(path), path.open("a", newline="", encoding="utf-8") as file:
            lines = csv.writer(file)
            if is_new:
                lines.writerow(("method", "target seen", "step", "what", "value"))
            lines.writerows((*entry, f"{value:.6g}") for *entry, value in self.waiting)
        self.waiting = []

    def clear(self) -> None:
        """For a run from the first step."""
        for path in (self.folder / "log.csv", *self.folder.glob("target_*.png"), *self.folder.glob("mix_*.png")):
            path.unlink(missing_ok=True)

    def show(self, name: str, bands: NDArray[np.float32], maps: NDArray[np.int64]) -> None:
        """NAME.png: standardised crops (crop, band, y, x), and below them their maps (crop, y, x)."""
        seen = np.concatenate(list(self.palette.photograph(bands)), axis=-1)
        there = (bands != 0).any(axis=1) & (maps != UNLABELLED)
        mapped = np.concatenate(list(self.palette.drawn(maps, there)), axis=-1)
        _write_png(self.folder / f"{name}.png", np.concatenate([seen, mapped], axis=-2))


class Palette:
    """How bands and classes look."""

    def __init__(self, bands: Sequence[str], scheme: ClassScheme) -> None:
        names = [name.casefold() for name in bands]
        own = [names.index(name) for name in SHOWN] if set(SHOWN) <= set(names) else list(range(min(3, len(names))))
        self.bands = own if len(own) == 3 else [own[0]] * 3
        self.colors = np.array([c.rgb for c in scheme.classes], np.uint8)

    def photograph(self, bands: NDArray[np.float32]) -> NDArray[np.uint8]:
        shown = (bands[:, self.bands] - DARK) / (BRIGHT - DARK)
        return np.asarray(255 * np.clip(shown, 0, 1), np.uint8)

    def drawn(self, maps: NDArray[np.int64], there: NDArray[np.bool_]) -> NDArray[np.uint8]:
        return np.moveaxis(np.where(there[..., None], self.colors[np.where(there, maps, 0)], NOTHING), -1, 1)


def _write_png(path: Path, image: NDArray[np.uint8]) -> None:
    (count, height, width), new = image.shape, path.with_suffix(".new")
    size = {"width": width, "height": height, "count": count, "dtype": "uint8"}
    try:
        with gdal_errors(path), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(new, "w", driver="PNG", **size) as file:
                file.write(image)
            new.replace(path)
    finally:
        new.unlink(missing_ok=True)
