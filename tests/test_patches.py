"""Crops: seeded by step, varied, and never from what is held back."""

from pathlib import Path

import numpy as np
import pytest

from rsseg_cli.classes import UNLABELLED
from rsseg_cli.errors import RssegError
from rsseg_cli.folders import LabelOptions, find_labelled
from rsseg_cli.patches import BUFFER_PX, Crops, Drawer, at_gsd, class_weights, normalisation_of, open_domain

SOURCE = str(Path(__file__).parents[1] / "sample_scenes" / "source")
CROPS = Crops(side_px=64, batch=3, seed=5)


@pytest.fixture(scope="module")
def domain():
    return open_domain(find_labelled([SOURCE], LabelOptions()), None, "robust", CROPS)


def drawn(domain, steps: int = 6, start: int = 0):
    drawer = Drawer(domain, CROPS, steps)
    try:
        return [drawer(number) for number in range(start, steps)]
    finally:
        drawer.close()


def test_batches_depend_on_the_step_alone(domain) -> None:
    whole, later = drawn(domain), drawn(domain, start=3)
    for one, other in zip(whole[3:], later, strict=True):
        assert (one.bands == other.bands).all()
        assert (one.labels == other.labels).all()
    assert not (whole[0].bands == whole[1].bands).all()


def test_batches_have_their_shape_and_scale(domain) -> None:
    batch = drawn(domain, 1)[0]
    assert batch.bands.shape == (3, 4, 64, 64)
    assert batch.labels.shape == batch.valid.shape == (3, 64, 64)
    assert batch.bands.abs().max() < 10
    assert 0.3 < batch.bands.std() < 3


def test_validation_blocks_and_their_buffer_are_never_trained_on(domain) -> None:
    for number, blocks in enumerate(domain.held_back):
        assert blocks
        for block in blocks:
            for place, counts in zip(domain.training.places, domain.training.counts, strict=True):
                scene, window = place
                assert scene != number or (window.row_off, window.col_off) != (block.row_off, block.col_off), counts
    total = sum(pair.labels.read().size for pair in domain.pairs)
    assert domain.training.counts.sum() + domain.validation.counts.sum() < total
    assert (domain.validation.counts.sum(axis=0) > 0).all()
    assert BUFFER_PX > 0


def test_rare_classes_are_drawn_more_often_than_they_occur(make_raster, tmp_path: Path) -> None:
    labels = np.zeros((512, 512), np.uint8)
    labels[:, 256:] = 1
    labels[100:130, 40:70] = labels[300:330, 400:430] = labels[450:480, 100:130] = 2
    make_raster("s/a.tif", np.random.default_rng(0).integers(0, 255, (3, 512, 512), dtype=np.uint8))
    make_raster("s/a_labels.tif", labels)
    rare = open_domain(find_labelled([str(tmp_path / "s")], LabelOptions()), None, "robust", CROPS)
    found = np.concatenate([batch.labels.numpy().ravel() for batch in drawn(rare, 30)])
    shares = np.bincount(found[found != UNLABELLED], minlength=3) / (found != UNLABELLED).sum()
    assert rare.training.shares[2] < 0.02
    assert shares[2] > 3 * rare.training.shares[2]


def test_weights_lie_between_one_and_two(domain) -> None:
    weights = class_weights(domain.training)
    assert weights.min() >= 1
    assert weights.max() <= 2


def test_statistics_are_robust_and_of_valid_pixels(make_raster) -> None:
    from rsseg_cli.raster.sources import open_scene

    values = np.random.default_rng(0).normal(100, 10, (1, 256, 256)).astype(np.float32)
    values[:, :100] = -9999
    values[:, 200, 200] = 1e6
    found = normalisation_of([open_scene(make_raster("n.tif", values, nodata=-9999))], "robust")
    assert found.centres[0] == pytest.approx(100, abs=0.5)
    assert found.spreads[0] == pytest.approx(10, rel=0.05)
    fixed = normalisation_of([open_scene(make_raster("b.tif", np.ones((3, 8, 8), np.uint8)))], "fixed")
    assert fixed.centres == (114.75,) * 3
    empty = open_scene(make_raster("e.tif", np.zeros((1, 8, 8), np.uint8), nodata=0))
    with pytest.raises(RssegError, match="nothing but nodata"):
        normalisation_of([empty], "robust")


def test_pixels_of_another_size(domain) -> None:
    scene = domain.pairs[0].scene
    coarse = at_gsd(scene, 0.8)
    assert coarse.shape == (160, 160)
    assert coarse.gsd_m == pytest.approx(0.8)
    assert coarse.bounds == pytest.approx(scene.grid.bounds)
    assert at_gsd(scene, 0.51) == scene.grid
