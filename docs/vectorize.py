"""Draws docs/vectorize.png: a map's pixels, its polygons, and its polygons with options.

python docs/vectorize.py [--mask FILE] [--window LEFT TOP WIDTH HEIGHT] [--output FILE]
"""

import argparse
from pathlib import Path

import numpy as np
import shapely
from PIL import Image, ImageDraw

from rsseg_cli import vectorize
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.labels import open_label_raster

HERE = Path(__file__).parent
SAMPLE = HERE.parent / "sample_scenes" / "source" / "meadow_1_labels.tif"
PANELS = ({"exact": True}, {}, {"min_area": "10,building=6", "regularize": "building"})
PX = 5  # of the picture for a pixel of the map
FINER = 3  # drawn so many times larger first, for smooth lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mask", default=str(SAMPLE))
    parser.add_argument("--window", type=int, nargs=4, default=(60, 60, 76, 76))
    parser.add_argument("--output", type=Path, default=HERE / "vectorize.png")
    options = parser.parse_args()
    panels = [panel(options.mask, options.window, rules) for rules in PANELS]
    width, height = panels[0].size
    picture = Image.new("RGB", (len(panels) * (width + PX) - PX, height), "white")
    for place, drawn in enumerate(panels):
        picture.paste(drawn, (place * (width + PX), 0))
    picture.quantize(64, dither=Image.Dither.NONE).save(options.output, optimize=True)


def panel(mask: str, window: tuple[int, ...], rules: dict[str, object]) -> Image.Image:
    labels = open_label_raster(mask)
    colors = {c.id: c.color for c in labels.scheme.classes}
    frame = vectorize(mask, **rules)  # type: ignore[arg-type, call-overload]
    _, _, width, height = window
    picture = Image.new("RGB", (width * PX * FINER, height * PX * FINER), "white")
    draw = ImageDraw.Draw(picture)
    largest_first = np.argsort(-frame.area.to_numpy())
    for number in largest_first:  # what lies in holes comes later
        outline = frame.geometry[number]
        draw.polygon(on_picture(outline.exterior, labels.grid, window), fill=colors[int(frame["class_id"][number])])
    for ring in shapely.get_rings(frame.geometry.to_numpy()):
        draw.line(on_picture(ring, labels.grid, window), fill="black", width=FINER)
    return picture.resize((width * PX, height * PX), Image.Resampling.LANCZOS)


def on_picture(ring: shapely.LinearRing, grid: Grid, window: tuple[int, ...]) -> list[tuple[float, float]]:
    left, top, *_ = window
    pixels = ((~grid.transform) @ point for point in ring.coords)
    return [((x - left) * PX * FINER, (y - top) * PX * FINER) for x, y in pixels]


if __name__ == "__main__":
    main()
