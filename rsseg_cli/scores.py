"""How good a map is: counts first, figures from counts. Arrays in, numbers out."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsseg_cli.classes import UNLABELLED, ClassScheme

# More distinct scores than this are merged by rounding; memory stays flat, and the report says so.
MAX_LEVELS = 1 << 22
ROUNDING_BITS = 4
# Of confidence, in the curve of how often it is right.
BINS = 15


@dataclass
class Confusion:
    """Pixels by true class (rows) and predicted class (columns), ids of the truth's scheme."""

    scheme: ClassScheme
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros((256, 256), np.int64))

    def add(self, truth: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> None:
        pairs = truth.astype(np.intp).ravel() << 8 | predicted.ravel()
        self.counts += np.bincount(pairs, minlength=1 << 16).reshape(256, 256)

    @property
    def unpredicted(self) -> int:
        """Labelled pixels on which the prediction says nothing; they are left out of every figure."""
        return int(self.counts[:UNLABELLED, UNLABELLED].sum())

    def figures(self) -> dict[str, Any]:
        """miou, f1_macro and accuracy over the classes that occur in the truth, and each class's own."""
        scored = self.counts[:UNLABELLED, :UNLABELLED]
        classes = {c.name: _class_figures(scored, c.id) for c in self.scheme.classes}
        present = [figures for figures in classes.values() if figures["pixels"]]
        total = int(scored.sum())
        return {
            "miou": _mean([figures["iou"] for figures in present]),
            "f1_macro": _mean([figures["f1"] for figures in present]),
            "accuracy": float(np.trace(scored) / total) if total else None,
            "pixels": total,
            "unpredicted_pixels": self.unpredicted,
            "classes_in_mean": [name for name, figures in classes.items() if figures["pixels"]],
            "classes": classes,
            "confusion": self._table(),
        }

    def _table(self) -> dict[str, Any]:
        """Rows are the truth, columns the prediction."""
        ids = list(self.scheme.ids)
        return {"classes": list(self.scheme.names), "counts": self.counts[np.ix_(ids, ids)].tolist()}


def _class_figures(counts: NDArray[np.int64], id_: int) -> dict[str, Any]:
    """Precision is undefined (None) for a class never predicted; every figure is for one absent from the truth."""
    hit, true, predicted = int(counts[id_, id_]), int(counts[id_].sum()), int(counts[:, id_].sum())
    if not true:
        return {"iou": None, "f1": None, "precision": None, "recall": None, "pixels": 0, "predicted_pixels": predicted}
    return {
        "iou": hit / (true + predicted - hit),
        "f1": 2 * hit / (true + predicted),
        "precision": hit / predicted if predicted else None,
        "recall": hit / true,
        "pixels": true,
        "predicted_pixels": predicted,
    }


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


@dataclass
class Ranking:
    """How well a score ranks the positive class: pixels counted by distinct score."""

    scores: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    positives: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    negatives: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    rounded_bits: int = 0  # of the 23 in a float's fraction

    def add(self, scores: NDArray[np.float32], is_positive: NDArray[np.bool_]) -> None:
        found, where = np.unique(np.concatenate([self.scores, self._round(scores)]), return_inverse=True)
        old, new = where[: len(self.scores)], where[len(self.scores) :]
        counts = []
        for known, here in ((self.positives, is_positive), (self.negatives, ~is_positive)):
            total = np.bincount(new[here], minlength=len(found))
            np.add.at(total, old, known)
            counts.append(total)
        self.scores, (self.positives, self.negatives) = found, counts
        while len(self.scores) > MAX_LEVELS:
            self.rounded_bits += ROUNDING_BITS
            self._merge_rounded()

    def figures(self) -> dict[str, float | None]:
        """auc, average_precision and best_f1, ties counted as ties."""
        hits = np.cumsum(self.positives[::-1]).astype(float)  # from the highest score down
        alarms = np.cumsum(self.negatives[::-1]).astype(float)
        if not len(hits) or not hits[-1] or not alarms[-1]:
            return {"auc": None, "average_precision": None, "best_f1": None}
        recall, false_rate = hits / hits[-1], alarms / alarms[-1]
        precision = hits / (hits + alarms)
        return {
            "auc": float(np.trapezoid(np.r_[0.0, recall], np.r_[0.0, false_rate])),
            "average_precision": float(np.sum(np.diff(np.r_[0.0, recall]) * precision)),
            "best_f1": float(np.max(2 * hits / (hits + alarms + hits[-1]))),
        }

    def _round(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        scores = scores.astype(np.float32) + np.float32(0)  # a new array, and no negative zero
        if self.rounded_bits:
            scores.view(np.uint32)[...] &= np.uint32(0xFFFFFFFF << self.rounded_bits & 0xFFFFFFFF)
        return scores

    def _merge_rounded(self) -> None:
        found, where = np.unique(self._round(self.scores), return_inverse=True)
        self.positives = np.bincount(where, self.positives, len(found)).astype(np.int64)
        self.negatives = np.bincount(where, self.negatives, len(found)).astype(np.int64)
        self.scores = found


@dataclass
class Reliability:
    """How often a map is right where it is so sure: pixels counted by confidence."""

    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    right: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    sure: NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))  # their confidence, summed

    def add(self, confidence: NDArray[np.float32], is_right: NDArray[np.bool_]) -> None:
        """Confidence from 0 to 1, which counts in the last bin."""
        bins = np.minimum((confidence * BINS).astype(np.intp), BINS - 1)
        self.pixels += np.bincount(bins, minlength=BINS)
        self.right += np.bincount(bins[is_right], minlength=BINS)
        self.sure += np.bincount(bins, confidence, BINS)

    def figures(self) -> dict[str, Any]:
        """ece: how far confidence and accuracy of a bin are apart, on average over the pixels."""
        total = int(self.pixels.sum())
        return {
            "ece": float(np.abs(self.sure - self.right).sum() / total) if total else None,
            "mean_confidence": float(self.sure.sum() / total) if total else None,
            "reliability": [self._bin(number) for number in range(BINS)],
        }

    def _bin(self, number: int) -> dict[str, float | None]:
        pixels = int(self.pixels[number])
        return {
            "from": number / BINS,
            "to": (number + 1) / BINS,
            "pixels": pixels,
            "confidence": float(self.sure[number] / pixels) if pixels else None,
            "accuracy": float(self.right[number] / pixels) if pixels else None,
        }
