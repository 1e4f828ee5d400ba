"""What is learned from: pixels of a pair with known changes, and others of other ground that are kept back."""

from dataclasses import dataclass

import numpy as np
import pytest
from pairs import changed, ground, later, pair_of

from rsseg_cli.change import sampling
from rsseg_cli.change.distance import fit_distance
from rsseg_cli.change.levels import Levels
from rsseg_cli.change.pair import Pair
from rsseg_cli.change.sampling import UNCHANGED, Drawn, Table, draw
from rsseg_cli.change.spread import spread
from rsseg_cli.change.threshold import count, threshold
from rsseg_cli.progress import untracked


@dataclass(frozen=True)
class Places:
    """In place of levels of distance: bands that say where a pixel lies, as both dates have them."""

    def of(self, before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        noise = np.random.default_rng(0).lognormal(0, 0.3, before.shape[1:]).astype(np.float32)
        return np.where(np.isnan(before[0]), np.float32(np.nan), noise), np.concatenate([before, after])


def placed(height: int, width: int, gaps: np.ndarray | None = None) -> Pair:
    where = np.indices((height, width)).astype(np.float32)
    if gaps is not None:
        where[:, gaps] = np.nan
    return pair_of(where, where)


def ground_of(table: Table) -> set[tuple[float, float]]:
    """Where the pixels lie that no known change covers."""
    return {tuple(place) for place in table.levels[~table.changed, :2].tolist()}


def drawn(pair: Pair, share: float = 0.1, seed: int = 0) -> Drawn:
    return draw(pair, Levels(fit_distance(pair), None), share, seed, untracked)


def test_what_is_drawn_of_a_pair() -> None:
    before = ground(128, 128)
    after, truth = changed(later(before))
    pair = pair_of(before, after)
    found = drawn(pair)
    assert found.limit == pytest.approx(threshold(count(fit_distance(pair).distance(*pair.read()))), rel=0.3)
    assert not found.real.changed.any()
    np.testing.assert_array_equal(found.real.as_it_is, found.real.classical)
    # Changes of the pair itself are in what is real, and not in what is known.
    assert (found.real.classical > found.limit).mean() == pytest.approx(truth.mean(), rel=0.5)
    for table in (found.known, found.kept_back):
        assert len(table.levels) == len(table.changed) == len(table.classical) > 1000
        assert table.as_it_is.max() < UNCHANGED * found.limit
        assert 0.05 < table.changed.mean() < 0.25
        assert np.isfinite(table.levels).all()
        assert np.median(table.classical[table.changed]) > 2 * np.median(table.classical[~table.changed])


def test_the_share_is_that_asked_for() -> None:
    pair = pair_of(ground(64, 64), later(ground(64, 64)))
    few, many = (drawn(pair, share).known.changed.mean() for share in (0.05, 0.4))
    assert 0.03 < few < 0.15 < 0.3 < many < 0.5


@pytest.mark.parametrize(("height", "width"), [(96, 96), (97, 130), (128, 128), (200, 200), (70, 400)])
def test_what_is_kept_back_is_other_ground(height: int, width: int) -> None:
    found = draw(placed(height, width), Places(), 0.05, 0, untracked)  # type: ignore[arg-type]
    learned, kept_back = ground_of(found.known), ground_of(found.kept_back)
    assert min(len(learned), len(kept_back)) > 500
    assert not learned & kept_back


def test_either_date_is_changed_while_the_other_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a raster so small that all of its pixels are taken, in order."""
    monkeypatch.setattr(sampling, "UNCHANGED", np.inf)
    found = draw(placed(40, 40), Places(), 0.1, 0, untracked).known  # type: ignore[arg-type]
    places = np.indices((40, 40)).reshape(2, -1).T
    for date, rows in enumerate((slice(0, 1600), slice(1600, 3200))):
        dates = found.levels[rows, :2], found.levels[rows, 2:]
        np.testing.assert_array_equal((dates[date] != places).any(axis=1), found.changed[rows])
        np.testing.assert_array_equal(dates[1 - date], places)
    assert len(found.levels) == 3200


def test_a_raster_of_one_window_keeps_nothing_back() -> None:
    found = draw(placed(40, 40), Places(), 0.1, 0, untracked)  # type: ignore[arg-type]
    assert found.known is found.kept_back


@pytest.mark.parametrize("is_kept_back_empty", [True, False])
def test_where_one_part_is_all_gaps_the_other_serves_for_both(is_kept_back_empty: bool) -> None:
    kept_back = np.zeros((192, 192), bool)
    pair = placed(192, 192)
    for window in spread(pair.grid, 256, 64)[3::4]:
        kept_back[window.toslices()] = True
    gaps = kept_back if is_kept_back_empty else ~kept_back
    found = draw(placed(192, 192, gaps), Places(), 0.1, 0, untracked)  # type: ignore[arg-type]
    assert found.known is found.kept_back
    assert found.known.changed.any()
    for place in ground_of(found.known):
        assert not gaps[int(place[0]), int(place[1])]


def test_ground_without_known_changes_is_no_trouble() -> None:
    """Each piece would lie over a gap."""
    gaps = np.zeros((96, 96), bool)
    gaps[::3, ::3] = True
    found = draw(placed(96, 96, gaps), Places(), 0.1, 0, untracked)  # type: ignore[arg-type]
    assert not found.known.changed.any()
    assert not found.kept_back.changed.any()
    assert len(found.real.levels) > 0


def test_the_seed_decides() -> None:
    pair = pair_of(ground(64, 64), later(ground(64, 64)))
    one, same, other = (drawn(pair, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.known.levels, same.known.levels)
    np.testing.assert_array_equal(one.kept_back.changed, same.kept_back.changed)
    assert not np.array_equal(one.known.changed[:1000], other.known.changed[:1000])
