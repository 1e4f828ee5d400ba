"""Labelled scenes as one domain: one size on the ground, one scale, and what is said of its gaps."""

import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rasterio.windows import Window

from rsseg_cli.domain import Crops, Scale, at_gsd, common_scale, normalisation_of, open_domain
from rsseg_cli.errors import RssegError
from rsseg_cli.folders import LabelOptions, find_labelled
from rsseg_cli.normalisation import robust
from rsseg_cli.raster.scene import Scene
from rsseg_cli.raster.sources import open_scene

SOURCE = str(Path(__file__).parents[1] / "sample_scenes" / "source")
CROPS = Crops(crop_px=64, batch=3, seed=5)
IMAGE = np.random.default_rng(0).integers(0, 255, (3, 200, 200), dtype=np.uint8)


@pytest.fixture(scope="module")
def domain():
    return open_domain(find_labelled([SOURCE], LabelOptions()), Scale(), "robust", CROPS)


def test_what_is_trained_on_and_what_is_held_back_have_nothing_in_common(domain) -> None:
    every = np.zeros(6, np.int64)
    scored = np.zeros(6, np.int64)
    trained = np.zeros(6, np.int64)
    for number, (pair, held) in enumerate(zip(domain.pairs, domain.held_back, strict=True)):
        whole = pair.scene.grid.window
        places, near = domain.read_places(number, whole), held.nears(whole)
        patches = np.zeros(near.shape, bool)
        for patch, window in held.windows():
            patches[window.toslices()] |= held.holds(patch, window)
        assert near[patches].all()
        every += np.bincount(places.ravel(), minlength=6)
        trained += np.bincount(places[~near], minlength=6)
        scored += np.bincount(places[patches], minlength=6)
    np.testing.assert_array_equal(domain.training.totals, trained)
    np.testing.assert_array_equal(domain.scored, scored)
    assert (scored > 0.05 * every).all()
    assert (trained + scored < every).all()


def test_the_blocks_of_the_census_hold_what_they_count(domain) -> None:
    for (scene, row, col), counts in zip(domain.training.places[::7], domain.training.counts[::7], strict=True):
        window = Window(col, row, 64, 64)
        places = domain.read_places(scene, window)
        kept = places[~domain.held_back[scene].nears(window)]
        np.testing.assert_array_equal(counts, np.bincount(kept, minlength=6))


def test_a_small_scene_loses_no_class_to_the_buffer(make_raster, tmp_path: Path) -> None:
    labels = np.full((60, 60), 255, np.uint8)
    labels[8:16, 8:16], labels[8:16, 24:32], labels[24:32, 8:16], labels[24:32, 24:32] = 0, 1, 1, 0
    make_raster("s/a.tif", IMAGE[:, :60, :60])
    make_raster("s/a_labels.tif", labels)
    small = open_domain(find_labelled([str(tmp_path / "s")], LabelOptions()), Scale(), "robust", CROPS)
    assert small.scored.tolist() == [64, 64]
    assert small.training.totals.tolist() == [64, 64]


def test_one_class_is_no_task(make_raster, tmp_path: Path) -> None:
    make_raster("s/a.tif", IMAGE)
    labels = np.full((200, 200), 255, np.uint8)
    make_raster("s/a_labels.tif", labels, nodata=255)
    labels[:50] = 7
    make_raster("t/a.tif", IMAGE)
    make_raster("t/a_labels.tif", labels, nodata=255)
    for folder, match in (("s", "no pixel of the 1 scenes is labelled"), ("t", "all that is labelled is 7")):
        with pytest.raises(RssegError, match=match):
            open_domain(find_labelled([str(tmp_path / folder)], LabelOptions()), Scale(), "robust", CROPS)


