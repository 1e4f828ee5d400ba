"""A map to make: of which scene, how, and where it goes. Checked as far as it can be without torch."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from rsseg_cli.delivery import check_target
from rsseg_cli.errors import RssegError
from rsseg_cli.raster.scene import Scene
from rsseg_cli.raster.series import Series
from rsseg_cli.raster.write import check_suffix
from rsseg_cli.tiling import STEP_PX, Tiling
from rsseg_cli.vector.area import Area

Precision = Literal["auto", "float32", "bfloat16"]
SeriesAs = Literal["dates", "place"]
# However many dates there are, a network must see some surroundings.
LEAST_TILE_PX = 192
DEVICES = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


@dataclass(frozen=True)
class Settings:
    """How scenes are mapped."""

    tile_px: int = 544  # side of a tile, at most
    overlap_px: int | None = None  # over which neighbouring tiles fade; None: what suits the encoder
    batch: int | None = None  # tiles that go through the network together; None: what suits the device
    gsd_m: float | None = None  # size of a pixel to map at; None: the model's
    device: str = "auto"
    precision: Precision = "auto"
    tta: bool = False  # averaged over the tile and its mirror images
    series: SeriesAs | None = None  # dates of a place taken together, for a map a date or one of the place
    shifts: bool = True  # by which the dates of a series lie off each other are estimated, and allowed for
    passes: int | None = None  # batches at work at the same time; None: what suits the device. The map is the same.

    def __post_init__(self) -> None:
        self.tiling_for("", "cpu")
        if self.gsd_m is not None and not 0 < self.gsd_m < math.inf:
            raise RssegError(f"--gsd {self.gsd_m:g}: not the size of a pixel", "give metres, for example --gsd 0.5")
        if self.precision not in get_args(Precision):
            raise RssegError(f"--precision {self.precision}: not known", f"use {' or '.join(get_args(Precision))}")
        if self.series not in (None, *get_args(SeriesAs)):
            raise RssegError(f"--series {self.series}: not known", f"use {' or '.join(get_args(SeriesAs))}")
        if not DEVICES.fullmatch(self.device):
            raise RssegError(f"--device {self.device}: not known", "use auto, cpu, cuda, cuda:N or mps")

    def tiling_for(self, encoder: str, device: str, dates: int = 1) -> Tiling:
        """The more dates a tile has, the smaller it is, so that memory is about that of four."""
        most_px = max(LEAST_TILE_PX, int(self.tile_px * min(1.0, math.sqrt(4 / dates))) // STEP_PX * STEP_PX)
        return Tiling.of(encoder, device, min(self.tile_px, most_px), self.overlap_px, self.batch)


@dataclass(frozen=True)
class Outputs:
    """Where a map goes, and what goes with it."""

    labels: Path
    probabilities: Path | None = None  # a band a class
    confidence: Path | None = None  # the probability of the class that won
    overwrite: bool = False
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def paths(self) -> list[Path]:
        return [path for path in (self.labels, self.probabilities, self.confidence) if path is not None]

    def check(self, inputs: tuple[str, ...]) -> None:
        """Refuses now what would fail after hours."""
        if len(set(self.paths)) < len(self.paths):
            raise RssegError("two outputs have one name", "give each its own", file=str(self.labels), kind="output")
        for path in self.paths:
            check_suffix(path)
            style = [path.with_suffix(".qml")] if path == self.labels else []
            check_target(path, overwrite=self.overwrite, inputs=inputs, sidecars=style)


@dataclass(frozen=True)
class Job:
    """A scene or a series with the model's bands, the part of it that is wanted, and where its maps go."""

    scene: Scene | Series
    maps: tuple[Outputs, ...]  # of a series one a date, or one of the place
    area: Area | None = None
