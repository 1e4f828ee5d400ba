"""The sample scenes on disk: the committed ones are those the generator draws, readable as any person's data."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from rsseg_cli.change.scheme import CHANGE_SCHEME
from rsseg_cli.labels import open_labels
from rsseg_cli.raster.series import open_series
from rsseg_cli.raster.sources import open_scene
from rsseg_cli.samples import SamplePair, SampleSeries
from rsseg_cli.samples.folder import KINDS_SCHEME, SCHEME, grid_of
from rsseg_cli.samples.scenes import SampleScene

COMMITTED = Path(__file__).parents[2] / "sample_scenes"


@pytest.fixture(scope="module")
def drawn() -> list[SampleScene]:
    from rsseg_cli.samples import draw_samples

    return list(draw_samples())


def test_the_committed_scenes_are_what_the_generator_draws(drawn: list[SampleScene]) -> None:
    """Every recorded table rests on these pixels; whoever changes the generator runs the tables again."""
    for expected in drawn:
        scene = open_scene(COMMITTED / expected.domain / f"{expected.name}.tif")
        assert scene.names == expected.bands
        assert scene.grid == grid_of(expected)
        assert scene.date == expected.date
        np.testing.assert_array_equal(scene.read().values, expected.image)


def test_labels_as_rasters_and_as_polygons_say_the_same(drawn: list[SampleScene]) -> None:
    for expected in drawn:
        folder = COMMITTED / ("source" if expected.domain == "source" else "truth")
        (path,) = (p for p in folder.glob(f"{expected.name}_labels.*") if p.suffix != ".qml")
        labels = open_labels(str(path), grid_of(expected), SCHEME)
        assert labels.grid == grid_of(expected)
        np.testing.assert_array_equal(labels.read(), expected.labels)
        assert set(open_labels(str(path), grid_of(expected)).scheme.names) == set(SCHEME.names)


def test_the_target_folder_holds_no_labels() -> None:
    assert {p.suffix for p in (COMMITTED / "target").iterdir()} == {".tif"}
    assert not list((COMMITTED / "target").glob("*label*"))


def test_the_committed_pair_is_what_the_generator_draws(pair: SamplePair) -> None:
    for expected in (pair.before, pair.after):
        scene = open_scene(COMMITTED / "change" / f"{expected.name}.tif")
        assert (scene.names, scene.grid, scene.date) == (expected.bands, grid_of(expected), expected.date)
        values = np.where(expected.image == expected.nodata, np.nan, expected.image)
        np.testing.assert_array_equal(scene.read().values, values)


def test_the_truth_of_the_pair_lies_on_the_grid_of_the_first_date(pair: SamplePair) -> None:
    grid = grid_of(pair.before)
    for name, ids, scheme in (("truth", pair.truth, CHANGE_SCHEME), ("kinds", pair.kinds, KINDS_SCHEME)):
        labels = open_labels(str(COMMITTED / "change" / f"{name}.tif"), grid)
        assert (labels.grid, labels.scheme.names) == (grid, scheme.names)
        np.testing.assert_array_equal(labels.read(), ids)
        assert (COMMITTED / "change" / f"{name}.qml").is_file()


def test_the_committed_series_are_what_the_generator_draws(series: Sequence[SampleSeries]) -> None:
    for expected in series:
        read = open_series(COMMITTED / "series" / expected.domain)
        assert read.grid == grid_of(expected.scenes[0])
        assert read.dates == tuple(scene.date for scene in expected.scenes)
        for scene, clouds, date in zip(expected.scenes, expected.clouds, read.scenes, strict=True):
            assert date.names == scene.bands
            hidden = clouds > 0 if scene.nodata is None else (clouds > 0) | (scene.image == scene.nodata)
            np.testing.assert_array_equal(date.values(), np.where(hidden, np.nan, scene.image))
            folder = COMMITTED / "series" / ("source" if expected.domain == "source" else "truth")
            labels = open_labels(str(folder / f"{scene.name}_labels.tif"), grid_of(scene), SCHEME)
            np.testing.assert_array_equal(labels.read(), scene.labels)


def test_the_truth_of_the_series_tells_what_changed(series: Sequence[SampleSeries]) -> None:
    _, target = series
    folder, grid = COMMITTED / "series" / "truth", grid_of(target.scenes[0])
    for name, ids in (("change", target.change), ("kinds", target.kinds)):
        np.testing.assert_array_equal(open_labels(str(folder / f"{name}.tif"), grid).read(), ids)
    assert not list((COMMITTED / "series" / "target").glob("*label*"))


def test_the_folder_stays_small() -> None:
    sizes = [p.stat().st_size for p in COMMITTED.rglob("*") if p.is_file()]
    assert sum(sizes) < 4.5e6
    for sheet in ("contact_sheet.png", "change_sheet.png", "series_sheet.png"):
        assert (COMMITTED / sheet).stat().st_size < 300_000
