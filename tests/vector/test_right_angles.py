"""Outlines with right angles, held against the shapes that wobble was added to."""

from itertools import pairwise

import numpy as np
import pytest

from rsseg_cli.vector import right_angles as module
from rsseg_cli.vector.chains import offsets_of
from rsseg_cli.vector.right_angles import Loops, following, square

BLOCK = [0, 20, 20 + 12j, 12j]
ANGLE = [0, 24, 24 + 10j, 10 + 10j, 10 + 22j, 22j]
HORSESHOE = [0, 30, 30 + 30j, 20 + 30j, 20 + 10j, 10 + 10j, 10 + 30j, 30j]


def loops_of(*outlines: list[complex] | np.ndarray) -> Loops:
    parts = [np.asarray(outline, np.complex128) for outline in outlines]
    return Loops(np.concatenate(parts), offsets_of(np.array([len(part) for part in parts])))


def dense(corners: list[complex], steps: int = 20) -> np.ndarray:
    ends = [*corners, corners[0]]
    return np.concatenate([np.linspace(a, b, steps, endpoint=False) for a, b in pairwise(ends)])


def wobbling(corners: list[complex], turn: float, rng: np.random.Generator) -> np.ndarray:
    points = dense(corners)
    noise = rng.uniform(-0.5, 0.5, (2, len(points)))
    return np.roll((points + noise[0] + 1j * noise[1]) * np.exp(1j * turn) + 500 + 900j, rng.integers(len(points)))


def parts(loops: Loops) -> list[np.ndarray]:
    return np.split(loops.points, loops.offsets[1:-1])


def area(points: np.ndarray) -> float:
    return float((points.conj() * np.roll(points, -1)).imag.sum() / 2)


@pytest.mark.parametrize("corners", [BLOCK, ANGLE, BLOCK[::-1], ANGLE[::-1]])
def test_wobbling_outlines_become_what_they_were(corners: list[complex]) -> None:
    rng = np.random.default_rng(7)
    turns = rng.uniform(0, 2 * np.pi, 60)
    found = square(loops_of(*(wobbling(corners, turn, rng) for turn in turns)), np.arange(60), 1.5)
    assert (found.sizes == len(corners)).mean() > 0.95
    for points, turn in zip(parts(found), turns, strict=True):
        true = np.asarray(corners) * np.exp(1j * turn) + 500 + 900j
        assert area(points) == pytest.approx(area(true), rel=0.05)
        if len(points) == len(corners):
            assert np.abs(points[:, np.newaxis] - true).min(axis=0).max() < 2


def test_all_angles_are_right_and_go_round() -> None:
    rng = np.random.default_rng(8)
    found = square(loops_of(*(wobbling(HORSESHOE, turn, rng) for turn in (0.1, 0.9, 2.0))), np.arange(3), 1.5)
    steps = found.points[following(found.offsets)] - found.points
    turns = steps[following(found.offsets)] / steps
    assert np.allclose((turns / np.abs(turns)).real, 0, atol=1e-9)
    assert found.sizes.tolist() == [8, 8, 8]


@pytest.mark.parametrize("turn", [0, 0.3])
def test_what_is_square_stays(turn: float) -> None:
    true = np.asarray(ANGLE) * np.exp(1j * turn)
    found = square(loops_of(true), np.array([0]), 1.5)
    assert np.abs(found.points[:, np.newaxis] - true).min(axis=0).max() < 1e-9
    assert area(found.points) == pytest.approx(area(true))


def test_loops_of_a_group_lie_the_same_way() -> None:
    rng = np.random.default_rng(9)
    house = wobbling([0, 60, 60 + 50j, 50j], 0.4, rng)
    court = wobbling([20 + 20j, 20 + 30j, 32 + 30j, 32 + 20j], 0.46, rng)
    together, apart = (square(loops_of(house, court), np.array(group), 1.5) for group in ([0, 0], [0, 1]))

    def angle(points: np.ndarray) -> float:
        return float(np.degrees(np.angle(points[1] - points[0])) % 90)

    assert angle(parts(together)[0]) == pytest.approx(angle(parts(together)[1]), abs=1e-6)
    assert abs(angle(parts(apart)[0]) - angle(parts(apart)[1])) > 1


def test_steps_shorter_than_a_side_are_left_out() -> None:
    step = [0, 10, 10 + 1.6j, 20 + 1.6j, 20 + 12j, 12j]
    found = square(loops_of(dense(step), dense(ANGLE)), np.arange(2), 0.5)
    assert found.sizes.tolist() == [4, 6]
    assert area(parts(found)[0]) == pytest.approx(area(np.asarray(step)), rel=0.01)


def test_what_has_not_four_sides_or_far_too_many_has_no_points(monkeypatch: pytest.MonkeyPatch) -> None:
    thin = [0, 30, 30 + 1j, 1j]
    assert square(loops_of(thin, BLOCK), np.arange(2), 1.5).sizes.tolist() == [0, 4]
    monkeypatch.setattr(module, "MOST_SIDES", 5)
    assert square(loops_of(dense(BLOCK), dense(ANGLE)), np.arange(2), 1.5).sizes.tolist() == [4, 0]
    assert square(loops_of(dense(ANGLE)), np.arange(1), 1.5).sizes.tolist() == [0]
