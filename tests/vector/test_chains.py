import numpy as np
import pytest

from rsseg_cli.vector import chains
from rsseg_cli.vector.chains import put_in_order


def walked(after: list[int]) -> list[list[int]]:
    """The same, one step after another."""
    firsts = sorted(set(range(len(after))) - set(after))
    found, seen = [], set()
    for first in [*firsts, *range(len(after))]:
        chain, at = [], first
        while at < len(after) and at not in seen:
            seen.add(at)
            chain.append(at)
            at = after[at]
        found += [chain] if chain else []
    return sorted(found)


@pytest.mark.parametrize("piece", [1, 3, 61])
@pytest.mark.parametrize("size", [1, 2, 5, 40, 1000])
@pytest.mark.parametrize("ends", [0, 1, 3, 1000])
def test_chains_and_circles_of_all_lengths(size: int, ends: int, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chains, "PIECE", piece)
    rng = np.random.default_rng(size + ends)
    for _ in range(20):
        after = rng.permutation(size).astype(np.int32)
        after[rng.integers(0, size, min(ends, size))] = size
        order, offsets = put_in_order(after)
        assert [part.tolist() for part in np.split(order, offsets[1:-1])] == walked(after.tolist())


@pytest.mark.parametrize("step", [1, -1])
def test_one_long_circle(step: int) -> None:
    after = np.roll(np.arange(100_000, dtype=np.int32), -step)
    order, offsets = put_in_order(after)
    assert offsets.tolist() == [0, 100_000]
    assert (np.diff(np.roll(order, -1))[:-1] == step).all()
    assert order[0] == 0


def test_nothing_to_put_in_order() -> None:
    order, offsets = put_in_order(np.empty(0, np.int32))
    assert (order.tolist(), offsets.tolist()) == ([], [0])
