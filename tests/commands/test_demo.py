"""rsseg demo: the first thing a newcomer runs."""

import json
from pathlib import Path

import rasterio

from rsseg_cli.raster.sources import open_scene


def test_the_demo_runs_every_command_on_its_own_scenes(rsseg, tmp_path: Path) -> None:
    ended = rsseg("demo", "d", "--size", "128", "--json")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert all((tmp_path / "d" / name).is_file() for name in found["files"])
    commands = [run["command"][0] for run in found["runs"]]
    learning = ["info", "adapt", "segment", "evaluate", "vectorize", "segment", "evaluate"]
    assert commands == [*learning, "adapt", "segment", "evaluate", "detect-change", "evaluate"]
    own, not_adapted, adapted = (found["runs"][number]["result"]["miou"] for number in (3, 6, 9))
    # So little ground, and so few steps, say nothing about how much adapting gains.
    assert 0.1 < not_adapted < own < 1
    assert 0.1 < adapted < own
    assert found["runs"][7]["result"]["selected"]["verdict"] in ("adapted", "source-only kept")
    scene = open_scene(tmp_path / "d" / "target" / "karst_1.tif")
    assert scene.names == ("nir", "red", "green", "blue")
    assert scene.grid.gsd_m == 0.8
    assert scene.date == "2023-10-07"
    for folder, name in (("truth", "karst_1"), ("maps/adapted", "karst_1")):
        with rasterio.open(tmp_path / "d" / folder / f"{name}_labels.tif") as labels:
            assert (labels.crs, labels.transform, labels.shape) == (
                scene.grid.crs,
                scene.grid.transform,
                scene.grid.shape,
            )
    again = rsseg("demo", "d", "--size", "128")
    assert (again.returncode, "exists already" in again.stderr) == (1, True)
