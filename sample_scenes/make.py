"""Draws the samples of this folder anew: python sample_scenes/make.py [--size PX] [--folder FOLDER]."""

import argparse
import warnings
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from rsseg_cli.samples import (
    DEFAULT_SIZE_PX,
    SERIES_SIZE_PX,
    SamplePair,
    SampleSeries,
    contact_sheet,
    pair_sheet,
    series_sheet,
)
from rsseg_cli.samples.folder import write_samples, write_series

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description="Draws the sample scenes, the sample series and their sheets.")
    parser.add_argument("--size", type=int, default=DEFAULT_SIZE_PX, help="side of a scene in pixels")
    parser.add_argument("--series-size", type=int, default=SERIES_SIZE_PX, help="side of a date of a series in pixels")
    parser.add_argument("--folder", type=Path, default=HERE, help="where to write them")
    options = parser.parse_args()
    make_scenes(options.folder, options.size)
    make_series(options.folder, options.series_size)


def make_scenes(folder: Path, size_px: int) -> None:
    scenes = []
    for sample, paths in write_samples(folder, size_px, overwrite=True):
        if isinstance(sample, SamplePair):
            write_png(folder / "change_sheet.png", pair_sheet(sample))
        else:
            scenes.append(sample)
        print(*paths, sep="\n")
    write_png(folder / "contact_sheet.png", contact_sheet(scenes))


def make_series(folder: Path, size_px: int) -> None:
    places: list[SampleSeries] = []
    for series, paths in write_series(folder / "series", size_px, overwrite=True):
        places.append(series)
        print(*paths, sep="\n")
    write_png(folder / "series_sheet.png", series_sheet(places))


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    count, height, width = picture.shape
    profile = {"driver": "PNG", "count": count, "height": height, "width": width, "dtype": "uint8", "ZLEVEL": 9}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **profile) as png:
            png.write(picture)


if __name__ == "__main__":
    main()
