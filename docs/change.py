"""Draws docs/change.png, the dates of pairs, their change score and mask; and docs/reliability.png, what a score means.

python docs/change.py [--pairs DIR] [--results FILE] [--tag WORD] [--output DIR]

DIR holds a folder for each pair, with before and after or t1 and t2 in it. FILE is what benchmarks/change.py wrote.
"""

import argparse
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from rsseg_cli import detect_change, open_scene

HERE = Path(__file__).parent
NAMES = (("before", "after"), ("t1", "t2"))
HEADS = ("before", "after", "score", "mask")
SIDE_PX, GAP_PX, HEAD_PX = 256, 6, 22
DARK_AND_BRIGHT = (2, 98)  # percentiles
CHANGED, NOTHING = (178, 24, 43), (255, 255, 255)
SCORES = (0.0, 0.3, 0.5, 0.6, 1.0)  # where the score has these colours
COLORS = ((247, 247, 247), (247, 247, 247), (253, 219, 120), (214, 96, 77), (103, 0, 31))
METHODS = ("metric-cd", "classical")  # the first that the results hold is drawn
LINES = ((33, 102, 172), (67, 147, 195), (90, 174, 97), (217, 164, 6), (214, 96, 77), (103, 0, 31))
PLOT_PX, MARGIN_PX = 340, 48
FINER = 3  # drawn so many times larger first, for smooth lines
LEAST_PIXELS = 300  # of a bin, to be drawn
Pixels = NDArray[np.uint8]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, default=HERE.parent / "sample_scenes")
    parser.add_argument("--results", type=Path, default=HERE.parent / "benchmarks" / "results" / "change.jsonl")
    parser.add_argument("--tag", help="of the runs in the results; default: the last of each")
    parser.add_argument("--output", type=Path, default=HERE)
    options = parser.parse_args()
    save(sheet(options.pairs), options.output / "change.png")
    save(reliability(options.results, options.tag), options.output / "reliability.png")


def save(picture: Image.Image, path: Path) -> None:
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def sheet(folder: Path) -> Image.Image:
    """A row for each pair."""
    rows = [row(before, after) for before, after in pairs_in(folder)]
    width = len(HEADS) * (SIDE_PX + GAP_PX) - GAP_PX
    picture = Image.new("RGB", (width, HEAD_PX + sum(each.height + GAP_PX for each in rows) - GAP_PX), "white")
    draw = ImageDraw.Draw(picture)
    for number, head in enumerate(HEADS):
        draw.text((number * (SIDE_PX + GAP_PX), 2), head, "black", ImageFont.load_default(15))
    top = HEAD_PX
    for each in rows:
        picture.paste(each, (0, top))
        top += each.height + GAP_PX
    return picture


def pairs_in(folder: Path) -> Iterator[tuple[Path, Path]]:
    for first, second in NAMES:
        for before in sorted(folder.glob(f"*/{first}.*")):
            for after in before.parent.glob(f"{second}.*"):
                yield before, after


def row(before: Path, after: Path) -> Image.Image:
    mask = detect_change(before, after)
    score = mask.coords["score"].to_numpy()
    panels = [in_color(before), in_color(after), of_score(score), of_mask(mask.to_numpy())]
    height = max(1, round(SIDE_PX * score.shape[0] / score.shape[1]))
    picture = Image.new("RGB", (len(panels) * (SIDE_PX + GAP_PX) - GAP_PX, height), "white")
    for number, panel in enumerate(panels):
        drawn = Image.fromarray(panel).resize((SIDE_PX, height), Image.Resampling.LANCZOS)
        picture.paste(drawn, (number * (SIDE_PX + GAP_PX), 0))
    return picture


