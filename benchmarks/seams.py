"""Do tiles show? Labels from tiles beside labels from one pass over the whole scene, with trained models.

    python benchmarks/seams.py [--encoder mit-b0 --encoder tiny] [--steps 400] [--scenes 6]

A model is trained on the sample source with `rsseg adapt`, then fresh ground is drawn in 1,024 x 1,024 px scenes and
mapped twice by `rsseg segment`: with its default tiles, and in a single tile. The seam ratio is how much likelier a
label changes across the lines where tiles begin and end than elsewhere; its floor is the same ratio on the same lines
in the map of the single tile, which knows no lines.
"""

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from rsseg_cli.job import Settings
from rsseg_cli.samples.folder import write_image
from rsseg_cli.samples.scenes import SCENES_PER_DOMAIN, SOURCE, draw_scene
from rsseg_cli.tiling import Side, Tiling

SOURCE_FOLDER = Path(__file__).parents[1] / "sample_scenes" / "source"
SIZE = 1024
SEED = 77  # not that of the sample scenes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", action="append", help="default: mit-b0 and tiny")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--scenes", type=int, default=6)
    parser.add_argument("--tile-px", type=int, default=Settings.tile_px)
    parser.add_argument("--overlap-px", type=int, help="default: what suits the encoder")
    parser.add_argument("--folder", type=Path, help="keep models and maps here, and use models that are there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        scenes = [draw(folder, number) for number in range(options.scenes)]
        print(f"{options.scenes} scenes of {SIZE} x {SIZE} px")
        print("| encoder | tiles, overlap | labels that agree | seam ratio | its floor | ratio / floor |")
        print("|---|---|---|---|---|---|")
        for encoder in options.encoder or ["mit-b0", "tiny"]:
            tiling = Tiling.of(encoder, "cpu", options.tile_px, options.overlap_px)
            print(row_of(encoder, train(folder, encoder, options.steps), scenes, tiling), flush=True)


def draw(folder: Path, number: int) -> Path:
    path = folder / f"ground_{number}.tif"
    if not path.exists():
        seed, place = divmod(number, SCENES_PER_DOMAIN)
        write_image(path, draw_scene(SOURCE, place + 1, SIZE, SEED + seed))
    return path


def train(folder: Path, encoder: str, steps: int) -> Path:
    model = folder / f"{encoder}.safetensors"
    if not model.exists():
        call("adapt", "--source", SOURCE_FOLDER, "--encoder", encoder, "--steps", steps, "-o", model)
    return model


def row_of(encoder: str, model: Path, scenes: list[Path], tiling: Tiling) -> str:
    tiled, whole = Changes(), Changes()
    agreed = []
    for scene in scenes:
        ours = labels(scene, model, tiling)
        theirs = labels(scene, model, Tiling(SIZE, 0, 1))
        agreed.append(float(np.mean(ours == theirs)))
        tiled.add(ours, tiling)
        whole.add(theirs, tiling)
    ratio, floor = tiled.ratio, whole.ratio
    cut = f"{tiling.tile_px}, {tiling.overlap_px}"
    return f"| {encoder} | {cut} | {np.mean(agreed):.2%} | {ratio:.3f} | {floor:.3f} | {ratio / floor:.3f} |"


def labels(scene: Path, model: Path, tiling: Tiling) -> np.ndarray[Any, Any]:
    out = scene.with_name(f"{scene.stem}_{model.stem}_{tiling.tile_px}.tif")
    call(
        "segment", scene, "--model", model, "-o", out, "--overwrite",
        "--tile-px", tiling.tile_px, "--overlap-px", tiling.overlap_px, "--batch", tiling.batch,
    )  # fmt: skip
    with rasterio.open(out) as dataset:
        ids: np.ndarray[Any, Any] = dataset.read(1)
    return ids


def call(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "rsseg_cli", *map(str, words), "--quiet"], check=True, stdout=sys.stderr)


@dataclass
class Changes:
    """How often neighbouring labels differ, on the lines of the tiles and elsewhere."""

    on: list[float] = field(default_factory=list)
    off: list[float] = field(default_factory=list)

    def add(self, ids: np.ndarray[Any, Any], tiling: Tiling) -> None:
        side = Side.of(SIZE, tiling)
        begins = [number * side.stride_px for number in range(1, side.count)]
        ends = [begin + side.overlap_px for begin in begins]
        lines = np.zeros(SIZE - 1, bool)
        lines[[at - 1 for at in (*begins, *ends)]] = True
        for changed in ((ids[:, 1:] != ids[:, :-1]).mean(axis=0), (ids[1:] != ids[:-1]).mean(axis=1)):
            self.on.append(float(changed[lines].mean()))
            self.off.append(float(changed[~lines].mean()))

    @property
    def ratio(self) -> float:
        return float(np.mean(self.on) / np.mean(self.off))


if __name__ == "__main__":
    main()
