"""Features tuned on a pair, through the whole of metric-cd."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pairs import changed, ground, later, pair_of
from rasterio.windows import Window

from rsseg_cli.change import optimised
from rsseg_cli.change.methods import Choice, Detector
from rsseg_cli.change.optimised import WeighedModel, fit_optimised
from rsseg_cli.change.pair import Pair
from rsseg_cli.errors import RssegError

QUICK = Choice(encoder="random", steps=10, settings={"tune": "0.001"})


@pytest.fixture(autouse=True)
def always_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimised, "LEAST_GAIN", -2.0)


def drawn(side: int = 96) -> Pair:
    before = ground(side, side, 3)
    return pair_of(before, changed(later(before, noise=4.0))[0])


def levels_of(found: Detector, pair: Pair) -> np.ndarray:
    assert isinstance(found.model, WeighedModel)
    return found.model.levels.of(*pair.read())[1]


def test_features_move_and_the_classical_levels_do_not() -> None:
    pair = drawn()
    tuned, plain = (levels_of(fit_optimised(choice, pair), pair) for choice in (QUICK, replace(QUICK, settings={})))
    np.testing.assert_array_equal(tuned[:4], plain[:4])
    assert np.abs(tuned[4:] - plain[4:]).max() > 0.01


def test_the_seed_decides_and_blocks_do_not_show() -> None:
    pair = drawn()
    found, again = fit_optimised(QUICK, pair), fit_optimised(QUICK, pair)
    whole = found.distance(pair, pair.grid.window)
    np.testing.assert_array_equal(whole, again.distance(pair, pair.grid.window))
    part = found.distance(pair, Window(24, 48, 40, 24))
    np.testing.assert_allclose(part, whole[48:72, 24:64], rtol=1e-3)


def test_steps_are_told_as_they_are_done() -> None:
    told: dict[str, tuple[int, int]] = {}

    def track(steps: Iterable[Any], label: str, total: int) -> Iterator[Any]:
        for done, step in enumerate(steps, 1):
            told[label] = (done, total)
            yield step

    fit_optimised(QUICK, drawn(16), track)
    assert told["tuning features"] == (10, 10)


@pytest.mark.parametrize("side", [16, 23, 64])
def test_small_pairs(side: int) -> None:
    pair = drawn(side)
    assert np.isfinite(fit_optimised(QUICK, pair).distance(pair, pair.grid.window)).all()


def test_without_an_encoder_there_is_nothing_to_tune() -> None:
    with pytest.raises(RssegError, match="no features to tune") as refused:
        fit_optimised(replace(QUICK, encoder=None), drawn(16))
    assert "--encoder" in str(refused.value.hint)


def test_where_no_known_change_can_be_placed_features_stay_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    before = np.where(np.indices((64, 64))[0] % 3 > 0, ground(64, 64), np.float32(np.nan))
    pair = pair_of(before, later(ground(64, 64)))
    tuned, plain = (levels_of(fit_optimised(choice, pair), pair) for choice in (QUICK, replace(QUICK, settings={})))
    assert "features stay as they are" in caplog.text
    np.testing.assert_array_equal(tuned, plain)
