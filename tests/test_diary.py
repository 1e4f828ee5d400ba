"""What a run leaves for a person to look at."""

import csv
from pathlib import Path

import numpy as np
import pytest
import rasterio

from rsseg_cli.classes import ClassScheme
from rsseg_cli.diary import Diary, Palette

SCHEME = ClassScheme.of_names([("road", (0,), "#102030"), ("tree", (1,), "#00ff00")])
pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")


def test_lines_are_written_once_and_in_order(tmp_path: Path) -> None:
    diary = Diary(tmp_path, Palette(("red",), SCHEME))
    diary.note("source-only", "", 1, {"source": 1.5})
    diary.write()
    diary.note("source-only", "", 2, {"source": 1.25, "auxiliary": 0.5})
    diary.write()
    diary.write()
    with (tmp_path / "log.csv").open(newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0] == ["method", "target seen", "step", "what", "value"]
    assert lines[1:] == [
        ["source-only", "", "1", "source", "1.5"],
        ["source-only", "", "2", "source", "1.25"],
        ["source-only", "", "2", "auxiliary", "0.5"],
    ]


def test_a_picture_has_crops_above_and_maps_below(tmp_path: Path) -> None:
    diary = Diary(tmp_path, Palette(("nir", "blue", "green", "Red"), SCHEME))
    bands = np.zeros((2, 4, 5, 6), np.float32)
    bands[0, 3] = 10  # very red
    bands[1, 0, :, 3:] = 0.1  # something in the infrared; elsewhere there is nothing
    maps = np.stack([np.zeros((5, 6), np.int64), np.ones((5, 6), np.int64)])
    diary.show("target_000040_none", bands, maps)
    with rasterio.open(tmp_path / "target_000040_none.png") as file:
        image = file.read()
    assert image.shape == (3, 10, 12)
    assert image[:, 0, 0].tolist() == [255, 127, 127]
    assert image[:, 0, -1].tolist() == [127, 127, 127]
    assert image[:, -1, 0].tolist() == [0x10, 0x20, 0x30]
    assert image[:, -1, -1].tolist() == [0, 255, 0]
    assert image[:, -1, 6].tolist() == [127, 127, 127]


def test_one_band_is_grey(tmp_path: Path) -> None:
    diary = Diary(tmp_path, Palette(("ndvi",), SCHEME))
    diary.show("target_0", np.zeros((1, 1, 4, 4), np.float32), np.zeros((1, 4, 4), np.int64))
    with rasterio.open(tmp_path / "target_0.png") as file:
        assert file.count == 3


def test_a_new_run_starts_a_new_log(tmp_path: Path) -> None:
    diary = Diary(tmp_path, Palette(("red",), SCHEME))
    diary.note("source-only", "", 1, {"source": 1.5})
    diary.write()
    diary.show("target_3", np.zeros((1, 1, 4, 4), np.float32), np.zeros((1, 4, 4), np.int64))
    diary.clear()
    assert not list(tmp_path.iterdir())
