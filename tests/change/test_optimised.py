"""metric-cd on pairs: it tells more than the classical distance, or delivers that; and no truth is asked."""

import ast
import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from pairs import changed, ground, later, pair_of
from rasterio.windows import Window

from rsseg_cli.change import optimised
from rsseg_cli.change.detection import Request
from rsseg_cli.change.methods import Choice, Detector
from rsseg_cli.change.optimised import Fusion, WeighedModel, fit_optimised
from rsseg_cli.change.pair import Pair, PairOptions, open_pair
from rsseg_cli.change.threshold import count, threshold
from rsseg_cli.errors import RssegError

ROOT = Path(__file__).parents[2]
QUICK, LONGER = Choice(steps=20), Choice(steps=40, seed=1)


@pytest.fixture
def always_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was learned is looked at however little it gains."""
    monkeypatch.setattr(optimised, "LEAST_GAIN", -2.0)


@pytest.fixture(scope="module")
def fitted() -> tuple[Pair, np.ndarray, Detector]:
    pair, truth = drawn(144)
    return pair, truth, fit_optimised(LONGER, pair)


def drawn(side: int = 64, bands: int = 3) -> tuple[Pair, np.ndarray]:
    before = ground(side, side, bands)
    after, truth = changed(later(before, noise=4.0), patches=10, side_px=6)
    return pair_of(before, after), truth


def everything(found: Detector, pair: Pair) -> np.ndarray:
    return found.distance(pair, pair.grid.window)


def flagged(distance: np.ndarray) -> np.ndarray:
    return distance > threshold(count(distance))


def told(score: np.ndarray, truth: np.ndarray) -> float:
    """Average precision."""
    hits = truth.ravel()[np.argsort(-score.ravel())]
    return float((np.cumsum(hits) / np.arange(1, hits.size + 1))[hits].mean())


# What it finds.


def test_it_tells_more_than_the_classical_distance(fitted: tuple[Pair, np.ndarray, Detector]) -> None:
    pair, truth, found = fitted
    assert (found.delivered, found.steps, found.stopped_by) == ("fusion", 40, "steps")
    assert found.base is not None
    distance = everything(found, pair)
    assert told(distance, truth) > told(found.base.distance(*pair.read()), truth) + 0.005
    assert (flagged(distance) & truth).sum() > 0.9 * truth.sum()
    assert np.isfinite(distance).all()
    assert distance.dtype == np.float32


@pytest.mark.parametrize("noise", [1.0, 6.0])
def test_another_light_and_noise_are_no_change(noise: float) -> None:
    pair = pair_of(ground(), later(ground(), noise))
    distance = everything(fit_optimised(QUICK, pair), pair)
    assert (distance > threshold(count(distance), "null")).mean() <= 0.02
    assert flagged(distance).mean() <= 0.005


def test_more_noise_than_it_was_fitted_to_is_farther(fitted: tuple[Pair, np.ndarray, Detector]) -> None:
    (before, _), found = fitted[0].read(), fitted[2]
    middles = [np.median(found.model.distance(before, later(before, noise))) for noise in (4.0, 8.0, 16.0)]
    assert 1.3 * middles[0] < middles[1]
    assert 1.3 * middles[1] < middles[2]


@pytest.mark.parametrize("encoder", [None, "random"])
def test_equal_dates_have_not_changed(encoder: str | None) -> None:
    pair = pair_of(ground(64, 64), ground(64, 64))
    distance = everything(fit_optimised(replace(QUICK, encoder=encoder), pair), pair)
    assert not flagged(distance).any()


# The same wherever it is cut, whoever counts.


@pytest.mark.usefixtures("always_fused")
@pytest.mark.parametrize("encoder", [None, "mobilenet-v2"])
def test_blocks_do_not_show(encoder: str | None) -> None:
    pair, _ = drawn(96)
    found = fit_optimised(replace(QUICK, encoder=encoder), pair)
    assert isinstance(found.model, WeighedModel)
    whole = everything(found, pair)
    for side in (24, 64):
        made = np.zeros_like(whole)
        for row in range(0, 96, side):
            for col in range(0, 96, side):
                window = Window(col, row, min(side, 96 - col), min(side, 96 - row))
                made[window.toslices()] = found.distance(pair, window)
        scores = (each / (1 + each) for each in (made, whole))
        np.testing.assert_allclose(*scores, atol=1e-5)


@pytest.mark.usefixtures("always_fused")
def test_the_seed_decides_and_matters_little(fitted: tuple[Pair, np.ndarray, Detector]) -> None:
    pair, _, found = fitted
    one = everything(found, pair)
    same, other = (everything(fit_optimised(replace(LONGER, seed=seed), pair), pair) for seed in (1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert np.corrcoef(np.log(one).ravel(), np.log(other).ravel())[0, 1] > 0.95
    assert (flagged(one) != flagged(other)).mean() < 0.02


@pytest.mark.usefixtures("always_fused")
def test_the_order_of_the_dates_matters_little(fitted: tuple[Pair, np.ndarray, Detector]) -> None:
    pair, _, found = fitted
    swapped = pair_of(*reversed(pair.read()))
    one, other = everything(found, pair), everything(fit_optimised(LONGER, swapped), swapped)
    assert np.corrcoef(np.log(one).ravel(), np.log(other).ravel())[0, 1] > 0.95
    assert (flagged(one) != flagged(other)).mean() < 0.02


@pytest.mark.usefixtures("always_fused")
@pytest.mark.parametrize("encoder", [None, "random"])
def test_values_where_there_is_nothing_do_not_matter(encoder: str | None) -> None:
    """The earlier date has a gap; the later one holds whatever it holds there."""
    before, after = drawn()[0].read()
    before[:, 20:50, 30:45] = np.nan
    distances = []
    for value in (0, 1e4):
        after[:, 20:50, 30:45] = value
        pair = pair_of(before, after.copy())
        distances.append(everything(fit_optimised(replace(QUICK, encoder=encoder), pair), pair))
    np.testing.assert_array_equal(*distances)
    np.testing.assert_array_equal(np.isnan(distances[0]), np.isnan(before[0]))


@pytest.mark.usefixtures("always_fused")
def test_bytes_are_as_good_as_floats(make_raster: Callable[..., Path]) -> None:
    dates = [date.clip(0, 255).astype(np.uint8) for date in drawn()[0].read()]
    found = []
    for kind in (np.uint8, np.float32):
        names = [str(make_raster(f"{n}_{kind.__name__}.tif", date.astype(kind))) for n, date in enumerate(dates)]
        pair = open_pair(*names, PairOptions(align="grid"))
        found.append(everything(fit_optimised(QUICK, pair), pair))
    np.testing.assert_array_equal(*found)


# Pairs that show little.


@pytest.mark.parametrize("encoder", [None, "random"])
@pytest.mark.parametrize(("side", "bands"), [(16, 3), (23, 1), (40, 7)])
def test_small_pairs_and_any_number_of_bands(side: int, bands: int, encoder: str | None) -> None:
    pair, _ = drawn(side, bands)
    distance = everything(fit_optimised(replace(QUICK, encoder=encoder), pair), pair)
    assert distance.shape == (side, side)
    assert np.isfinite(distance).all()


def corner(pixels: int) -> np.ndarray:
    """And nothing else."""
    held = np.zeros((100, 100), bool)
    held[-pixels:, -pixels:] = True
    return held


def stripes(every: int) -> np.ndarray:
    """Nothing in one row of so many."""
    return np.indices((64, 64))[0] % every > 0


@pytest.mark.parametrize("encoder", [None, "random"])
@pytest.mark.parametrize("held", [corner(12), corner(40), stripes(4)], ids=["speck", "corner", "stripes"])
def test_pairs_of_mostly_nothing(held: np.ndarray, encoder: str | None) -> None:
    before = ground(*held.shape)
    after = changed(later(before))[0]
    pair = pair_of(np.where(held, before, np.float32(np.nan)), after)
    distance = everything(fit_optimised(replace(QUICK, encoder=encoder), pair), pair)
    np.testing.assert_array_equal(np.isfinite(distance), held)


def test_where_no_known_change_can_be_placed_the_classical_distance_is_delivered() -> None:
    """Each piece would lie over a gap."""
    before = np.where(stripes(3), ground(64, 64), np.float32(np.nan))
    pair = pair_of(before, later(ground(64, 64)))
    found = fit_optimised(QUICK, pair)
    assert found.delivered == "classical"
    assert found.base is not None
    np.testing.assert_array_equal(everything(found, pair), found.base.distance(*pair.read()))


def test_uniform_ground_has_not_changed() -> None:
    before = np.full((3, 64, 64), 7, np.float32)
    before[:, 40:44] = 9
    noise = np.random.default_rng(0).normal(0, 0.1, before.shape)
    pair = pair_of(before, before + noise.astype(np.float32))
    assert not flagged(everything(fit_optimised(QUICK, pair), pair)).any()


# No harm, and no waste.


def test_with_nothing_to_gain_the_classical_distance_is_delivered_and_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(optimised, "LEAST_GAIN", 2.0)
    pair, _ = drawn()
    with caplog.at_level("INFO", "rsseg_cli"):
        found = fit_optimised(QUICK, pair)
    assert (found.delivered, found.steps, found.model) == ("classical", 20, found.base)
    assert "classical" in caplog.messages[-1]


@pytest.mark.usefixtures("always_fused")
@pytest.mark.parametrize(
    ("choice", "steps", "stopped_by"),
    [
        (Choice(minutes=1e-6), 10, "minutes"),
        # Where nothing is learned, nothing is told better.
        (Choice(settings={"learning_rate": "0", "patience": "2"}), 20, "no better"),
        (Choice(steps=13), 13, "steps"),
    ],
)
def test_why_it_stopped_is_known(choice: Choice, steps: int, stopped_by: str) -> None:
    found = fit_optimised(choice, drawn()[0])
    assert (found.steps, found.stopped_by, found.delivered) == (steps, stopped_by, "fusion")


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"stepz": "3"}, "no such setting: stepz"), ({"patience": "0"}, "patience = 0"), ({"trust": "much"}, "a number")],
)
def test_settings_that_are_none_are_refused_in_words(settings: dict[str, str], words: str) -> None:
    with pytest.raises(RssegError, match=words):
        fit_optimised(Choice(settings=settings), drawn(16)[0])


# The fusion.


def measured(pixels: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """(classical distances, logits that say something of their own)."""
    rng = np.random.default_rng(0)
    known = rng.standard_normal(pixels)
    return np.exp(known).astype(np.float32), (5 * known + 3 * rng.standard_normal(pixels) - 20).astype(np.float32)


@pytest.mark.parametrize("trust", [0.0, 1.0, 2.0])
def test_as_many_pixels_lie_beyond_any_limit_as_before(trust: float) -> None:
    classical, logits = measured()
    distance = Fusion.of(classical, logits, trust).distance(classical, logits)
    for limit in (0.2, 1.0, 3.0, 8.0):
        assert (distance > limit).mean() == pytest.approx((classical > limit).mean(), abs=2e-3)
    assert (distance > 3).sum() > 1000
    if trust:
        assert ((distance > 3) != (classical > 3)).any()
    else:
        np.testing.assert_allclose(distance, classical, rtol=0.02)


def test_what_was_learned_and_the_classical_distance_both_count() -> None:
    classical, logits = measured()
    fusion = Fusion.of(classical, logits, 1.0)
    one = np.ones(50, np.float32)
    middle, rising = np.full(50, np.median(logits)), np.linspace(-60, 40, 50, dtype=np.float32)
    assert (np.diff(fusion.distance(one, rising)) > 0).all()
    assert (np.diff(fusion.distance(np.exp(rising / 10), middle)) > 0).all()


@pytest.mark.parametrize("trust", [1.0, 50.0])
def test_beyond_what_was_sampled_steps_are_as_wide_as_within(trust: float) -> None:
    """However much is added up, what stands out does not get so far that no histogram of distances holds it."""
    classical, logits = measured()
    fusion = Fusion.of(classical, logits, trust)
    once, twice = logits.max() + np.ptp(fusion.fused) / fusion.weight * np.arange(1, 3, dtype=np.float32)
    apart = np.log(fusion.distance(np.full(2, classical.max()), np.asarray([once, twice])))
    assert apart[1] - apart[0] == pytest.approx(np.ptp(fusion.classical), rel=1e-3)


def test_ties_are_no_trouble() -> None:
    """Of pixels that are all alike, none stands out."""
    classical, logits = measured()
    for one, other in ((np.full_like(classical, 0.5), logits), (classical, np.zeros_like(logits))):
        distance = Fusion.of(one, other, 2.0).distance(one, other)
        assert np.isfinite(distance).all()
        assert distance.max() <= 1.01 * one.max()
    half = np.where(np.arange(len(classical)) % 2, classical, np.float32(0))
    distance = Fusion.of(half, 0 * logits, 2.0).distance(half, 0 * logits)
    assert (distance > 1).mean() == pytest.approx((half > 1).mean(), abs=2e-3)


# No truth.


def names_in(path: Path) -> Iterator[str]:
    """Of everything but comments and docstrings."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        found = (getattr(node, part, None) for part in ("id", "attr", "arg", "name", "module"))
        yield from (name.lower() for name in found if isinstance(name, str))


def test_nothing_that_looks_for_changes_looks_at_a_truth() -> None:
    files = [*(ROOT / "rsseg_cli" / "change").glob("*.py"), *(ROOT / "models" / "rsseg_models").glob("metric_cd*.py")]
    assert len(files) > 20
    words = ("truth", "rsseg_cli.evaluation", "rsseg_cli.scores", "rsseg_cli.samples", "rsseg_cli.holdout")
    found = {(path.name, name) for path in files for name in names_in(path) for word in words if word in name}
    assert found == set()


def test_no_truth_goes_in() -> None:
    assert [*inspect.signature(fit_optimised).parameters] == ["choice", "pair", "track"]
    taken = {field.name for kind in (Choice, PairOptions, Request) for field in fields(kind)}
    # Class maps of both dates say what changed into what, when it is known that it changed.
    assert {name for name in taken if "label" in name or "class" in name} == {"before_classes", "after_classes"}
