"""The target: what is learned from, and what is held back to judge on."""

from pathlib import Path

import numpy as np
import pytest
import torch

from rsseg_cli.classes import UNLABELLED
from rsseg_cli.domain import Crops, moments_of
from rsseg_cli.errors import RssegError
from rsseg_cli.folders import find_scenes
from rsseg_cli.patches import UnlabelledCrops, held_back_ground
from rsseg_cli.unlabelled import Unlabelled, open_unlabelled

TARGET = str(Path(__file__).parents[1] / "sample_scenes" / "target")
CROPS = Crops(crop_px=64, batch=3, seed=5)


def opened(folder: str | Path, crops: Crops = CROPS) -> Unlabelled:
    return open_unlabelled(find_scenes([str(folder)]), None, "robust", crops)


@pytest.fixture(scope="module")
def target() -> Unlabelled:
    return opened(TARGET)


def test_a_part_is_held_back_and_crops_are_drawn_around_the_rest(target: Unlabelled) -> None:
    held = np.concatenate(
        [part.nears(s.grid.window).ravel() for s, part in zip(target.scenes, target.held_back, strict=True)]
    )
    assert 0.1 < held.mean() < 0.3
    for scene, row, col in target.places:
        assert target.held_back[scene].patches[row // target.block_px, col // target.block_px] == 0


def test_what_is_held_back_is_in_no_crop(make_raster, tmp_path: Path) -> None:
    """Every pixel of the first band is its own place, so that it can be recognised in a crop."""
    values = np.zeros((3, 190, 230), np.float32)
    values[0] = np.arange(190 * 230).reshape(190, 230)
    make_raster("t/a.tif", values)
    target = opened(tmp_path / "t")
    near = target.held_back[0].nears(target.scenes[0].grid.window)
    assert 0.1 < near.mean() < 0.4
    seen = np.zeros(near.shape, bool)
    scale = target.normalisation
    draw = UnlabelledCrops(target, CROPS)
    for number in range(30):
        batch = draw(number)
        numbers = np.rint(batch.bands[:, 0].double().numpy() * scale.spreads[0] + scale.centres[0]).astype(int)
        seen.ravel()[numbers[batch.valid.numpy()]] = True
        assert (batch.bands.movedim(1, -1)[~batch.valid] == 0).all()
    assert not seen[near].any()
    assert seen[~near].mean() > 0.5


def test_crops_depend_on_the_step_alone_and_have_no_labels(target: Unlabelled) -> None:
    one, again = UnlabelledCrops(target, CROPS)(4), UnlabelledCrops(target, CROPS)(4)
    assert torch.equal(one.bands, again.bands)
    assert one.bands.shape == (3, 4, 64, 64)
    assert (one.labels == UNLABELLED).all()
    assert not torch.equal(one.bands, UnlabelledCrops(target, CROPS)(5).bands)


def test_held_back_ground_is_seen_whole_and_with_surroundings(target: Unlabelled) -> None:
    bands, inside = held_back_ground(target)
    held = sum(part.nears(s.grid.window).sum() for s, part in zip(target.scenes, target.held_back, strict=True))
    assert inside.sum() == held
    assert len(bands) == len(inside) == sum((part.patches > 0).sum() for part in target.held_back)
    assert bands.shape[-1] > target.block_px


def test_nodata_is_neither_drawn_around_nor_held_back(make_raster, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(1, 255, (3, 200, 200), dtype=np.uint8)
    values[:, :, :120] = 0
    make_raster("t/a.tif", values, nodata=0)
    target = opened(tmp_path / "t")
    side = target.block_px
    assert (target.places[:, 2] + side > 120).all()
    _, inside = held_back_ground(target)
    assert inside.any(dim=(1, 2)).all()


def test_a_target_of_one_block_holds_nothing_back(make_raster, tmp_path: Path) -> None:
    make_raster("t/a.tif", np.random.default_rng(0).integers(1, 255, (3, 20, 20), dtype=np.uint8))
    target = opened(tmp_path / "t")
    assert len(target.places) == 1
    assert not held_back_ground(target)[1].any()


def test_a_target_of_nothing_is_refused(make_raster, tmp_path: Path) -> None:
    make_raster("t/a.tif", np.zeros((3, 80, 80), np.uint8), nodata=0)
    with pytest.raises(RssegError, match="holds nothing but nodata"):
        opened(tmp_path / "t")


def test_moments_are_those_of_what_the_network_gets(target: Unlabelled) -> None:
    moments = moments_of(target.scenes, target.normalisation)
    values = np.concatenate(
        [target.normalisation.apply(s.values(s.grid.window)).reshape(4, -1) for s in target.scenes], 1
    )
    np.testing.assert_allclose(moments.mean, values.mean(axis=1), atol=0.05)
    np.testing.assert_allclose(moments.covariance, np.cov(values), atol=0.08)
