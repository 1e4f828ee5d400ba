"""Timeline: which scenes are dates of one place, and that a place is one place for all that follows."""

from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from rsseg_cli.domain import Crops, Scale, open_domain
from rsseg_cli.folders import LabelOptions, find_labelled, find_scenes
from rsseg_cli.patches import ClipsOfBoth, SourceCrops, TargetCrops
from rsseg_cli.target import open_target
from rsseg_cli.timeline import laid_out, single

CROPS = Crops(crop_px=64, batch=3, radiometry=0.0)
DATES = ("2023-04-01", "2023-06-15", "2023-09-30")


@pytest.fixture
def series(make_raster, tmp_path: Path):
    """One place on three dates, whose values tell ground and date; its labels once a date."""

    def make(folder: str, dates=DATES, size: int = 160) -> str:
        ground = np.arange(size * size, dtype=np.float32).reshape(size, size) % 1000
        for number, date in enumerate(dates):
            make_raster(f"{folder}/place_{date}.tif", np.stack([ground + 1, ground + 1 + 2000 * number]))
            labels = (np.indices((size, size)).sum(0) // 20 % 2).astype(np.uint8)
            make_raster(f"{folder}/place_{date}_labels.tif", labels)
        return str(tmp_path / folder)

    return make


def test_dates_of_one_place_lie_on_one_grid(make_raster, tmp_path: Path, series) -> None:
    folder = series("s")
    moved = Affine(1.0, 0.0, 500_020.0, 0.0, -1.0, 5_000_000.0)
    make_raster("s/place_2023-12-01.tif", np.ones((2, 160, 160), np.float32), transform=moved)
    grids, timeline = laid_out(find_scenes([folder]))
    assert timeline.most_dates == 4
    assert len({(grid.transform, grid.shape) for grid in grids}) == 1
    assert sorted(timeline.days - timeline.days.min()) == [0, 75, 182, 244]


def test_scenes_without_dates_are_places_of_their_own(make_raster, tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_raster(f"t/{name}.tif", np.ones((2, 64, 64), np.float32))
    scenes = find_scenes([str(tmp_path / "t")])
    grids, timeline = laid_out(scenes)
    assert grids == [scene.grid for scene in scenes]
    assert timeline.places.tolist() == single(2).places.tolist() == [0, 1]


def test_other_dates_are_drawn_from_the_same_place(series) -> None:
    _, timeline = laid_out(find_scenes([series("s")]))
    rng = np.random.default_rng(0)
    assert {tuple(sorted([0, *timeline.beside(0, 2, rng)])) for _ in range(5)} == {(0, 1, 2)}
    assert timeline.beside(1, 0, rng) == []


def test_the_same_ground_is_held_back_on_every_date(series) -> None:
    domain = open_domain(find_labelled([series("s")], LabelOptions()), Scale(), "robust", CROPS, as_series=True)
    first, *others = domain.held_back
    assert first.patches.any()
    assert all(np.array_equal(first.patches, other.patches) for other in others)
    target = open_target(find_scenes([series("t")]), None, "robust", CROPS, as_series=True)
    first, *others = target.held_back
    assert first.patches.any()
    assert all(np.array_equal(first.patches, other.patches) for other in others)
    single_dates = open_target(find_scenes([series("t")]), None, "robust", CROPS)
    assert not np.array_equal(single_dates.held_back[0].patches, single_dates.held_back[1].patches)


def test_clips_show_the_same_ground_on_all_dates(series) -> None:
    domain = open_domain(find_labelled([series("s")], LabelOptions()), Scale(), "robust", CROPS, as_series=True)
    clips = SourceCrops(domain, CROPS).clips(0, 3)
    assert clips.bands.shape == (3, 3, 2, 64, 64)
    for date in (1, 2):
        assert (clips.bands[:, 0, 0] == clips.bands[:, date, 0]).all()  # ground
        assert (clips.bands[:, 0, 1] != clips.bands[:, date, 1]).all()  # date
    assert (clips.days[:, 0] == 0).all()
    assert {abs(int(day)) for day in clips.days.unique()} <= {0, 75, 107, 182}
    batch = SourceCrops(domain, CROPS)(0)
    assert (batch.labels == clips.labels).all()


def test_a_place_with_fewer_dates_shows_nothing_on_the_others(series) -> None:
    series("t/one", DATES[:2])
    folder = series("t/two", DATES[:1], size=96)
    target = open_target(find_scenes([folder, str(Path(folder).parent / "one")]), None, "robust", CROPS, as_series=True)
    assert target.timeline.most_dates in (2, 3)
    clips = TargetCrops(target, CROPS).clips(0, 4)
    assert clips.valid[:, 0].any()
    assert not clips.valid[:, 3].any()
    assert (clips.days[:, 3] == 0).all()


def test_a_source_of_single_dates_goes_with_a_target_of_series(make_raster, tmp_path: Path, series) -> None:
    make_raster("s/town.tif", np.random.default_rng(0).normal(size=(2, 160, 160)).astype(np.float32))
    make_raster("s/town_labels.tif", (np.indices((160, 160)).sum(0) // 20 % 2).astype(np.uint8))
    domain = open_domain(find_labelled([str(tmp_path / "s")], LabelOptions()), Scale(), "robust", CROPS, as_series=True)
    target = open_target(find_scenes([series("t")]), None, "robust", CROPS, as_series=True)
    both = ClipsOfBoth(SourceCrops(domain, CROPS), TargetCrops(target, CROPS), 3)(0)
    assert both.source.bands.shape[1] == 1
    assert both.target.bands.shape[1] == 3
