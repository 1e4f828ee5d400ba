"""rsseg adapt as an analyst calls it: what it prints, and what it refuses before any work."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.shutil import copy
from safetensors.numpy import save_file
from shapely.geometry import box

from rsseg_cli.model_file import read_card
from rsseg_cli.plan import lines_of

SCENES = Path(__file__).parents[2] / "sample_scenes"
SOURCE = SCENES / "source"
A, B = "a.safetensors", "b.safetensors"
QUICK = ("--crop-px", "64", "--batch", "2")
IMAGE = np.random.default_rng(0).integers(1, 255, (3, 90, 100), dtype=np.uint8)
HALVES = np.tile(np.repeat(np.array([0, 1], np.uint8), 50), (90, 1))

Refused = Callable[..., tuple[str, str]]


@pytest.fixture
def refused(tmp_path: Path) -> Refused:
    """Runs the command, which must end with 1 and write nothing; gives problem and hint."""

    def run(*arguments: object, with_torch: bool = False) -> tuple[str, str]:
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        ended = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "rsseg_cli", "adapt", *map(str, arguments)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        lines = ended.stderr.splitlines()
        said = [line for line in lines if not line.startswith("import time:")]
        assert (ended.returncode, ended.stdout) == (1, ""), said
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
        assert ("torch" in imported) == with_torch
        problem, hint = said[-2:]
        return problem.removeprefix("error: "), hint.removeprefix("hint:  ").removeprefix("hint: ")

    return run


@pytest.fixture
def small(make_raster) -> str:
    """A small source of two classes, one dark and one bright."""
    make_raster("s/a.tif", IMAGE // 4 + 100 * HALVES, photometric="rgb")
    make_raster("s/a_labels.tif", HALVES)
    return "s"


def polygons(path: Path, *places: tuple[str, float]) -> Path:
    """Squares of 10 m, 15 m from the upper edge of what `make_raster` draws; (class, metres from the left)."""
    squares = [box(500_000 + x, 4_999_975, 500_010 + x, 4_999_985) for _, x in places]
    frame = geopandas.GeoDataFrame({"class": [name for name, _ in places]}, geometry=squares, crs=32633)
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_file(path)
    return path


def test_a_source_without_labels(refused: Refused, make_raster, tmp_path: Path) -> None:
    make_raster("s/a.tif", IMAGE)
    problem, hint = refused("--source", "s")
    assert problem == "s: holds 1 images and no labels for them"
    assert "--labels FILE" in hint


def test_a_folder_that_is_not_there(refused: Refused) -> None:
    assert refused("--source", "none")[0] == "none: no such file"


def test_labels_elsewhere(refused: Refused, make_raster, tmp_path: Path) -> None:
    make_raster("s/a.tif", IMAGE)
    polygons(tmp_path / "s" / "a_labels.gpkg", ("tree", 9000), ("road", 9020))
    problem, hint = refused("--source", "s")
    assert "none of its 2 polygons touches the raster" in problem
    assert "rsseg info" in hint
    make_raster("t/a.tif", IMAGE)
    away = make_raster("t/a_labels.tif", HALVES)
    with rasterio.open(away, "r+") as labels:
        labels.transform = labels.transform @ Affine.translation(9000, 0)
    assert "shares no ground" in refused("--source", "t")[0]


def test_ids_that_are_no_class(refused: Refused, make_raster, tmp_path: Path) -> None:
    make_raster("s/a.tif", IMAGE)
    make_raster("s/a_labels.tif", HALVES * 7)
    (tmp_path / "c.csv").write_text("value,name\n0,land\n1,water\n")
    problem, hint = refused("--source", "s", "--classes", "c.csv")
    assert "holds values that are no class: 7 (4500 pixels)" in problem
    assert "--classes" in hint
    polygons(tmp_path / "p" / "a_labels.gpkg", ("land", 5), ("swamp", 20))
    make_raster("p/a.tif", IMAGE)
    assert "classes that are not in the scheme: swamp" in refused("--source", "p", "--classes", "c.csv")[0]


def test_one_class_alone(refused: Refused, make_raster, tmp_path: Path) -> None:
    make_raster("s/a.tif", IMAGE)
    polygons(tmp_path / "s" / "a_labels.gpkg", ("field", 5), ("field", 20))
    problem, hint = refused("--source", "s")
    assert "all that is labelled is field" in problem
    assert "--background" in hint


def test_bands_that_do_not_fit(refused: Refused, make_raster) -> None:
    make_raster("s/a.tif", IMAGE, photometric="rgb")
    make_raster("s/a_labels.tif", HALVES)
    make_raster("t/b.tif", np.r_[IMAGE, IMAGE, IMAGE], photometric="minisblack")
    problem, hint = refused("--source", "s", "--target", "t")
    assert problem.endswith("b.tif has 9 bands: 1, 2, 3, 4, 5, 6, 7, 8, 9; s/a.tif has 3: red, green, blue")
    assert hint == "say which are which: --target-bands red=1,green=2,blue=3"
    assert "has no band 'nir'" in refused("--source", "s", "--source-bands", "nir")[0]


def test_outputs_that_cannot_be(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "there.safetensors").touch()
    for output, match in (
        ("there.safetensors", "exists already"),
        ("no/folder/m.safetensors", "there is no folder"),
        ("m.tif", "models are .safetensors files"),
    ):
        # The source is not even looked for.
        assert match in refused("--source", "none", "-o", output)[0]


def test_a_folder_that_may_not_be_written(refused: Refused, tmp_path: Path, disk) -> None:
    folder = tmp_path / "locked"
    if os.geteuid() == 0:  # whom permissions do not bind; a disk does
        folder = disk(64)
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    else:
        folder.mkdir(mode=0o500)
    assert "no right to write into" in refused("--source", "none", "-o", folder / "m.safetensors")[0]
    assert "no right to write into" in refused("--source", "none", "--workdir", folder / "w")[0]


def test_workdirs_that_cannot_be(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "is no folder" in refused("--source", "none", "--workdir", "file")[0]
    assert "is no folder" in refused("--source", "none", "--workdir", "file/w")[0]
    assert "--resume needs the --workdir" in refused("--source", "none", "--resume")[0]


def test_weights_and_encoders_that_are_not_there(refused: Refused, tmp_path: Path) -> None:
    assert refused("--source", "none", "--encoder-weights", "w/x.npz")[0] == "w/x.npz: no such file or folder"
    problem, hint = refused("--source", SOURCE, "--encoder", "resnet50", with_torch=True)
    assert problem == "there is no encoder 'resnet50'"
    assert "tiny, mobilenet-v2, mit-b0" in hint
    save_file({"conv1.weight": np.zeros((8, 3, 3, 3), np.float32)}, tmp_path / "other.safetensors")
    weights = ("--encoder", "mobilenet-v2", "--encoder-weights", "other.safetensors")
    assert refused("--source", SOURCE, *weights, with_torch=True)[0] == (
        "other.safetensors: these weights are no MobileNetV2"
    )


def test_models_to_start_from_that_do_not_fit(refused: Refused, rsseg, small: str, tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("no model")
    for model in ("text.safetensors", "none.safetensors"):
        assert refused("--source", "none", "--init", model)[0].startswith(f"{model}: ")
    assert "--init and --encoder-weights" in refused("--source", "s", "--init", "m", "--encoder-weights", "w")[0]
    assert rsseg("adapt", "--source", small, *QUICK, "--steps", "1", "-o", A).returncode == 0
    problem, hint = refused("--source", "none", "--init", A, "--encoder", "mit-b0", "-o", B)
    assert problem == f"{A}: has the encoder tiny, and --encoder says mit-b0"
    assert "leave --encoder away" in hint
    problem, hint = refused("--source", small, "--source-bands", "red,green", "--init", A, "-o", B)
    assert problem == f"s/a.tif has 2 bands: red, green; {A} has 3: red, green, blue"
    assert hint == "take the bands both have: --source-bands red,green"
    assert "is also an input" in refused("--source", small, "--init", A, "-o", A, "--overwrite")[0]


def test_settings_that_are_none(refused: Refused, tmp_path: Path) -> None:
    problem, hint = refused("--source", SOURCE, "--set", "speed=1", with_torch=True)
    assert problem == "there is no such setting: speed"
    assert "learning_rate" in hint
    assert "crop_px" in hint
    (tmp_path / "s.toml").write_text("[training]\nsteps = 3\n")
    assert refused("--source", SOURCE, "--settings", "s.toml", with_torch=True)[0].endswith("setting: training.steps")
    of_source = ("--set", "source.steps=3")  # without a target there is one stage alone
    assert refused("--source", SOURCE, *of_source, with_torch=True)[0] == "there is no such setting: source.steps"
    assert refused("--source", "none", "--settings", "none.toml")[0] == "none.toml: no such file"
    assert refused("--source", "none", "--set", "batch=0")[0].startswith("batch = 0: out of range")
    assert refused("--source", "none", "--set", "steps=0")[0].startswith("steps = 0: out of range")
    assert refused("--source", "none", "--set", "steps=many")[0] == "steps = many: not a whole number"


def test_a_crop_larger_than_every_scene_is_noted(rsseg, small: str) -> None:
    ended = rsseg("adapt", "--source", small, "--crop-px", "256", "--batch", "1", "--steps", "1")
    assert ended.returncode == 0, ended.stderr
    assert "no scene is as large as a crop of 256 pixels" in ended.stderr
    assert "--crop-px 128 is enough" in ended.stderr


def test_a_dry_run_says_what_was_found_and_what_it_takes(rsseg, tmp_path: Path) -> None:
    target, image = tmp_path / "target", str(SCENES / "target" / "karst_2.tif")
    target.mkdir()
    copy(image, target / "karst_2.vrt", driver="VRT")
    call = ("adapt", "--source", SOURCE, "--target", target, *QUICK, "--steps", "40", "--dry-run", "--json")
    ended = rsseg(*call)
    assert ended.returncode == 0, ended.stderr
    assert list(tmp_path.iterdir()) == [target]
    found = json.loads(ended.stdout)
    assert len(found["source"]) == 3
    assert [scene["lists"] for scene in found["target"]] == [[image]]
    assert found["source"][0]["width"] == 256
    assert set(found["classes"]) == {"road", "building", "tree", "grass", "water", "bare ground"}
    for counts in found["classes"].values():
        assert counts["training_pixels"] > counts["held_back_pixels"] > 0
    assert found["normalisation"]["model"]["none"] == found["normalisation"]["source"]
    assert found["normalisation"]["model"]["coral"] != found["normalisation"]["source"]
    assert found["architecture"]["head"] == "all-mlp"
    assert found["stages"] == [{"method": "source-only", "steps": 1200}, {"method": "self-training", "steps": 40}]
    assert (found["settings"]["steps"], found["settings"]["source.steps"], found["steps"]) == (40, 1200, 1240)
    assert found["expected_seconds"] > 0
    shown = "\n".join(lines_of(found))
    for part in (
        "source    3 scenes",
        "meadow_3.tif: 256 x 256 pixels of 0.5 m, labels meadow_3_labels.gpkg",
        "target    1 scene\n",
        f"karst_2.vrt: 256 x 256 pixels of 0.8 m\n    lists {image}\n",
        "encoder tiny, head all-mlp, 0.48 million parameters",
        "red, green, blue, nir; robust normalisation",
        "pixels    of 0.5 m; the source shows no finer detail than pixels of 0.8 m do",
        "for 1200 + 40 steps on cpu",
        "  steps = 40\n  batch = 2\n  crop_px = 64\n",
    ):
        assert part in shown


def test_settings_are_fed_back(rsseg, small: str, tmp_path: Path) -> None:
    first = rsseg("adapt", "--source", small, *QUICK, "--steps", "2", "--set", "clip=0.5", "-o", A, "--json")
    assert first.returncode == 0, first.stderr
    (tmp_path / "run.json").write_text(first.stdout)
    again = rsseg("adapt", "--source", small, "--settings", "run.json", "-o", B, "--json")
    found, same = json.loads(first.stdout), json.loads(again.stdout)
    assert (found["settings"]["clip"], found["settings"]["batch"]) == (0.5, 2)
    assert same["settings"] == found["settings"]
    cards = [read_card(tmp_path / name) for name in (A, B)]
    assert cards[0]["digest"] == cards[1]["digest"]
    assert cards[0]["settings"] == found["settings"]


def test_minutes_decide_how_many_steps(rsseg, small: str) -> None:
    ended = rsseg("adapt", "--source", small, *QUICK, "--minutes", "10", "--steps", "3", "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["steps"] == 3
    assert "note: 3 steps in 10 minutes" in ended.stderr


def test_uper_leaves_its_second_head_behind(rsseg, small: str, tmp_path: Path) -> None:
    ended = rsseg("adapt", "--source", small, *QUICK, "--head", "uper", "--steps", "2", "-o", A)
    assert ended.returncode == 0, ended.stderr
    mapped = rsseg("segment", "s/a.tif", "--model", A)
    assert mapped.returncode == 0, mapped.stderr
    card = read_card(tmp_path / A)
    assert card["architecture"]["head"] == "uper"
    assert card["settings"]["auxiliary"] == 0.4


def test_ktda_without_a_teacher_says_what_to_fetch(refused: Refused) -> None:
    problem, hint = refused("--source", "none", "--method", "ktda")
    assert problem == "ktda learns from a teacher, a vision transformer, and none is named"
    assert "hf download facebook/dinov2-small" in hint
    assert "--teacher none" in hint
    assert refused("--source", "none", "--method", "ktda", "--teacher", "no/such/dir")[0].endswith("no such folder")
    assert refused("--source", "none", "--teacher", "none")[0] == "--method source-only has no teacher"


def test_ktda_learns_without_a_target_and_maps(rsseg, small: str, tmp_path: Path) -> None:
    ended = rsseg("adapt", "--source", small, "--method", "ktda", "--teacher", "none", *QUICK, "--steps", "2", "-o", A)
    assert ended.returncode == 0, ended.stderr
    mapped = rsseg("segment", "s/a.tif", "--model", A)
    assert mapped.returncode == 0, mapped.stderr
    assert read_card(tmp_path / A)["method"] == "ktda"
