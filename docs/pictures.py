"""Draws info.png, adapt.png, segment.png and evaluate.png of a folder that `rsseg demo` has left.

python docs/pictures.py [--demo DIR] [--adapted MODEL] [--output DIR]

MODEL is one that has learned longer than the demo's own: rsseg adapt --source DIR/source --target DIR/target -o MODEL
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from rsseg_cli import open_scene
from rsseg_cli.raster.labels import open_label_raster

HERE = Path(__file__).parent
SIDE_PX, GAP_PX, HEAD_PX = 256, 6, 22
DARK_AND_BRIGHT = (2, 98)  # percentiles
THERE, NOTHING = (235, 235, 235), (0, 0, 0)
WRONG = (215, 48, 31)
DARK_BLUE, YELLOW = np.array((68, 1, 84)), np.array((253, 231, 37))  # not sure, sure
Pixels = NDArray[np.uint8]
Panel = tuple[str, Pixels]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, default=Path("rsseg_demo"))
    parser.add_argument("--adapted", type=Path, help="default: DIR/karst.safetensors")
    parser.add_argument("--output", type=Path, default=HERE)
    options = parser.parse_args()
    demo = options.demo
    with tempfile.TemporaryDirectory() as folder:
        adapted, mapped, sure = (Path(folder, f"{name}.tif") for name in ("adapted", "mapped", "sure"))
        model = options.adapted or demo / "karst.safetensors"
        segment(demo / "target" / "karst_1.tif", "--model", model, "-o", adapted)
        model = demo / "meadow.safetensors"
        segment(demo / "source" / "meadow_3.tif", "--model", model, "-o", mapped, "--confidence", sure)
        for name, panels in (
            ("info", of_info(demo)),
            ("adapt", of_adapt(demo, adapted)),
            ("segment", of_segment(demo, mapped, sure)),
            ("evaluate", of_evaluate(demo, adapted)),
        ):
            picture = side_by_side(panels)
            picture.quantize(128, dither=Image.Dither.NONE).save(options.output / f"{name}.png", optimize=True)


def segment(*call: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "rsseg_cli", "segment", *call, "--quiet"], check=True)  # noqa: S603


def of_info(demo: Path) -> list[Panel]:
    scene = demo / "change" / "after.tif"
    there = np.isfinite(open_scene(scene).values()).all(axis=0)
    return [
        ("red, green, blue", photograph(scene, "red,green,blue")),
        ("nir, red, green", photograph(scene, "nir,red,green")),
        ("nothing there", np.where(there[..., None], np.uint8(THERE), np.uint8(NOTHING))),
    ]


def of_adapt(demo: Path, adapted: Path) -> list[Panel]:
    return [
        ("target", photograph(demo / "target" / "karst_1.tif", "red,green,blue")),
        ("not adapted", painted(demo / "maps" / "not_adapted" / "karst_1_labels.tif")),
        ("adapted", painted(adapted)),
        ("truth", painted(demo / "truth" / "karst_1_labels.tif")),
    ]


def of_segment(demo: Path, mapped: Path, sure: Path) -> list[Panel]:
    confidence = open_scene(sure).values()[0][..., None]
    return [
        ("scene", photograph(demo / "source" / "meadow_3.tif", "red,green,blue")),
        ("map", painted(mapped)),
        ("confidence", np.uint8(DARK_BLUE + confidence * (YELLOW - DARK_BLUE))),
    ]


def of_evaluate(demo: Path, adapted: Path) -> list[Panel]:
    truth = demo / "truth" / "karst_1_labels.tif"
    wrong = (ids(adapted) != ids(truth))[..., None]
    return [
        ("map", painted(adapted)),
        ("truth", painted(truth)),
        ("wrong", np.where(wrong, np.uint8(WRONG), np.uint8(THERE))),
    ]


def photograph(path: Path, bands: str) -> Pixels:
    """Three bands from black to white."""
    values = open_scene(path, bands).values()
    low, high = np.nanpercentile(values, DARK_AND_BRIGHT, axis=(1, 2), keepdims=True)
    shown = np.nan_to_num((values - low) / (high - low)).clip(0, 1)
    return np.uint8(255 * np.moveaxis(shown, 0, -1))


def painted(path: Path) -> Pixels:
    """A map in its classes' colours."""
    table = np.full((256, 3), 255, np.uint8)
    for each in open_label_raster(str(path)).scheme.classes:
        table[each.id] = each.rgb
    return np.asarray(table[ids(path)], np.uint8)


def ids(path: Path) -> Pixels:
    return open_label_raster(str(path)).read()


def side_by_side(panels: Sequence[Panel]) -> Image.Image:
    picture = Image.new("RGB", (len(panels) * (SIDE_PX + GAP_PX) - GAP_PX, HEAD_PX + SIDE_PX), "white")
    draw: Any = ImageDraw.Draw(picture)
    for number, (head, pixels) in enumerate(panels):
        left = number * (SIDE_PX + GAP_PX)
        draw.text((left, 2), head, "black", ImageFont.load_default(15))
        picture.paste(Image.fromarray(pixels).resize((SIDE_PX, SIDE_PX), Image.Resampling.NEAREST), (left, HEAD_PX))
    return picture


if __name__ == "__main__":
    main()
