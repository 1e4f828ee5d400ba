"""rsseg demo: the first thing a newcomer runs."""

import json
from pathlib import Path

import rasterio

from rsseg_cli.raster.sources import open_scene


def test_the_demo_writes_scenes_and_scores_maps(rsseg, tmp_path: Path) -> None:
    ended = rsseg("demo", "d", "--size", "128", "--json")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert all((tmp_path / "d" / name).is_file() for name in found["files"])
    source, target = (run["result"] for run in found["runs"] if run["command"][0] == "evaluate")
    assert 0 < target["miou"] < source["miou"] < 1
    scene = open_scene(tmp_path / "d" / "target" / "karst_1.tif")
    assert scene.names == ("nir", "red", "green", "blue")
    assert scene.grid.gsd_m == 0.8
    assert scene.date == "2023-10-07"
    with rasterio.open(tmp_path / "d" / "truth" / "karst_1_labels.tif") as truth:
        assert (truth.crs, truth.transform, truth.shape) == (scene.grid.crs, scene.grid.transform, scene.grid.shape)
    again = rsseg("demo", "d", "--size", "128")
    assert (again.returncode, "exists already" in again.stderr) == (1, True)
