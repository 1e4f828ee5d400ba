"""rsseg adapt and rsseg segment, end to end on the sample scenes, with a model too young to be good."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio

SCENES = Path(__file__).parents[2] / "sample_scenes"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "young.safetensors"
    call = ["adapt", "--source", SCENES / "source", "--steps", "12", "--batch", "2", "--crop-px", "64", "-o", path]
    ended = subprocess.run(
        [sys.executable, "-m", "rsseg_cli", *call, "--json"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["classes"] == ["road", "building", "tree", "grass", "water", "bare ground"]
    assert (found["bands"], found["gsd_m"], found["steps"]) == (["red", "green", "blue", "nir"], 0.5, 12)
    assert 0 < found["source_validation_miou"] < 1
    return path


def test_maps_lie_on_the_grid_of_their_scene(rsseg, model: Path, tmp_path: Path) -> None:
    ended = rsseg("segment", SCENES / "target", "--model", model, "-o", "maps", "--json")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert len(found["outputs"]) == 3
    for entry in found["outputs"]:
        with rasterio.open(entry["scene"]) as scene, rasterio.open(tmp_path / entry["labels"]) as labels:
            assert (labels.crs, labels.transform, labels.shape) == (scene.crs, scene.transform, scene.shape)
            assert labels.nodata == 255
            assert labels.tags()["RSSEG_METHOD"] == "source-only"
            counts = np.bincount(labels.read(1).ravel(), minlength=256)
        pixels = [c["pixels"] for c in entry["classes"].values()]
        assert pixels == counts[:6].tolist()
        assert sum(pixels) == 256 * 256
        assert sum(c["area_m2"] for c in entry["classes"].values()) == pytest.approx(256 * 256 * 0.64)


def test_probabilities_and_confidence_belong_to_the_labels(rsseg, model: Path, tmp_path: Path) -> None:
    scene = SCENES / "target" / "karst_1.tif"
    ended = rsseg(
        "segment", scene, "--model", model, "-o", "l.tif", "--probabilities", "p.tif", "--confidence", "c.tif"
    )
    assert ended.stdout.split() == ["l.tif", "p.tif", "c.tif"]
    with (
        rasterio.open(tmp_path / "p.tif") as p,
        rasterio.open(tmp_path / "c.tif") as c,
        rasterio.open(tmp_path / "l.tif") as labels,
    ):
        assert p.descriptions == ("road", "building", "tree", "grass", "water", "bare ground")
        shares = p.read() * p.scales[0]
        np.testing.assert_allclose(shares.sum(axis=0), 1, atol=0.02)
        np.testing.assert_array_equal(c.read(1), p.read().max(axis=0))
        chosen = np.take_along_axis(p.read(), labels.read(1)[np.newaxis].astype(int), axis=0)[0]
        np.testing.assert_array_equal(chosen, p.read().max(axis=0))


def test_nodata_stays_nodata_and_an_empty_scene_says_so(rsseg, model: Path, make_raster, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(1, 255, (4, 100, 90), dtype=np.uint8)
    values[:, :, :30] = 0
    path = make_raster("holes.tif", values, nodata=0, photometric="minisblack", alpha="unspecified")
    rsseg("segment", path, "--model", model, "-o", "holes_map.tif")
    with rasterio.open(tmp_path / "holes_map.tif") as labels:
        np.testing.assert_array_equal(labels.read(1) == 255, (values == 0).all(axis=0))
    empty = make_raster("empty.tif", np.zeros_like(values), nodata=0, photometric="minisblack", alpha="unspecified")
    ended = rsseg("segment", empty, "--model", model, "-o", "empty_map.tif")
    assert ended.returncode == 0
    assert "nothing but nodata" in ended.stderr
    with rasterio.open(tmp_path / "empty_map.tif") as labels:
        assert (labels.read(1) == 255).all()


def test_one_bad_scene_of_many(rsseg, model: Path, make_raster, tmp_path: Path) -> None:
    bad = make_raster("bad.tif", np.ones((3, 50, 50), np.uint8))
    good = SCENES / "target" / "karst_1.tif"
    stopped = rsseg("segment", bad, good, "--model", model, "-o", "m")
    assert (stopped.returncode, list((tmp_path / "m").glob("*.tif"))) == (1, [])
    ended = rsseg("segment", bad, good, "--model", model, "-o", "m", "--keep-going")
    assert ended.returncode == 1
    assert [p.name for p in (tmp_path / "m").glob("*.tif")] == ["karst_1_labels.tif"]
    assert "bad.tif has 3 bands" in ended.stderr
    assert "hint: map scenes that have these bands" in ended.stderr
    assert rsseg("segment", good, "--model", model, "--precision", "float99").returncode == 2


def test_a_model_is_described(rsseg, model: Path) -> None:
    (card,) = json.loads(rsseg("info", model, "--json").stdout)["files"]
    assert (card["kind"], card["method"], card["architecture"]["encoder"]) == ("model", "source-only", "tiny")
    said = rsseg("info", model).stdout
    for word in ("source-only", "tiny", "bare ground", "red, green, blue, nir", "0.5 m"):
        assert word in said


@pytest.fixture
def larger(tmp_path: Path, make_raster) -> Path:
    values = np.random.default_rng(3).integers(1, 255, (4, 700, 500), dtype=np.uint8)
    return make_raster("larger.tif", values, photometric="minisblack", alpha="unspecified")


TILES = ("--tile-px", "192", "--overlap-px", "32", "--precision", "float32")


def test_killed_and_resumed_gives_the_same_bytes_of_labels(rsseg, model: Path, larger: Path, tmp_path: Path) -> None:
    assert rsseg("segment", larger, "--model", model, "-o", "whole.tif", *TILES).returncode == 0
    for rows in (1, 3):
        call = [sys.executable, "-m", "rsseg_cli", "segment", larger, "--model", model, "-o", f"k{rows}.tif", *TILES]
        process = subprocess.Popen([str(word) for word in call], cwd=tmp_path, stderr=subprocess.DEVNULL)
        journal = tmp_path / f".k{rows}.tif.rsseg-rows"
        while not (journal / f"row{rows - 1}.npz").exists() and process.poll() is None:
            time.sleep(0.002)
        process.kill()
        process.wait()
        if (tmp_path / f"k{rows}.tif").exists():
            continue  # it was done before the kill
        ended = rsseg("segment", larger, "--model", model, "-o", f"k{rows}.tif", *TILES, "--resume")
        assert ended.returncode == 0, ended.stderr
        assert "going on from row" in ended.stderr
        assert not journal.exists()
        with rasterio.open(tmp_path / "whole.tif") as one, rasterio.open(tmp_path / f"k{rows}.tif") as other:
            np.testing.assert_array_equal(one.read(), other.read())


def test_a_run_with_other_settings_cannot_go_on(rsseg, model: Path, larger: Path, tmp_path: Path) -> None:
    journal = tmp_path / ".m.tif.rsseg-rows"
    journal.mkdir()
    (journal / "run.json").write_text('{"model": "another"}')
    ended = rsseg("segment", larger, "--model", model, "-o", "m.tif", *TILES, "--resume")
    assert ended.returncode == 1
    assert "differs in" in ended.stderr
    assert "model" in ended.stderr
    assert rsseg("segment", larger, "--model", model, "-o", "m.tif", *TILES).returncode == 0
    assert not journal.exists()
