"""rsseg adapt and rsseg segment, end to end on the sample scenes, with a model too young to be good."""

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

HALF_METRE = Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)
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
    values = np.random.default_rng(3).integers(1, 255, (4, 1600, 200), dtype=np.uint8)
    return make_raster("larger.tif", values, photometric="minisblack", alpha="unspecified")


TILES = ("--tile-px", "128", "--overlap-px", "32", "--precision", "float32")


def test_killed_five_times_and_resumed_gives_the_same_pixels(rsseg, model: Path, larger: Path, tmp_path: Path) -> None:
    # One thread: several that wait for each other on a busy machine take many times as long.
    call, one_thread = ("segment", larger, "--model", model, *TILES), {"OMP_NUM_THREADS": "1"}
    assert rsseg(*call, "-o", "whole.tif", **one_thread).returncode == 0
    journal = tmp_path / ".m.tif.rsseg-rows"
    rng = np.random.default_rng(11)
    for _ in range(5):
        finished = len(list(journal.glob("row*[0-9].gz")))
        words = [sys.executable, "-m", "rsseg_cli", *map(str, call), "-o", "m.tif", "--resume"]
        process = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL, env={**os.environ, **one_thread})
        while not (journal / f"row{finished}.gz").exists() and process.poll() is None:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        assert process.wait() == -9
    ended = rsseg(*call, "-o", "m.tif", "--resume", **one_thread)
    assert ended.returncode == 0, ended.stderr
    assert "going on from row" in ended.stderr
    with rasterio.open(tmp_path / "whole.tif") as one, rasterio.open(tmp_path / "m.tif") as other:
        np.testing.assert_array_equal(one.read(), other.read())
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_run_with_other_settings_cannot_go_on(rsseg, model: Path, tmp_path: Path) -> None:
    scene = SCENES / "target" / "karst_1.tif"
    journal = tmp_path / ".m.tif.rsseg-rows"
    journal.mkdir()
    (journal / "run.json").write_text('{"model": "another"}')
    ended = rsseg("segment", scene, "--model", model, "-o", "m.tif", "--resume")
    assert ended.returncode == 1
    assert "the run to go on with differs: " in ended.stderr
    assert "model" in ended.stderr
    assert rsseg("segment", scene, "--model", model, "-o", "m.tif").returncode == 0
    assert not journal.exists()


def test_a_mosaic_is_one_scene_with_one_name(rsseg, model: Path, tmp_path: Path, make_raster) -> None:
    values = np.random.default_rng(4).integers(1, 255, (4, 90, 160), dtype=np.uint8)
    plain = {"photometric": "minisblack", "alpha": "unspecified"}
    whole = make_raster("whole.tif", values, **plain)
    make_raster("parts/a.tif", values[:, :, :100], **plain)
    make_raster("parts/b.tif", values[:, :, 100:], transform=HALF_METRE @ Affine.translation(100, 0), **plain)
    assert rsseg("segment", whole, "--model", model).stdout == "whole_labels.tif\n"
    for scenes, options, name in (
        (["parts"], [], "a_mosaic_labels.tif"),
        (["parts/a.tif", "parts/b.tif"], ["-o", "maps"], "maps/a_mosaic_labels.tif"),
        (["parts/*.tif"], ["-o", "m.tif", "--confidence", "c.tif"], "m.tif"),
    ):
        ended = rsseg("segment", *scenes, "--mosaic", "--model", model, *options)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.splitlines()[0] == name
        with rasterio.open(tmp_path / "whole_labels.tif") as one, rasterio.open(tmp_path / name) as other:
            assert other.transform == one.transform
            np.testing.assert_array_equal(other.read(), one.read())


def test_an_area_of_a_scene(rsseg, model: Path, tmp_path: Path) -> None:
    scene = SCENES / "target" / "karst_1.tif"
    with rasterio.open(scene) as opened:
        west, _, _, north = opened.bounds
        disc = shapely.Point(west + 100, north - 80).buffer(40)
        geopandas.GeoDataFrame(geometry=[disc], crs=opened.crs).to_crs(4326).to_file(tmp_path / "park.geojson")
    options = ("--model", model, "--aoi", "park.geojson", "--probabilities", "p.tif", "--tta", "--json")
    ended = rsseg("segment", scene, "-o", "m.tif", *options)
    assert ended.returncode == 0, ended.stderr
    (entry,) = json.loads(ended.stdout)["outputs"]
    assert sum(c["area_m2"] for c in entry["classes"].values()) == pytest.approx(np.pi * 40**2, rel=0.02)
    with rasterio.open(tmp_path / "m.tif") as labels, rasterio.open(tmp_path / "p.tif") as shares:
        assert (labels.height, labels.width, labels.transform) == (101, 101, shares.transform)
        assert (labels.transform.c, labels.transform.f) == pytest.approx((west + 60, north - 40), abs=0.8)
        outside = labels.read(1) == 255
        assert outside.mean() == pytest.approx(1 - np.pi / 4, abs=0.02)
        assert ((shares.read() == 255) == outside).all()
    refused = rsseg("segment", SCENES / "source" / "meadow_1.tif", "-o", "far.tif", *options[:4])
    assert refused.returncode == 1
    assert "none of its 1 polygons touches" in refused.stderr


def left(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*"))


def test_models_that_are_none_are_refused(rsseg, model: Path, tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("a model, honestly")
    (tmp_path / "cut.safetensors").write_bytes(model.read_bytes()[:-1000])
    (tmp_path / "pickle.safetensors").write_bytes(pickle.dumps({"weights": print}))
    before = left(tmp_path)
    for name in ("text", "cut", "pickle"):
        ended = rsseg("segment", SCENES / "target", "--model", f"{name}.safetensors", "-o", "maps", "--json")
        assert ended.returncode == 1
        error = json.loads(ended.stdout)["error"]
        assert (error["file"], "is no rsseg model, or is damaged" in error["problem"]) == (f"{name}.safetensors", True)
    assert left(tmp_path) == before


def test_a_model_that_needs_more_bands(rsseg, model: Path, make_raster, tmp_path: Path) -> None:
    scene = make_raster("rgb.tif", np.ones((3, 50, 50), np.uint8))
    ended = rsseg("segment", scene, "--model", model, "-o", "maps")
    assert ended.returncode == 1
    assert "rgb.tif has 3 bands: red, green, blue; the model needs 4: red, green, blue, nir" in ended.stderr
    assert left(tmp_path) == ["rgb.tif"]


def test_a_folder_that_may_not_be_written(rsseg, model: Path, tmp_path: Path, disk) -> None:
    folder = tmp_path / "locked"
    if os.geteuid() == 0:  # whom permissions do not bind; a disk does
        folder = disk(64)
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    else:
        folder.mkdir(mode=0o500)
    ended = rsseg("segment", SCENES / "target" / "karst_1.tif", "--model", model, "-o", folder)
    assert ended.returncode == 1
    assert "no right to write into" in ended.stderr
    assert left(folder) == []


def test_a_disk_without_room(rsseg, model: Path, disk) -> None:
    folder = disk(64)
    ended = rsseg("segment", SCENES / "target" / "karst_1.tif", "--model", model, "-o", folder / "m.tif", "--json")
    assert ended.returncode == 1
    error = json.loads(ended.stdout)["error"]
    assert (error["kind"], error["file"]) == ("space", str(folder / "m.tif"))
    assert "free some space" in error["hint"]
    assert left(folder) == []
