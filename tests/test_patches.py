"""Crops: seeded by step, varied, and never from what is held back."""

from pathlib import Path

import numpy as np
import pytest

from rsseg_cli.classes import UNLABELLED
from rsseg_cli.domain import Crops, Scale, open_domain
from rsseg_cli.folders import LabelOptions, find_labelled
from rsseg_cli.patches import MOST_OFTEN, Drawer, OfBoth, SourceCrops, TargetCrops, class_weights
from rsseg_cli.raster import held
from rsseg_cli.target import open_target

SOURCE = str(Path(__file__).parents[1] / "sample_scenes" / "source")
CROPS = Crops(crop_px=64, batch=3, seed=5)


@pytest.fixture(scope="module")
def domain():
    return open_domain(find_labelled([SOURCE], LabelOptions()), Scale(), "robust", CROPS)


def drawn(domain, steps: int = 6, start: int = 0, crops: Crops = CROPS):
    drawer = Drawer(SourceCrops(domain, crops), steps)
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


def test_held_back_labels_are_in_no_batch(make_raster, tmp_path: Path) -> None:
    """Every pixel of the red band is its own place, so that it can be recognised in a crop."""
    values = np.zeros((3, 180, 180), np.float32)
    values[0] = np.arange(180 * 180).reshape(180, 180)
    make_raster("s/a.tif", values)
    make_raster("s/a_labels.tif", np.random.default_rng(0).integers(0, 2, (180, 180), dtype=np.uint8))
    crops = Crops(crop_px=64, batch=4, radiometry=0.0)
    domain = open_domain(find_labelled([str(tmp_path / "s")], LabelOptions()), Scale(), "robust", crops)
    near = domain.held_back[0].nears(domain.pairs[0].scene.grid.window)
    assert 0.1 < near.mean() < 0.7
    scale = domain.normalisations[0]
    seen = np.zeros(near.shape, bool)
    for batch in drawn(domain, 12, crops=crops):
        numbers = np.rint(batch.bands[:, 0].double().numpy() * scale.spreads[0] + scale.centres[0]).astype(int)
        seen.ravel()[numbers[batch.labels.numpy() != UNLABELLED]] = True
    assert not seen[near].any()
    assert seen[~near].mean() > 0.5


def test_a_scene_smaller_than_a_crop_keeps_its_scale(make_raster, tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 255, (3, 40, 48), dtype=np.uint8)
    make_raster("s/a.tif", values)
    make_raster("s/a_labels.tif", np.tile(np.array([0, 1], np.uint8), (40, 24)))
    crops = Crops(crop_px=64, batch=1)
    small = open_domain(find_labelled([str(tmp_path / "s")], LabelOptions()), Scale(), "robust", crops)
    batch = drawn(small, 1, crops=crops)[0]
    assert batch.bands.shape == (1, 3, 64, 64)
    assert batch.valid.sum() == 40 * 48
    assert (batch.labels[~batch.valid] == UNLABELLED).all()


def test_crops_are_zoomed_only_where_asked(domain) -> None:
    zoomed = drawn(domain, 2, crops=Crops(crop_px=64, batch=3, seed=5, scale=2.0))
    assert zoomed[0].bands.shape == (3, 4, 64, 64)
    assert zoomed[0].valid.all()


def test_rare_classes_are_drawn_more_often_than_they_occur(make_raster, tmp_path: Path) -> None:
    labels = np.zeros((512, 512), np.uint8)
    labels[:, 256:] = 1
    labels[100:130, 40:70] = labels[300:330, 400:430] = labels[450:480, 100:130] = 2
    make_raster("s/a.tif", np.random.default_rng(0).integers(0, 255, (3, 512, 512), dtype=np.uint8))
    make_raster("s/a_labels.tif", labels)
    rare = open_domain(find_labelled([str(tmp_path / "s")], LabelOptions()), Scale(), "robust", CROPS)
    found = np.concatenate([batch.labels.numpy().ravel() for batch in drawn(rare, 30)])
    shares = np.bincount(found[found != UNLABELLED], minlength=3) / (found != UNLABELLED).sum()
    assert rare.training.shares[2] < 0.02
    assert shares[2] > 3 * rare.training.shares[2]


@pytest.mark.parametrize(("side", "share"), [(320, 1 / 2), (800, MOST_OFTEN / (25 + MOST_OFTEN))])
def test_sources_count_alike_however_large_but_for_the_smallest(side: int, share, make_raster, tmp_path: Path) -> None:
    for name, size, value in (("large", side, 10), ("small", 160, 200)):
        noise = np.random.default_rng(value).integers(0, 20, (3, size, size), dtype=np.uint8)
        make_raster(f"{name}/a.tif", noise + np.uint8(value))
        make_raster(f"{name}/a_labels.tif", np.random.default_rng(0).integers(0, 2, (size, size), dtype=np.uint8))
    crops = Crops(crop_px=32, batch=8, radiometry=0.0)
    folders = [str(tmp_path / name) for name in ("large", "small")]
    domain = open_domain(find_labelled(folders, LabelOptions()), Scale(), "robust", crops)
    of_small = np.concatenate([batch.bands[:, 0].mean((1, 2)) > 0 for batch in drawn(domain, 60, crops=crops)])
    assert of_small.mean() == pytest.approx(share, abs=0.05)


def test_weights_lie_between_one_and_two(domain) -> None:
    weights = class_weights(domain.training)
    assert weights.min() >= 1
    assert weights.max() <= 2


@pytest.mark.parametrize("gsd_m", [None, 1.3])
def test_scenes_in_memory_give_the_same_crops_as_scenes_on_disk(gsd_m, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, drawn_by = {}, {}
    for most_bytes in (0, held.MOST_BYTES):
        monkeypatch.setattr(held, "MOST_BYTES", most_bytes)
        labelled = find_labelled([SOURCE], LabelOptions())
        opened[most_bytes] = open_domain(labelled, Scale(gsd_m, gsd_m), "robust", CROPS)
        target = open_target([pair.scene for pair in labelled], gsd_m, "robust", CROPS)
        both = OfBoth(SourceCrops(opened[most_bytes], CROPS), TargetCrops(target, CROPS))
        drawn_by[most_bytes] = [both(number) for number in range(4)]
    on_disk, in_memory = opened.values()
    assert not isinstance(on_disk.pairs[0].scene.pixels, held.HeldPixels)
    assert isinstance(in_memory.pairs[0].scene.pixels, held.HeldPixels)
    for one, other in zip(*drawn_by.values(), strict=True):
        for part, like in ((one.source, other.source), (one.target, other.target)):
            assert (part.bands == like.bands).all()
            assert (part.valid == like.valid).all()
            assert (part.labels == like.labels).all()
