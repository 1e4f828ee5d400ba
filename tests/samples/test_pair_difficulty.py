"""Differences of pixels must not be enough to find the changes, nor must the changes be out of reach."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import ndimage

from rsseg_cli.samples import SamplePair
from rsseg_cli.samples.pair import NOTHING, SHIFT_PX

Array = np.ndarray


@dataclass(frozen=True)
class Score:
    auc: float
    f1: float


def scored(score: Array, pair: SamplePair) -> Score:
    """Ranking, and F1 at Otsu's threshold."""
    held = pair.truth != NOTHING
    values, changed = score[held], pair.truth[held] == 1
    ranks = np.empty(values.size)
    ranks[np.argsort(values, kind="stable")] = np.arange(1, values.size + 1)
    positives = int(changed.sum())
    auc = (ranks[changed].sum() - positives * (positives + 1) / 2) / (positives * (values.size - positives))
    found = values > otsu(values)
    return Score(float(auc), float(2 * (found & changed).sum() / (found.sum() + positives)))


def otsu(values: Array) -> float:
    counts, edges = np.histogram(values, 256)
    middles, below = (edges[:-1] + edges[1:]) / 2, counts.cumsum()
    moments = (counts * middles).cumsum()
    between = (moments[-1] * below - moments * below[-1]) ** 2 / np.maximum(below * (below[-1] - below), 1)
    return float(middles[np.argmax(between)])


def bands(pair: SamplePair, shifted_back: bool) -> tuple[Array, Array]:
    before, after = (scene.image.astype(float) for scene in (pair.before, pair.after))
    back = (-SHIFT_PX[1], -SHIFT_PX[0])
    return before, np.stack([ndimage.shift(band, back, mode="nearest") for band in after]) if shifted_back else after


def chronochrome(pair: SamplePair, shifted_back: bool) -> Array:
    """What a linear prediction of the second date from the first leaves, smoothed by 2 pixels."""
    before, after = bands(pair, shifted_back)
    held = pair.truth != NOTHING
    terms = np.concatenate([before, np.ones((1, *held.shape))])
    weights, *_ = np.linalg.lstsq(terms[:, held].T, after[:, held].T, rcond=None)
    left = np.abs(after - np.einsum("tb,tyx->byx", weights, terms)) / after[:, held].std(axis=1)[:, None, None]
    return ndimage.gaussian_filter(np.where(held, left.sum(axis=0), 0), 2)


def test_plain_differences_find_little(pair: SamplePair) -> None:
    before, after = bands(pair, shifted_back=False)
    plain = scored(np.abs(after - before).mean(axis=0), pair)
    assert 0.72 < plain.auc < 0.88
    assert 0.20 < plain.f1 < 0.40


@pytest.mark.parametrize("shifted_back", [False, True])
def test_linear_correction_and_smoothing_stay_poor(pair: SamplePair, shifted_back: bool) -> None:
    smoothed = scored(chronochrome(pair, shifted_back), pair)
    assert 0.75 < smoothed.auc < 0.92
    assert 0.20 < smoothed.f1 < 0.45


def test_misregistration_costs(pair: SamplePair) -> None:
    as_it_is, put_right = (scored(chronochrome(pair, back), pair) for back in (False, True))
    assert put_right.auc > as_it_is.auc + 0.02


def test_where_nothing_changed_the_dates_differ_by_season_and_shadow(pair: SamplePair) -> None:
    before, after = (scene.image.astype(float).mean(axis=0) for scene in (pair.before, pair.after))
    same = pair.truth == 0
    darker = np.quantile(after[same] / before[same], [0.02, 0.98])
    assert darker[0] < 0.65
    assert darker[1] > 1.5
