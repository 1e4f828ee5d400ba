"""How scenes are cut: no larger than needed, and blended by weights that add up to one."""

import numpy as np
import pytest

from rsseg_cli.errors import RssegError
from rsseg_cli.tiling import Side, Tiling


def test_tiles_are_no_larger_than_the_scene_needs() -> None:
    side = Side.of(4096, Tiling(1024, 64, 1))
    assert (side.count, side.tile_px) == (5, 896)
    assert Side.of(300, Tiling(1024, 64, 1)).tile_px == 320
    assert Side.of(1, Tiling(1024, 64, 1)).count == 1


def test_seams_fade_evenly() -> None:
    side = Side.of(1000, Tiling(400, 100, 1))
    falling, rising = side.weights(0)[side.stride_px :], side.weights(1)[:100]
    np.testing.assert_allclose(falling + rising, 1, rtol=1e-6)
    np.testing.assert_array_equal(rising, falling[::-1])
    assert (side.weights(0)[:100] == 1).all()


def test_overlaps_of_three_tiles_are_refused() -> None:
    with pytest.raises(RssegError, match="cannot be blended"):
        Tiling(128, 64, 1)


@pytest.mark.parametrize(
    ("encoder", "tile_px", "given", "expected"),
    [("tiny", 544, None, 64), ("mit-b3", 544, None, 32), ("tiny", 128, None, 42), ("mit-b0", 544, 96, 96)],
)
def test_the_overlap_suits_the_encoder_unless_told(
    encoder: str, tile_px: int, given: int | None, expected: int
) -> None:
    assert Tiling.of(encoder, "cpu", tile_px, given).overlap_px == expected


def test_the_batch_suits_the_device() -> None:
    assert (Tiling.of("tiny", "cpu", 544).batch, Tiling.of("tiny", "cuda:1", 544).batch) == (1, 8)
    assert Tiling.of("tiny", "cuda", 544, None, 3).batch == 3