def in_color(path: Path) -> Pixels:
    """Red, green and blue where bands are called so, the first band else; each from its dark to its bright."""
    image = open_scene(str(path)).read()
    names = [str(name).casefold() for name in image.band.to_numpy()]
    wanted = ("red", "green", "blue")
    bands = image.to_numpy()[[names.index(name) for name in wanted] if set(wanted) <= set(names) else [0, 0, 0]]
    low, high = np.nanpercentile(bands, DARK_AND_BRIGHT, axis=(1, 2))[:, :, np.newaxis, np.newaxis]
    shown = ((bands - low) / np.maximum(high - low, 1e-9)).clip(0, 1) * 255
    return np.where(np.isfinite(shown), shown, 255).astype(np.uint8).transpose(1, 2, 0)


def of_score(score: NDArray[np.float32]) -> Pixels:
    colors = np.stack([np.interp(score, SCORES, channel) for channel in zip(*COLORS, strict=True)], axis=-1)
    return np.where(np.isfinite(score)[..., np.newaxis], colors, 255).astype(np.uint8)


def of_mask(mask: Pixels) -> Pixels:
    colors = np.array([COLORS[0], CHANGED, NOTHING], np.uint8)
    return colors[np.where(mask > 1, 2, mask)]


def reliability(results: Path, tag: str | None) -> Image.Image:
    """Of pixels with a score, the part that has changed; a line for each share of the ground that changed."""
    method, lines = simulations(results, tag)
    whole = (MARGIN_PX * 2 + PLOT_PX) * FINER
    picture = Image.new("RGB", (whole, whole), "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(13 * FINER)
    for tenth in range(0, 11, 2):
        text = f"{tenth / 10:g}"
        draw.line([at(tenth / 10, 0), at(tenth / 10, 1)], fill="#dddddd", width=FINER)
        draw.line([at(0, tenth / 10), at(1, tenth / 10)], fill="#dddddd", width=FINER)
        draw.text(at(tenth / 10, -0.02), text, "black", font, anchor="ma")
        draw.text(at(-0.02, tenth / 10), text, "black", font, anchor="rm")
    draw.line([at(0, 0), at(1, 1)], fill="#888888", width=FINER)
    draw.text(at(0.5, -0.08), "score", "black", font, anchor="ma")
    draw.text(at(0, 1.03), f"share of pixels that changed ({method})", "black", font, anchor="ls")
    for number, (share, color) in enumerate(zip(sorted(lines), LINES, strict=False)):
        draw.line([at(*point) for point in observed(lines[share])], fill=color, width=2 * FINER, joint="curve")
        text = f"{share:.1%} of the ground" if share < 0.01 else f"{share:.0%}"
        draw.text(at(0.04, 0.95 - 0.06 * number), text, color, font, anchor="lm")
    return picture.resize((whole // FINER, whole // FINER), Image.Resampling.LANCZOS)


def at(score: float, share: float) -> tuple[float, float]:
    return (MARGIN_PX + score * PLOT_PX) * FINER, (MARGIN_PX + (1 - share) * PLOT_PX) * FINER


def simulations(results: Path, tag: str | None) -> tuple[str, dict[float, list[dict[str, Any]]]]:
    """(the method, its last run of each simulation, by the share of the ground that changed)."""
    known = [json.loads(text) for text in results.read_text().splitlines()]
    known = [line for line in known if line["part"] == "simulated" and not line["args"] and "failed" not in line]
    known = [line for line in known if tag in (None, line["tag"])]
    method = next(name for name in METHODS if any(line["method"] == name for line in known))
    last = {(line["pair"], line["seed"]): line for line in known if line["method"] == method}
    by_share: dict[float, list[dict[str, Any]]] = {}
    for line in last.values():
        by_share.setdefault(line["wanted_share"], []).append(line)
    return method, by_share


def observed(lines: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """(score, share of pixels that changed) of bins of the score."""
    pixels, changed = (np.sum([line[name] for line in lines], axis=0) for name in ("bin_pixels", "bin_changed"))
    middles = (np.arange(len(pixels)) + 0.5) / len(pixels)
    return [(middles[each], changed[each] / pixels[each]) for each in np.flatnonzero(pixels >= LEAST_PIXELS)]


if __name__ == "__main__":
    warnings.filterwarnings("ignore", "Dataset has no geotransform")
    main()