def test_gaps_are_told(make_raster, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    labels = np.zeros((200, 200), np.uint8)
    labels[100:110, 100:110] = 1
    make_raster("s/a.tif", IMAGE)
    make_raster("s/a_labels.tif", labels)
    open_domain(find_labelled([str(tmp_path / "s")], LabelOptions()), Scale(), "robust", CROPS)
    assert "1: labelled in one place only, so trained on and not scored" in caplog.text


def test_statistics_do_not_tell_how_much_water_there_is() -> None:
    dark, bright = np.full((1, 900), 10, np.float32), np.full((1, 900), 200, np.float32)
    mostly_dark, mostly_bright = (robust([dark[:, :n], bright[:, n:]], ("red",), "a.tif") for n in (700, 200))
    assert mostly_dark == mostly_bright


def test_statistics_are_robust_and_of_valid_pixels(make_raster) -> None:
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
    coarse = at_gsd(scene.grid, 0.8)
    assert coarse.shape == (160, 160)
    assert coarse.gsd_m == pytest.approx(0.8)
    assert coarse.bounds == pytest.approx(scene.grid.bounds)
    assert at_gsd(scene.grid, 0.51) == scene.grid


def test_learned_at_the_finest_pixels_and_with_the_coarsest_detail(make_raster) -> None:
    fine, coarse, coarser = (at_size(make_raster(f"{gsd_m}.tif", IMAGE), gsd_m) for gsd_m in (0.5, 0.8, 2.5))
    assert common_scale([fine]) == Scale(0.5, 0.5)
    assert common_scale([fine, coarse]) == common_scale([coarse, fine]) == Scale(0.5, 0.8)
    assert common_scale([coarse, at_size(coarse.path, 1)]) == Scale(0.8, 1)
    assert common_scale([coarse, at_size(coarse.path, 0.9)]).gsd_m == pytest.approx(0.9, rel=0.01)
    # More than twice as fine as the coarsest shows nothing new.
    assert common_scale([fine, coarser]) == Scale(1.25, 2.5)
    assert common_scale([fine, coarser], 0.25) == Scale(0.25, 2.5)
    assert common_scale([fine, coarser], 6) == Scale(6, 6)


def test_labelled_scenes_show_no_finer_detail_than_the_coarsest() -> None:
    labelled = find_labelled([SOURCE], LabelOptions())
    as_it_is, coarser, coarse = (
        open_domain(labelled, scale, "robust", CROPS).pairs[0]
        for scale in (Scale(0.5, 0.5), Scale(0.5, 0.8), Scale(0.8, 0.8))
    )
    own = labelled[0].scene
    assert as_it_is.scene.grid == coarser.scene.grid == own.grid
    window = own.grid.window
    sharp, blunt = as_it_is.scene.values(window), coarser.scene.values(window)
    assert (sharp == own.values(window)).all()
    steps = [np.abs(np.diff(values)).mean() for values in (sharp, blunt)]
    assert steps[1] < 0.8 * steps[0]
    assert abs(blunt - sharp).mean() < steps[0]  # and lies where it lay
    assert (coarser.labels.read(window) == as_it_is.labels.read(window)).all()
    assert coarse.scene.grid.shape == (160, 160)


@pytest.mark.parametrize(("wanted", "sides"), [(99999.0, "1 x 1"), (0.001, "60000 x 40000")])
def test_pixels_of_a_size_that_leaves_no_scene_or_a_huge_one_are_refused(
    make_raster, wanted: float, sides: str
) -> None:
    scene = at_size(make_raster("a.tif", np.zeros((3, 80, 120), np.uint8)), 0.5)
    larger = at_size(make_raster("b.tif", np.zeros((3, 200, 200), np.uint8)), 1)
    with pytest.raises(RssegError, match=f"--gsd {wanted:g}: .*a.tif.* would have {sides} pixels") as caught:
        common_scale([larger, scene], wanted)
    for allowed in map(float, re.findall(r"[0-9.]*[0-9]", caught.value.hint)):
        assert common_scale([larger, scene], allowed).gsd_m == allowed


def at_size(path: str, gsd_m: float) -> Scene:
    scene = open_scene(path)
    return replace(scene, grid=at_gsd(scene.grid, gsd_m))


def test_scenes_without_size_on_the_ground_are_taken_as_the_others(make_raster, caplog) -> None:
    caplog.set_level(logging.INFO)
    fine = open_scene(make_raster("a.tif", IMAGE))
    plain = [open_scene(make_raster(f"{n}.tif", IMAGE, crs=None, transform=None)) for n in "cd"]
    caplog.clear()
    assert common_scale([fine]) == Scale(0.5, 0.5)
    assert not caplog.text
    assert common_scale(plain) == Scale()
    assert "no scene has a size on the ground" in caplog.text
    assert common_scale([fine, *plain]) == Scale(0.5, 0.5)
    assert "c.tif and 1 more: no size on the ground is known; a pixel is taken as 0.5 m" in caplog.text
    assert at_gsd(plain[0].grid, 0.5) == plain[0].grid


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"crop_px": 8}, {"seed": -1}, {"scale": 0.5}, {"rare": 2.0}])
def test_crops_that_cannot_be_drawn_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(RssegError, match=f"{next(iter(wrong))} = .*: out of range"):
        Crops(**wrong)
