"""The target: what is learned from, and what is held back to judge on."""

from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
import torch

from rsseg_cli.classes import UNLABELLED
from rsseg_cli.domain import Crops, moments_of
from rsseg_cli.errors import RssegError
from rsseg_cli.folders import find_scenes
from rsseg_cli.patches import TargetCrops, held_back_ground
from rsseg_cli.plan import Plan, Request, check_request, make_plan
from rsseg_cli.target import Target, open_target

TARGET = str(Path(__file__).parents[1] / "sample_scenes" / "target")
CROPS = Crops(crop_px=64, batch=3, seed=5)


def opened(folder: str | Path, crops: Crops = CROPS) -> Target:
    return open_target(find_scenes([str(folder)]), None, "robust", crops)


@pytest.fixture(scope="module")
def target() -> Target:
    return opened(TARGET)


def test_a_part_is_held_back_and_crops_are_drawn_around_the_rest(target: Target) -> None:
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
    draw = TargetCrops(target, CROPS)
    for number in range(30):
        batch = draw(number)
        numbers = np.rint(batch.bands[:, 0].double().numpy() * scale.spreads[0] + scale.centres[0]).astype(int)
        seen.ravel()[numbers[batch.valid.numpy()]] = True
        assert (batch.bands.movedim(1, -1)[~batch.valid] == 0).all()
    assert not seen[near].any()
    assert seen[~near].mean() > 0.5


def test_crops_depend_on_the_step_alone_and_have_no_labels(target: Target) -> None:
    one, again = TargetCrops(target, CROPS)(4), TargetCrops(target, CROPS)(4)
    assert torch.equal(one.bands, again.bands)
    assert one.bands.shape == (3, 4, 64, 64)
    assert (one.labels == UNLABELLED).all()
    assert not torch.equal(one.bands, TargetCrops(target, CROPS)(5).bands)


def test_held_back_ground_is_seen_whole_and_with_surroundings(target: Target) -> None:
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


def test_moments_are_those_of_what_the_network_gets(target: Target) -> None:
    moments = moments_of(target.scenes, target.normalisation)
    values = np.concatenate(
        [target.normalisation.apply(s.values(s.grid.window)).reshape(4, -1) for s in target.scenes], 1
    )
    np.testing.assert_allclose(moments.mean, values.mean(axis=1), atol=0.05)
    np.testing.assert_allclose(moments.covariance, np.cov(values), atol=0.08)


class TestGivenLabels:
    """A few polygons of the target that the person has labelled."""

    @pytest.fixture
    def few(self, tmp_path: Path) -> Path:
        west, north = 402400.0, 5066400.0
        shapes = [
            shapely.box(west + 8, north - 40, west + 24, north - 16),
            shapely.box(west, north - 8, west + 4, north),
        ]
        frame = geopandas.GeoDataFrame({"class": ["Water", "tree"]}, geometry=shapes, crs=32633)
        frame.to_file(tmp_path / "few.gpkg")
        return tmp_path / "few.gpkg"

    def plan(self, labels: Path | str) -> Plan:
        source = str(Path(TARGET).parent / "source")
        return make_plan(Request((source,), (TARGET,), "self-training", crops=CROPS, target_labels=str(labels)))

    def test_they_are_in_many_crops_under_the_sources_classes(self, few: Path) -> None:
        plan = self.plan(few)
        water, tree = (plan.domain.scheme.names.index(name) for name in ("water", "tree"))
        draw = TargetCrops(plan.target, CROPS)
        batches = [draw(number).labels for number in range(10)]
        labelled = torch.cat([(labels != UNLABELLED).any(dim=(1, 2)) for labels in batches])
        assert 0.2 < labelled.float().mean() < 0.8
        assert set(torch.cat([labels.unique() for labels in batches]).tolist()) == {water, tree, UNLABELLED}
        assert plan.to_json()["target_labels"] == [str(few)]

    def test_ground_with_labels_is_not_held_back(self, few: Path) -> None:
        target = self.plan(few).target
        for scene, row, col in target.labelled:
            assert target.held_back[scene].patches[row // target.block_px, col // target.block_px] == 0

    def test_without_them_there_is_no_label(self) -> None:
        assert not len(opened(TARGET).labelled)

    def test_a_class_that_the_source_has_not_is_refused(self, few: Path, tmp_path: Path) -> None:
        frame = geopandas.read_file(few)
        frame["class"] = ["water", "glacier"]
        frame.to_file(tmp_path / "ice.gpkg")
        with pytest.raises(RssegError, match="labels glacier, which the source does not"):
            self.plan(tmp_path / "ice.gpkg")

    def test_they_are_for_methods_that_adapt(self, few: Path) -> None:
        with pytest.raises(RssegError, match="are for methods that adapt"):
            check_request(Request(("s",), (TARGET,), "source-only", target_labels=str(few)))
