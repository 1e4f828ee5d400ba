"""Rasters kept open: opened once, closed in the end, and one thread at a time."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from rasterio.io import DatasetReader
from rasterio.windows import Window

from rsseg_cli.errors import RssegError
from rsseg_cli.raster import dataset as dataset_module
from rsseg_cli.raster import kept_open as kept_open_module
from rsseg_cli.raster.kept_open import MOST, kept_open, reading
from rsseg_cli.raster.scene import Scene, open_file

HERE = Window(3, 5, 20, 10)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[DatasetReader]:
    """Every dataset that is opened, in order."""
    found: list[DatasetReader] = []
    plain = dataset_module.opened

    def noted(path: str) -> DatasetReader:
        found.append(plain(path))
        return found[-1]

    for module in (dataset_module, kept_open_module):
        monkeypatch.setattr(module, "opened", noted)
    return found


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 255, (3, 64, 80), dtype=np.uint8)


def test_reads_within_share_one_dataset(make_raster, opened, values) -> None:
    scene = open_file(str(make_raster("a.tif", values)))
    opened.clear()
    with kept_open():
        read = [scene.values(HERE) for _ in range(3)]
        assert [dataset.closed for dataset in opened] == [False]
    assert opened[0].closed
    for found in (*read, scene.values(HERE)):
        np.testing.assert_array_equal(found, values[:, 5:15, 3:23])
    assert [dataset.closed for dataset in opened] == [True, True]  # outside, each read opens and closes


def test_stays_open_until_the_last_walk_ends(make_raster, opened, values) -> None:
    scene = open_file(str(make_raster("a.tif", values)))
    opened.clear()
    with kept_open():
        with kept_open():
            scene.values(HERE)
        assert not opened[0].closed
    assert opened[0].closed


def test_closed_where_a_walk_breaks_off(make_raster, opened, values) -> None:
    scene = open_file(str(make_raster("a.tif", values)))
    opened.clear()
    with pytest.raises(ValueError, match="not inside"), kept_open():
        _read_within_and_beyond(scene)
    assert opened[0].closed


def _read_within_and_beyond(scene: Scene) -> None:
    scene.values(HERE)
    scene.values(Window(1000, 1000, 5, 5))


def test_many_threads_read_the_same(make_raster, values) -> None:
    scene = open_file(str(make_raster("a.tif", values)))
    windows = [Window(col, row, 16, 16) for row in range(0, 48, 3) for col in range(0, 64, 3)]
    with kept_open(), ThreadPoolExecutor(8) as pool:
        for window, found in zip(windows, pool.map(scene.values, windows), strict=True):
            rows, cols = window.toslices()
            np.testing.assert_array_equal(found, values[:, rows, cols])


def test_what_gdal_says_of_a_damaged_file_is_not_printed_in_any_thread(make_raster, values, capfd) -> None:
    path = make_raster("a.tif", values, compress="deflate")
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(200))
    scene = open_file(str(path))
    with kept_open(), ThreadPoolExecutor(2) as pool:
        for _ in range(2):
            with pytest.raises(RssegError, match="cannot be read"):
                pool.submit(scene.values).result()
    assert capfd.readouterr().err == ""


def test_of_very_many_files_those_read_last_stay_open(make_raster, opened) -> None:
    paths = [make_raster(f"{number}.tif", np.full((1, 4, 4), number, np.uint8)) for number in range(MOST + 2)]
    with kept_open():
        assert [_first(path) for path in paths[:MOST]] == list(range(MOST))
        assert _first(paths[0]) == 0
        assert [_first(path) for path in paths[MOST:]] == [MOST, MOST + 1]
        assert [Path(dataset.name) for dataset in opened if dataset.closed] == paths[1:3]
        assert _first(paths[1]) == 1
    assert all(dataset.closed for dataset in opened)


def test_a_file_that_is_being_read_stays_open(make_raster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_open_module, "MOST", 1)
    paths = [make_raster(f"{number}.tif", np.full((1, 4, 4), number, np.uint8)) for number in range(3)]
    with kept_open(), reading(str(paths[0])) as dataset:
        assert [_first(path) for path in paths[1:]] == [1, 2]
        assert not dataset.closed


def _first(path: Path) -> int:
    with reading(str(path)) as dataset:
        return int(dataset.read(1)[0, 0])


def test_what_cannot_be_opened_is_refused_each_time(tmp_path) -> None:
    with kept_open():
        for _ in range(2):
            with pytest.raises(RssegError, match="no such file"), reading(str(tmp_path / "none.tif")):
                pass


def test_a_file_that_was_replaced_is_refused(make_raster, values) -> None:
    path = make_raster("a.tif", values)
    scene = open_file(str(path))
    with kept_open():
        scene.values(HERE)
        make_raster("b.tif", values[::-1].copy()).replace(path)
        with pytest.raises(RssegError, match="was changed or removed while it was read"):
            scene.values(HERE)


def test_a_file_that_was_replaced_and_opened_anew_is_the_new_one(make_raster, values) -> None:
    path = make_raster("a.tif", values)
    with kept_open():
        open_file(str(path)).values(HERE)
        make_raster("b.tif", values[::-1].copy()).replace(path)
        found = open_file(str(path)).values(HERE)
    np.testing.assert_array_equal(found, values[::-1, 5:15, 3:23])


def test_a_read_that_outlasts_the_walk_ends_well(make_raster, opened, values) -> None:
    path = str(make_raster("a.tif", values))
    with ExitStack() as stack:
        with kept_open():
            dataset = stack.enter_context(reading(path))
        np.testing.assert_array_equal(dataset.read(), values)
    assert opened[0].closed
