"""Colour alone must not be enough, and must carry over badly."""

from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from rsseg_cli.samples import CLASSES, SampleScene

BANDS = ("red", "green", "blue", "nir")
PIXELS = 9000


def pixels(scenes: Sequence[SampleScene]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    colours = [scene.image[[scene.bands.index(band) for band in BANDS]].reshape(4, -1).T for scene in scenes]
    labels = np.concatenate([scene.labels.ravel() for scene in scenes])
    drawn = rng.choice(labels.size, PIXELS, replace=False)
    return np.concatenate(colours)[drawn], labels[drawn]


def mean_iou(learned: Sequence[SampleScene], seen: Sequence[SampleScene]) -> float:
    forest = RandomForestClassifier(40, min_samples_leaf=3, random_state=0, n_jobs=1).fit(*pixels(learned))
    colours, labels = pixels(seen)
    found = forest.predict(colours)
    return float(
        np.mean(
            [
                ((labels == number) & (found == number)).sum() / ((labels == number) | (found == number)).sum()
                for number, _, _ in CLASSES
            ]
        )
    )


@pytest.fixture(scope="module")
def between_source_scenes(source: Sequence[SampleScene]) -> list[float]:
    return [mean_iou([scene for scene in source if scene is not left], [left]) for left in source]


def test_colour_tells_classes_apart_only_in_part(between_source_scenes: list[float]) -> None:
    assert 0.40 < np.mean(between_source_scenes) < 0.65
    assert max(between_source_scenes) < 0.65


def test_colour_carries_over_badly(
    between_source_scenes: list[float], source: Sequence[SampleScene], target: Sequence[SampleScene]
) -> None:
    loss = np.mean(between_source_scenes) - mean_iou(source, target)
    assert loss > 0.15
