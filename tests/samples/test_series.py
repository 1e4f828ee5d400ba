"""The sample series: seasons and clouds hide what stays, and some ground truly changes."""

from collections.abc import Sequence
from datetime import date
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage
from sklearn.ensemble import RandomForestClassifier

from rsseg_cli.samples import SampleSeries, series_sheet
from rsseg_cli.samples.classes import CLASSES, GRASS, TREE
from rsseg_cli.samples.landscape import Tree
from rsseg_cli.samples.scenes import lattice_of
from rsseg_cli.samples.seasons import DECIDUOUS, Growth, grown
from rsseg_cli.samples.series import CLEARED, SOURCE, STRIPE_PX, UNSEEN
from rsseg_cli.samples.town import lay_out

BANDS = ("red", "green", "blue", "nir")


def labels_of(series: SampleSeries) -> np.ndarray:
    return np.stack([scene.labels for scene in series.scenes])


def seen_of(series: SampleSeries) -> np.ndarray:
    """What dates show (date, y, x)."""
    gaps = [False if s.nodata is None else (s.image == s.nodata).all(axis=0) for s in series.scenes]
    return np.stack([(clouds == 0) & ~np.asarray(gap) for clouds, gap in zip(series.clouds, gaps, strict=True)])


def bands_of(series: SampleSeries) -> np.ndarray:
    """(date, band, y, x), bands in one order."""
    return np.stack([scene.image[[scene.bands.index(band) for band in BANDS]] for scene in series.scenes])


def test_six_dates_lie_weeks_apart_on_one_grid(series: Sequence[SampleSeries]) -> None:
    for place in series:
        days = [date.fromisoformat(scene.date).toordinal() for scene in place.scenes]
        assert len(days) == 6
        assert all(25 < later - earlier < 60 for earlier, later in pairwise(days))
        assert len({(scene.origin, scene.gsd_m, scene.epsg, scene.bands) for scene in place.scenes}) == 1
    source, target = (place.scenes[0] for place in series)
    assert source.bands != target.bands
    assert source.gsd_m != target.gsd_m


def test_clouds_and_stripes_leave_something_of_every_date_and_every_place(series: Sequence[SampleSeries]) -> None:
    for place in series:
        seen = seen_of(place)
        shares = seen.mean(axis=(1, 2))
        assert shares.min() > 0.35
        assert shares.mean() < 0.85
        assert (seen.sum(axis=0) >= 2).mean() > 0.95
        (striped,) = (scene for scene in place.scenes if scene.nodata == UNSEEN)
        gap = striped.image[0] == UNSEEN
        assert 0.2 < gap.mean() < 0.3
        np.testing.assert_array_equal(gap[:-STRIPE_PX], gap[STRIPE_PX:])


def test_a_mask_holds_what_is_white_and_what_lies_in_its_shadow(series: Sequence[SampleSeries]) -> None:
    _, target = series
    red = bands_of(target)[:, 0].astype(float)
    for values, clouds in zip(red, target.clouds, strict=True):
        hidden = clouds > 0
        clear = values[~hidden]
        assert np.percentile(values[hidden], 95) > np.percentile(clear, 99)
        assert (values[hidden] < np.percentile(clear, 25)).mean() > 0.2


def test_seasons_change_colours_and_no_class(series: Sequence[SampleSeries]) -> None:
    source, _ = series
    labels, colours, seen = labels_of(source), bands_of(source).astype(float), seen_of(source)
    kept = source.kinds == 0
    inside = kept & ~ndimage.binary_dilation(~kept, np.ones((3, 3)))
    assert (labels == labels[0])[:, inside].mean() > 0.999
    for cover in (TREE, GRASS):
        red, nir = (
            [np.median(colours[day, band][seen[day] & inside & (labels[day] == cover)]) for day in (0, 2)]
            for band in (0, 3)
        )
        assert nir[1] - red[1] > nir[0] - red[0] + 15


def test_ground_changes_between_dates_and_the_truth_tells_where(series: Sequence[SampleSeries]) -> None:
    for place in series:
        labels = labels_of(place)
        assert 0.05 < place.change.mean() < 0.1
        np.testing.assert_array_equal(place.change, (labels != labels[0]).any(axis=0))
        np.testing.assert_array_equal(labels[0], labels[CLEARED - 1])
        assert (place.kinds > 0)[place.change > 0].mean() > 0.85
        assert {2, 5, 6} <= set(np.unique(place.kinds))


def test_the_same_trees_are_early_every_time() -> None:
    plan = lay_out(lattice_of(SOURCE.domain.style, SOURCE.domain.towns[0]), 60.0)

    def leafless(share: float, day: int) -> set[Tree]:
        growth = Growth((share, 0.0, 1 - share, 0.0), (1.0, 0.0, 0.0), 1.0)
        pairs = zip(plan.trees, grown(plan, growth, day).trees, strict=True)
        return {own for own, drawn in pairs if drawn.material == "bare crowns"}

    few, many = leafless(0.2, 0), leafless(0.7, 5)
    assert few < many
    assert {tree.material for tree in many} <= set(DECIDUOUS)


def mean_iou(truth: np.ndarray, found: np.ndarray) -> float:
    return float(
        np.mean([((truth == n) & (found == n)).sum() / ((truth == n) | (found == n)).sum() for n, *_ in CLASSES])
    )


def pixels(place: SampleSeries, count: int, half: slice) -> tuple[np.ndarray, np.ndarray]:
    """Colours and classes of pixels that are seen, from a half of the place."""
    seen = seen_of(place)[:, half]
    colours = bands_of(place)[:, :, half].transpose(0, 2, 3, 1)[seen]
    drawn = np.random.default_rng(3).choice(len(colours), count, replace=False)
    return colours[drawn], labels_of(place)[:, half][seen][drawn]


@pytest.fixture(scope="module")
def forests(series: Sequence[SampleSeries]) -> list[RandomForestClassifier]:
    """By single pixels of the upper half of each place."""
    return [
        RandomForestClassifier(20, min_samples_leaf=3, random_state=0, n_jobs=1).fit(*pixels(place, 6000, slice(0, 96)))
        for place in series
    ]


def test_colour_carries_over_badly(series: Sequence[SampleSeries], forests: list[RandomForestClassifier]) -> None:
    colours, truth = pixels(series[1], 6000, slice(96, 192))
    from_source, from_target = (mean_iou(truth, forest.predict(colours)) for forest in forests)
    assert 0.35 < from_target < 0.6
    assert from_target - from_source > 0.07


def test_the_sheet_shows_both_places(series: Sequence[SampleSeries]) -> None:
    sheet = series_sheet(series)
    assert sheet.shape[0] == 3
    assert sheet.shape[2] > 6 * 90
    assert sheet.shape[1] > 4 * 90
