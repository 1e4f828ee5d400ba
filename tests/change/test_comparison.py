"""The walk over a pair: every block once, both opinions at once, and progress that is seen."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from rasterio.windows import Window

from rsseg_cli.change import comparison
from rsseg_cli.change.comparison import Comparison, compare
from rsseg_cli.change.methods import WAYS, Choice, Method
from rsseg_cli.change.pair import Pair, open_pair
from rsseg_cli.change.threshold import Cut
from rsseg_cli.progress import Track, untracked
from rsseg_cli.raster.tiles import block_count

SAMPLE = Path(__file__).parents[2] / "sample_scenes" / "change"


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Pair:
    monkeypatch.setattr(comparison, "BLOCK_PX", 48)
    return open_pair(str(SAMPLE / "before.tif"), str(SAMPLE / "after.tif"))


def compared(pair: Pair, folder: Path, method: Method, track: Track = untracked) -> Comparison:
    return compare(pair, Choice(method), Cut(), folder / "m.tif", folder, track)


@pytest.mark.parametrize("method", ["classical", "cva", "ir-mad"])
def test_both_opinions_are_those_of_the_whole(pair: Pair, tmp_path: Path, method: Method) -> None:
    found = compared(pair, tmp_path, method)
    model = found.detector.model
    assert found.kept.layers == (1 if method == "ir-mad" else 2)
    for layer, ways in ((0, WAYS[method]), (found.kept.layers - 1, WAYS["ir-mad"])):
        (whole,) = model.distances(*pair.read(), [ways])
        np.testing.assert_allclose(found.kept.read(pair.grid.window, layer), whole, rtol=1e-5)


def test_blocks_are_read_together_for_both_opinions(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Window] = []
    held = Pair.held
    monkeypatch.setattr(Pair, "held", lambda self, window: read.append(window) or held(self, window))
    compared(pair, tmp_path, "cva")
    assert len(read) == -(-pair.grid.height // 96) * -(-pair.grid.width // 96)
    assert max(window.width for window in read) > 96


def test_progress_is_that_of_blocks(pair: Pair, tmp_path: Path) -> None:
    seen: dict[str, tuple[int, int]] = {}

    def track(steps: Iterable, label: str, total: int) -> Iterator:
        for done, step in enumerate(steps, 1):
            seen[label] = (done, total)
            yield step

    compared(pair, tmp_path, "cva", track)
    blocks = block_count(pair.grid, 48)
    assert seen["comparing"] == (blocks, blocks)
    assert all(done == total for done, total in seen.values())
