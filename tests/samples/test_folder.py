"""The sample scenes on disk: the committed ones are those the generator draws, readable as any person's data."""

from pathlib import Path

import numpy as np
import pytest

from rsseg_cli.labels import open_labels
from rsseg_cli.raster.sources import open_scene
from rsseg_cli.samples.folder import SCHEME, grid_of
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


def test_the_folder_stays_small() -> None:
    sizes = [p.stat().st_size for p in COMMITTED.rglob("*") if p.is_file()]
    assert sum(sizes) < 3e6
    assert (COMMITTED / "contact_sheet.png").stat().st_size < 300_000
