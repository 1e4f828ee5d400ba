"""The published method on files: the map is the network's, wherever it is cut, and what cannot be done is said."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
import torch
from rasterio.windows import Window
from rsseg_models import metric_cd_paper
from rsseg_models.change_features import open_extractor
from rsseg_models.optimise import Report

from rsseg_cli.change import comparison, detection, paper
from rsseg_cli.change.detection import Request, detect
from rsseg_cli.change.methods import Choice, fit
from rsseg_cli.change.pair import Pair, PairOptions, open_pair
from rsseg_cli.change.paper import fit_paper, in_time, odds, settings_of
from rsseg_cli.errors import RssegError
from rsseg_cli.progress import Step

SAMPLE = Path(__file__).parents[2] / "sample_scenes" / "change"
# Row, column and side: some changes, and a corner that the later date does not hold. The other is its inner part.
CROP, SMALL = (0, 160, 64), (0, 196, 28)
QUICK = Choice("metric-cd-paper", "random", steps=2)


@pytest.fixture
def dates(tmp_path: Path) -> tuple[str, str]:
    return crop("before", tmp_path), crop("after", tmp_path)


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    dates = (crop(name, tmp_path, SMALL) for name in ("before", "after"))
    return open_pair(*dates, PairOptions(align="grid"))


def crop(name: str, folder: Path, place: tuple[int, int, int] = CROP) -> str:
    row, col, side = place
    window, path = Window(col, row, side, side), folder / f"{name}.tif"
    with rasterio.open(SAMPLE / path.name) as whole:
        profile = whole.profile | {"width": side, "height": side, "transform": whole.window_transform(window)}
        with rasterio.open(path, "w", **profile) as part:
            part.write(whole.read(window=window))
            part.descriptions = whole.descriptions
    return str(path)


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return np.asarray(dataset.read(1))


def everything(found: comparison.Detector, pair: Pair) -> np.ndarray:
    return found.distance(pair, pair.grid.window)


def test_the_command_from_end_to_end(rsseg: Callable, dates: tuple[str, str], tmp_path: Path) -> None:
    call = ["detect-change", *dates, "-o", "m.tif", "--probability", "s.tif", "--polygons", "p.gpkg", "--json"]
    method = ["--method", "metric-cd-paper", "--encoder", "random", "--steps", "2", "--set", "threshold=0.52"]
    ended = rsseg(*call, *method)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    expected = {"method": "metric-cd-paper", "delivered": "metric-cd", "steps": 2, "stopped_by": "steps"}
    assert {name: found[name] for name in expected} == expected
    assert found["threshold"] == {"rule": "auto", "value": 0.52}
    mask, score, held = read(tmp_path / "m.tif"), read(tmp_path / "s.tif"), read(tmp_path / "after.tif") != 0
    np.testing.assert_array_equal(mask != 255, held)
    np.testing.assert_array_equal(np.isnan(score), ~held)
    np.testing.assert_array_equal(mask[held] == 1, score[held] > 0.52)
    assert set(np.unique(mask)) == {0, 1, 255}
    assert (tmp_path / "p.gpkg").is_file()


def test_the_map_is_that_of_the_method_for_the_same_seed_and_steps(pair: Pair) -> None:
    choice = replace(QUICK, seed=3, settings={"norm": "joint"})
    features = open_extractor("random", pair.before.names, seed=3)
    before, after = (torch.from_numpy(date) for date in pair.read())
    valid = torch.ones(pair.grid.shape, dtype=torch.bool)
    settings = metric_cd_paper.Settings(norm="joint", steps=2)
    expected = metric_cd_paper.detect(before, after, valid, features, settings, seed=3).numpy()
    found = everything(fit_paper(choice, pair), pair)
    np.testing.assert_allclose(found / (1 + found), expected, atol=1e-6)
    assert np.isnan(found).any()
    assert not np.array_equal(found, everything(fit_paper(replace(choice, seed=4), pair), pair), equal_nan=True)


def test_a_window_is_cut_out_of_the_whole(pair: Pair) -> None:
    found = fit(QUICK, pair)
    whole = everything(found, pair)
    np.testing.assert_array_equal(found.distance(pair, Window(10, 5, 15, 20)), whole[5:25, 10:25])


def test_blocks_do_not_show(dates: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    masks = []
    for block_px in (512, 24):
        monkeypatch.setattr(comparison, "BLOCK_PX", block_px)
        monkeypatch.setattr(detection, "BLOCK_PX", block_px)
        score = tmp_path / f"s{block_px}.tif"
        choice = replace(QUICK, steps=1)
        request = Request(*dates, tmp_path / f"m{block_px}.tif", choice=choice, score=score, threshold=0.5)
        assert detect(request, 0.0)["threshold"] == {"rule": "given", "value": 0.5}
        masks.append((read(request.output), read(score)))
    np.testing.assert_array_equal(masks[0][0], masks[1][0])
    np.testing.assert_array_equal(masks[0][1], masks[1][1])


def test_it_stops_in_time_with_what_it_has(pair: Pair) -> None:
    stopped = fit_paper(replace(QUICK, steps=50, minutes=1e-6), pair)
    assert (stopped.steps, stopped.stopped_by) == (1, "minutes")
    done = fit_paper(replace(QUICK, steps=1, minutes=60), pair)
    assert (done.steps, done.stopped_by) == (1, "steps")
    np.testing.assert_array_equal(everything(stopped, pair), everything(done, pair))


@pytest.mark.parametrize(("deadline", "steps"), [(5.0, 1), (20.0, 1), (21.0, 2), (40.0, 4), (42.0, 5), (1e9, 10)])
def test_there_is_time_for_another_step_and_the_map(
    deadline: float, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def reports() -> Iterator[Report]:
        nonlocal now
        for step in range(1, 11):
            now += 7
            yield Report(step, {}, 7.0)

    monkeypatch.setattr(paper, "time", SimpleNamespace(monotonic=lambda: now))
    assert len(list(in_time(reports(), deadline))) == steps
    assert now <= max(deadline - 7, 7) or steps == 10


def test_steps_are_told(pair: Pair) -> None:
    told: list[tuple[str, int, int]] = []

    def track(steps: Iterable[Step], label: str, total: int) -> Iterator[Step]:
        for number, step in enumerate(steps, 1):
            told.append((label, number, total))
            yield step

    fit(QUICK, pair, track)
    assert told == [("optimising", 1, 2), ("optimising", 2, 2)]


def test_odds_are_finite_and_order_pixels_as_the_map_does() -> None:
    found = odds(torch.tensor([0.0, 0.5, 0.7, 1.0, torch.nan]))
    np.testing.assert_allclose(found[:4], [1e-6, 1, 7 / 3, 1e6], rtol=1e-5)
    assert np.isnan(found[4])


def test_steps_of_the_option_win_over_the_setting() -> None:
    settings = settings_of(Choice("metric-cd-paper", steps=7, settings={"steps": "9", "norm": "joint", "pcc": "false"}))
    assert (settings.steps, settings.norm, settings.pcc) == (7, "joint", False)
    assert settings_of(Choice("metric-cd-paper")) == metric_cd_paper.Settings()


def test_a_pair_too_large_is_refused_before_it_is_read(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pair, "read", lambda *_: pytest.fail("it was read"))
    with pytest.raises(RssegError, match=r"28 x 28 pixels need about 0\.0 GB") as refused:
        fit_paper(replace(QUICK, settings={"memory_gb": "0.001"}), pair)
    assert "memory_gb above 0.001" in refused.value.hint


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (replace(QUICK, settings={"speed": "1"}), "no such setting: speed"),
        (replace(QUICK, settings={"threshold": "much"}), "threshold = much: not a number"),
        (replace(QUICK, settings={"norm": "none"}), "norm = none"),
        (replace(QUICK, steps=0), "steps = 0: out of range"),
        (replace(QUICK, encoder="none"), "--encoder none: metric-cd-paper compares by the features"),
        (replace(QUICK, encoder="resnet"), "no encoder 'resnet'"),
        (replace(QUICK, device="cuda:99"), "--device cuda:99"),
    ],
)
def test_what_it_cannot_do_is_refused_in_words(pair: Pair, choice: Choice, words: str) -> None:
    with pytest.raises(RssegError, match=words):
        fit_paper(choice, pair)


@pytest.mark.parametrize(
    ("failure", "words", "hint"),
    [
        (FloatingPointError("a loss is no number any more at step 2"), "at step 2", "learning_rate"),
        (torch.OutOfMemoryError("CUDA out of memory"), "28 x 28 pixels on cpu: not enough memory", "--aoi"),
    ],
)
def test_what_goes_wrong_on_the_way_is_said_in_words(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, failure: Exception, words: str, hint: str
) -> None:
    def broken(*_: object) -> Iterator[Report]:
        yield Report(1, {}, 0.1)
        raise failure

    monkeypatch.setattr(paper, "optimise", broken)
    with pytest.raises(RssegError, match=words) as refused:
        fit_paper(QUICK, pair)
    assert hint in refused.value.hint


def test_the_published_encoder_is_taken_where_none_is_named(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "rsseg_cli"):
        fit_paper(Choice("metric-cd-paper", steps=1), pair)
    assert "vgg16 compares by random weights" in caplog.text
