"""Scores against scikit-learn, the oracle."""

import numpy as np
import pytest
from sklearn import metrics

from rsseg_cli import scores
from rsseg_cli.classes import UNLABELLED, ClassScheme
from rsseg_cli.scores import BINS, Confusion, Ranking, Reliability


def counted(truth: np.ndarray, predicted: np.ndarray, classes: int) -> dict:
    confusion = Confusion(ClassScheme.of_values(range(classes)))
    for part in np.array_split(np.arange(truth.size), 7):
        confusion.add(truth.ravel()[part], predicted.ravel()[part])
    return confusion.figures()


def test_figures_equal_scikit_learn_with_nodata_and_absent_classes() -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice([0, 1, 2, 4, UNLABELLED], (200, 300)).astype(np.uint8)  # 3 and 5 do not occur
    predicted = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, 6, truth.shape)).astype(np.uint8)
    found = counted(truth, predicted, 6)
    held = (truth != UNLABELLED) & (predicted != UNLABELLED)
    t, p, present = truth[held], predicted[held], [0, 1, 2, 4]
    options = {"labels": present, "average": "macro"}
    assert found["miou"] == pytest.approx(metrics.jaccard_score(t, p, **options), abs=1e-12)
    assert found["f1_macro"] == pytest.approx(metrics.f1_score(t, p, **options), abs=1e-12)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(t, p), abs=1e-12)
    assert found["confusion"]["counts"] == metrics.confusion_matrix(t, p, labels=range(6)).tolist()
    assert found["classes_in_mean"] == ["0", "1", "2", "4"]
    assert found["classes"]["3"]["iou"] is None
    each = metrics.precision_recall_fscore_support(t, p, labels=present)
    for position, id_ in enumerate(present):
        mine = found["classes"][str(id_)]
        for key, values in zip(("precision", "recall", "f1", "pixels"), each, strict=True):
            assert mine[key] == pytest.approx(values[position], abs=1e-12)


def test_what_the_prediction_leaves_out_is_counted_and_not_scored() -> None:
    truth = np.array([0, 0, 1, 1, UNLABELLED], np.uint8)
    found = counted(truth, np.array([0, UNLABELLED, 1, 0, 0], np.uint8), 2)
    assert (found["pixels"], found["unpredicted_pixels"]) == (3, 1)
    assert found["accuracy"] == pytest.approx(2 / 3)


def test_a_class_never_predicted_has_no_precision() -> None:
    found = counted(np.array([0, 1], np.uint8), np.array([0, 0], np.uint8), 2)
    assert found["classes"]["1"] == {
        "iou": 0.0, "f1": 0.0, "precision": None, "recall": 0.0, "pixels": 1, "predicted_pixels": 0,
    }  # fmt: skip


@pytest.mark.parametrize("levels", [2, 11, 10_000_000])
def test_ranking_equals_scikit_learn_with_and_without_ties(levels: int) -> None:
    rng = np.random.default_rng(levels)
    truth = rng.random(20_000) < 0.1
    values = np.round(np.clip(rng.normal(0.4 + 0.2 * truth, 0.2), 0, 1) * levels) / levels
    values = values.astype(np.float32)
    ranking = Ranking()
    for part in np.array_split(np.arange(truth.size), 9):
        ranking.add(values[part], truth[part])
    found = ranking.figures()
    assert found["auc"] == pytest.approx(metrics.roc_auc_score(truth, values), abs=1e-9)
    assert found["average_precision"] == pytest.approx(metrics.average_precision_score(truth, values), abs=1e-9)
    precision, recall, _ = metrics.precision_recall_curve(truth, values)
    with np.errstate(invalid="ignore"):
        best = np.nanmax(2 * precision * recall / (precision + recall))
    assert found["best_f1"] == pytest.approx(best, abs=1e-9)


def test_too_many_scores_are_rounded_and_hardly_change_the_figures(monkeypatch) -> None:
    monkeypatch.setattr(scores, "MAX_LEVELS", 2000)
    rng = np.random.default_rng(1)
    truth = rng.random(50_000) < 0.2
    values = rng.normal(truth, 1).astype(np.float32)
    ranking = Ranking()
    for part in np.array_split(np.arange(truth.size), 5):
        ranking.add(values[part], truth[part])
    assert len(ranking.scores) <= 2000
    assert ranking.rounded_bits > 0
    assert ranking.positives.sum() == truth.sum()
    assert ranking.figures()["auc"] == pytest.approx(metrics.roc_auc_score(truth, values), abs=1e-3)


def test_a_ranking_of_one_class_is_no_ranking() -> None:
    ranking = Ranking()
    ranking.add(np.array([0.1, 0.9], np.float32), np.array([True, True]))
    assert ranking.figures() == {"auc": None, "average_precision": None, "best_f1": None}


def test_a_map_that_is_as_sure_as_it_is_right_has_no_calibration_error() -> None:
    rng = np.random.default_rng(2)
    confidence = rng.uniform(0.2, 1, 400_000).astype(np.float32)
    honest, bold = Reliability(), Reliability()
    for part in np.array_split(np.arange(confidence.size), 3):
        honest.add(confidence[part], rng.random(part.size) < confidence[part])
        bold.add(confidence[part], rng.random(part.size) < confidence[part] - 0.2)
    assert honest.figures()["ece"] == pytest.approx(0, abs=0.005)
    assert bold.figures()["ece"] == pytest.approx(0.2, abs=0.005)
    assert honest.figures()["mean_confidence"] == pytest.approx(0.6, abs=0.005)


def test_the_reliability_curve_has_every_bin() -> None:
    reliability = Reliability()
    reliability.add(np.array([0, 0.5, 0.5, 1], np.float32), np.array([False, True, False, True]))
    curve = reliability.figures()["reliability"]
    assert len(curve) == BINS
    assert curve[0] == {"from": 0, "to": 1 / BINS, "pixels": 1, "confidence": 0, "accuracy": 0}
    assert curve[1] == {"from": 1 / BINS, "to": 2 / BINS, "pixels": 0, "confidence": None, "accuracy": None}
    assert curve[7] == {"from": 7 / BINS, "to": 8 / BINS, "pixels": 2, "confidence": 0.5, "accuracy": 0.5}
    assert (curve[-1]["to"], curve[-1]["pixels"]) == (1, 1)
    assert Reliability().figures()["ece"] is None
