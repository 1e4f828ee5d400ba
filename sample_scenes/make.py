"""Draws the sample scenes of this folder anew: python sample_scenes/make.py [--size PIXELS] [--folder FOLDER]."""

import argparse
import warnings
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from rsseg_cli.samples import DEFAULT_SIZE_PX, SamplePair, contact_sheet, pair_sheet
from rsseg_cli.samples.folder import write_samples

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description="Draws the sample scenes and their contact sheets.")
    parser.add_argument("--size", type=int, default=DEFAULT_SIZE_PX, help="side of a scene in pixels")
    parser.add_argument("--folder", type=Path, default=HERE, help="where to write them")
    options = parser.parse_args()
    scenes = []
    for sample, paths in write_samples(options.folder, options.size, overwrite=True):
        if isinstance(sample, SamplePair):
            write_png(options.folder / "change_sheet.png", pair_sheet(sample))
        else:
            scenes.append(sample)
        print(*paths, sep="\n")
    write_png(options.folder / "contact_sheet.png", contact_sheet(scenes))


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    count, height, width = picture.shape
    profile = {"driver": "PNG", "count": count, "height": height, "width": width, "dtype": "uint8", "ZLEVEL": 9}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **profile) as png:
            png.write(picture)


if __name__ == "__main__":
    main()
