"""Scores a map against the truth, window by window: memory stays flat whatever the size."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.windows import Window
from scipy import ndimage

from rsseg_cli.class_files import read_classes
from rsseg_cli.classes import UNLABELLED, ClassScheme, LabelClass, join
from rsseg_cli.errors import RssegError
from rsseg_cli.labels import BACKGROUND, PolygonOptions, is_vector, open_labels
from rsseg_cli.progress import Track, untracked
from rsseg_cli.raster.align import align
from rsseg_cli.raster.dataset import open_raster
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.kept_open import kept_open
from rsseg_cli.raster.labels import Labels, MappedIds, align_labels
from rsseg_cli.raster.scene import Scene, open_file
from rsseg_cli.raster.tiles import block_count, blocks
from rsseg_cli.scores import Confusion, Ranking, Reliability

BLOCK_PX = 2048
SCORE_THRESHOLD = 0.5

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rules:
    """What counts as right, and where."""

    threshold: float | None = None  # a score from here on says the positive class; given, the prediction is a score
    positive: str | None = None  # name or number of the class a score is for; None: the higher of two
    boundary_px: int = 0  # pixels on either side of a true class border that are not scored
    ignore: tuple[str, ...] = ()  # names or numbers of true classes that are not scored


@kept_open()
def evaluate(
    prediction: str,
    truth: str,
    *,
    classes: str | None = None,
    prediction_classes: str | None = None,
    class_field: str | None = None,
    where: str | None = None,
    background: bool = False,
    confidence: str | None = None,
    rules: Rules | None = None,
    track: Track = untracked,
) -> dict[str, Any]:
    """IoU, F1, precision, recall and confusion of a label map; for a score or a two-class map also its ranking.

    With the confidence of a label map, also how far it can be trusted: expected calibration error and curve.
    Every labelled pixel of a truth raster counts once: the prediction is brought onto its grid by nearest
    neighbour. Polygons have no grid, so they are rasterised on the prediction's.
    """
    rules = rules or Rules()
    scheme = read_classes(classes) if classes else None
    predicted_scheme = read_classes(prediction_classes) if prediction_classes else scheme
    predicted = _open_prediction(prediction, predicted_scheme, rules.threshold is not None)
    options = PolygonOptions(class_field, where, background)
    true = _without(rules.ignore, open_labels(truth, predicted.grid, scheme, options))
    sure = _open_confidence(confidence, prediction, predicted) if confidence else None
    if isinstance(predicted, Scene):
        counts = _score_counts(align(predicted, true.grid, Resampling.nearest), true, rules, track)
    else:
        sure = align(sure, true.grid, Resampling.nearest) if sure else None
        counts = _label_counts(align_labels(predicted, true.grid), sure, true, rules, track)
    return _result(counts, "the prediction's grid" if is_vector(truth) else "the truth's grid")


@dataclass(frozen=True)
class _Counts:
    """All that the figures are made from."""

    confusion: Confusion
    ranking: Ranking | None = None  # of a score, or of a map of two classes
    positive: int | None = None  # the class that is ranked
    reliability: Reliability | None = None


def _result(counts: _Counts, scored_on: str) -> dict[str, Any]:
    confusion, ranking, positive = counts.confusion, counts.ranking, counts.positive
    figures = confusion.figures()
    if not figures["pixels"]:
        raise RssegError(
            "prediction and truth have no labelled pixel in common",
            "check with `rsseg info` that both cover the same ground and are not empty",
        )
    if ranking is not None and positive is not None:
        name = next(c.name for c in confusion.scheme.classes if c.id == positive)
        figures |= {"positive": name, **ranking.figures(), "f1": figures["classes"][name]["f1"]}
        if ranking.rounded_bits:
            logger.info("scores were rounded to %d bits: they are too many to rank each", 24 - ranking.rounded_bits)
    if not figures["accuracy"]:
        logger.warning(
            "no pixel agrees: do the numbers mean the same in both? --prediction-classes FILE can say what they mean"
        )
    absent = [name for name in confusion.scheme.names if name not in figures["classes_in_mean"]]
    if absent:
        logger.info("not in the truth, so not in the means: %s", ", ".join(absent))
    if figures["unpredicted_pixels"]:
        share = figures["unpredicted_pixels"] / (figures["unpredicted_pixels"] + figures["pixels"])
        logger.warning("the prediction says nothing on %.2f %% of the labelled pixels; they are left out", 100 * share)
    return figures | _trust(counts.reliability, figures["pixels"]) | {"scored_on": scored_on}


def _trust(reliability: Reliability | None, pixels: int) -> dict[str, Any]:
    if reliability is None:
        return {}
    if missing := 1 - reliability.pixels.sum() / pixels:
        logger.warning("no confidence is known for %.2f %% of the scored pixels", 100 * missing)
    return reliability.figures()


def _holds_scores(path: str) -> bool:
    """Fractions, or numbers with a scale, are scores; whole numbers are classes."""
    with open_raster(path) as dataset:
        if dataset.count > 1:
            return False
        if dataset.scales[0] != 1 or dataset.offsets[0] != 0:
            return True
        if not np.issubdtype(np.dtype(dataset.dtypes[0]), np.floating):
            return False
    scene = open_file(path)
    return any(_has_fractions(scene.values(window)) for window in blocks(scene.grid, BLOCK_PX))


def _has_fractions(values: NDArray[np.float32]) -> bool:
    held = values[np.isfinite(values)]
    return bool((held != np.round(held)).any())


def _open_prediction(path: str, scheme: ClassScheme | None, is_score: bool) -> Scene | Labels:
    """A map of scores as a scene, a map of classes as labels."""
    if is_vector(path):
        raise RssegError(
            f"{path}: the prediction is a vector file", "name the label raster it was made from", file=path
        )
    return open_file(path) if is_score or _holds_scores(path) else open_labels(path, None, scheme)


def _open_confidence(path: str, prediction: str, predicted: Scene | Labels) -> Scene:
    """One band beside a label map."""
    scene = open_file(path)
    if isinstance(predicted, Scene):
        raise RssegError(
            f"{prediction}: is a map of scores, and --confidence is for a map of classes",
            "name the map of classes that the confidence was written with",
            file=prediction,
        )
    if len(scene.bands) > 1:
        raise RssegError(
            f"{path}: has {len(scene.bands)} bands, and confidence is one",
            "name what `rsseg segment --confidence` wrote",
            file=path,
        )
    return scene


def _add_confidence(
    reliability: Reliability, scene: Scene, window: Window, truth: NDArray[np.uint8], said: NDArray[np.uint8]
) -> None:
    confidence = scene.values(window)[0]
    held = (truth != UNLABELLED) & (said != UNLABELLED) & ~np.isnan(confidence)
    found = confidence[held]
    if found.size and not (found.min() >= 0 and found.max() <= 1):
        raise RssegError(
            f"{scene.path}: holds {found.min():g} to {found.max():g}, and confidence goes from 0 to 1",
            "name what `rsseg segment --confidence` wrote",
            file=scene.path,
        )
    reliability.add(found, truth[held] == said[held])


def _label_counts(predicted: Labels, sure: Scene | None, true: Labels, rules: Rules, track: Track) -> _Counts:
    scheme, to_true = join(predicted.scheme, true.scheme)
    confusion, reliability = Confusion(scheme), Reliability() if sure else None
    positive = _positive(scheme, rules) if len(scheme.classes) == 2 or rules.positive is not None else None
    for window in _tracked(true.grid, track):
        truth = _scored_truth(true, window, rules)
        said = to_true[predicted.read(window)]
        confusion.add(truth, said)
        if sure and reliability:
            _add_confidence(reliability, sure, window, truth, said)
    ranking = None if positive is None else _ranking_of_map(confusion, positive)
    return _Counts(confusion, ranking, positive, reliability)


def _score_counts(scored: Scene, true: Labels, rules: Rules, track: Track) -> _Counts:
    positive = _positive(true.scheme, rules)
    scheme, negative = _against_all_others(true.scheme, positive)
    confusion, ranking = Confusion(scheme), Ranking()
    threshold = SCORE_THRESHOLD if rules.threshold is None else rules.threshold
    for window in _tracked(true.grid, track):
        truth = _scored_truth(true, window, rules)
        truth[(truth != UNLABELLED) & (truth != positive)] = negative
        scores = scored.values(window)[0]
        predicted = np.where(scores >= threshold, positive, negative).astype(np.uint8)
        predicted[np.isnan(scores)] = UNLABELLED
        confusion.add(truth, predicted)
        held = (truth != UNLABELLED) & ~np.isnan(scores)
        ranking.add(scores[held], truth[held] == positive)
    return _Counts(confusion, ranking, positive)


def _tracked(grid: Grid, track: Track) -> Iterable[Window]:
    return track(blocks(grid, BLOCK_PX), "scoring", block_count(grid, BLOCK_PX))


def _against_all_others(scheme: ClassScheme, positive: int) -> tuple[ClassScheme, int]:
    """(a scheme of the positive class and one that stands for all others, the other's id)."""
    others = [c for c in scheme.classes if c.id != positive]
    if len(others) != 1:
        free = min(set(range(UNLABELLED)) - {positive})
        others = [LabelClass(free, "other", "#d9d9d9", (free,))]
    chosen = [c for c in scheme.classes if c.id == positive] + others
    return ClassScheme(tuple(sorted(chosen, key=lambda c: c.id))), others[0].id


def _without(ignore: Sequence[str], labels: Labels) -> Labels:
    ignored = {c for text in ignore for c in labels.scheme.named(text)}
    for text in ignore:
        if not labels.scheme.named(text) and text.lstrip("-").isdigit():
            logger.info("--ignore %s: does not occur in the truth", text)  # it may in the next file of a batch
        elif not labels.scheme.named(text):
            raise RssegError(
                f"--ignore {text}: is no class of the truth", f"the classes are: {', '.join(labels.scheme.names)}"
            )
    kept = ClassScheme(tuple(c for c in labels.scheme.classes if c not in ignored))
    table = np.full(256, UNLABELLED, np.uint8)
    table[list(kept.ids)] = kept.ids
    return replace(labels, scheme=kept, source=MappedIds(labels.source, table)) if ignored else labels


def _positive(scheme: ClassScheme, rules: Rules) -> int:
    if rules.positive is not None:
        if found := scheme.named(rules.positive):
            return found[0].id
        raise RssegError(
            f"--positive {rules.positive}: is no class of the truth", f"the classes are: {', '.join(scheme.names)}"
        )
    if len(scheme.classes) > 2:
        raise RssegError(
            f"a score is for one class, and the truth has {len(scheme.classes)}: {', '.join(scheme.names)}",
            "say which one with --positive",
        )
    return max((c.id for c in scheme.classes if c.name.casefold() != BACKGROUND), default=1)


def _ranking_of_map(confusion: Confusion, positive: int) -> Ranking:
    """A map of two classes is a score of 0 or 1."""
    scored = confusion.counts[:UNLABELLED, :UNLABELLED]
    said_yes = np.array([scored.sum(axis=1) - scored[:, positive], scored[:, positive]])  # (no/yes, truth)
    hits = said_yes[:, positive]
    return Ranking(np.array([0, 1], np.float32), hits, said_yes.sum(axis=1) - hits)


def _scored_truth(true: Labels, window: Window, rules: Rules) -> NDArray[np.uint8]:
    """The truth of a window, with the bands along class borders taken out if that was asked for."""
    reach = rules.boundary_px
    if reach <= 0:
        return true.read(window)
    top, left = max(0, window.row_off - reach), max(0, window.col_off - reach)
    bottom = min(true.grid.height, window.row_off + window.height + reach)
    right = min(true.grid.width, window.col_off + window.width + reach)
    ids = true.read(Window(left, top, right - left, bottom - top))
    borders = _borders(ids)
    if borders.any():  # the distance to a border that does not exist is no number
        ids[ndimage.distance_transform_edt(~borders) < reach] = UNLABELLED
    row, col = window.row_off - top, window.col_off - left
    return ids[row : row + window.height, col : col + window.width]


def _borders(ids: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels with a neighbour of another class; the edge of what is labelled is no border."""
    border = np.zeros(ids.shape, bool)
    for axis in (0, 1):
        one, other = np.s_[:-1], np.s_[1:]
        first, second = (ids[one], ids[other]) if axis == 0 else (ids[:, one], ids[:, other])
        differs = (first != second) & (first != UNLABELLED) & (second != UNLABELLED)
        for part in (one, other):
            border[part if axis == 0 else (slice(None), part)] |= differs
    return border
