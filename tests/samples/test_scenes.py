import zlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from rsseg_cli.samples import CLASSES, DEFAULT_SIZE_PX, SampleScene, contact_sheet
from rsseg_cli.samples.scenes import SOURCE, TARGET, Domain, draw_scene
from rsseg_cli.samples.sensor import expose

Scenes = Sequence[SampleScene]


def shares(scenes: Scenes) -> np.ndarray:
    labels = np.concatenate([scene.labels.ravel() for scene in scenes])
    return np.bincount(labels, minlength=len(CLASSES)) / labels.size


def test_source_scenes_come_first_and_have_names_of_their_own(scenes: Scenes) -> None:
    assert [scene.domain for scene in scenes] == ["source"] * 3 + ["target"] * 3
    assert len({scene.name for scene in scenes}) == 6


def test_every_scene_is_a_square_of_bytes(scenes: Scenes) -> None:
    for scene in scenes:
        assert scene.image.shape == (4, DEFAULT_SIZE_PX, DEFAULT_SIZE_PX)
        assert scene.labels.shape == scene.image.shape[1:]
        assert scene.image.dtype == scene.labels.dtype == np.uint8


def test_every_class_has_a_share_in_every_scene(scenes: Scenes, source: Scenes) -> None:
    assert all(shares([scene]).min() > 0.03 for scene in scenes)
    assert shares(source).min() > 0.05
    assert max(scene.labels.max() for scene in scenes) == len(CLASSES) - 1


def test_target_is_seen_by_another_sensor_elsewhere(source: Scenes, target: Scenes) -> None:
    assert {scene.bands for scene in source} == {("red", "green", "blue", "nir")}
    assert {scene.bands for scene in target} == {("nir", "red", "green", "blue")}
    assert {(scene.gsd_m, scene.epsg) for scene in source} == {(0.5, 32632)}
    assert {(scene.gsd_m, scene.epsg) for scene in target} == {(0.8, 32633)}
    assert {scene.date for scene in source}.isdisjoint(scene.date for scene in target)


def test_target_has_more_bare_ground_and_building_and_less_grass(source: Scenes, target: Scenes) -> None:
    _, building, _, grass, _, bare = shares(target) - shares(source)
    assert building > 0
    assert bare > 0
    assert grass < -0.05


def test_target_sensor_blurs_more() -> None:
    def edge_m(domain: Domain) -> float:
        """Width of the ramp that a sharp edge becomes."""
        step = np.zeros((4, 80, 80), np.float32)
        step[:, :, 40:] = 0.3
        ideal = replace(domain.sensor, shot=0.0, read=0.0, vignette=0.0)
        row = expose(ideal, step, np.random.default_rng(1))[0, 20].astype(float)
        return float((row[-1] - row[0]) / np.diff(row).max()) * ideal.gsd_m

    assert edge_m(TARGET) > 1.5 * edge_m(SOURCE)


def test_scenes_of_a_domain_do_not_overlap(scenes: Scenes) -> None:
    for one, other in pairwise(scenes):
        apart_m = abs(one.origin[0] - other.origin[0])
        assert one.domain != other.domain or apart_m > 2 * DEFAULT_SIZE_PX * one.gsd_m


@pytest.mark.parametrize("domain", [SOURCE, TARGET], ids=["source", "target"])
def test_the_same_seed_draws_the_same_bytes(domain: Domain) -> None:
    one, again, other = (draw_scene(domain, 1, 96, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.image, again.image)
    np.testing.assert_array_equal(one.labels, again.labels)
    assert (one.labels != other.labels).mean() > 0.3


def test_a_larger_scene_shows_more_of_the_same_ground(source: Scenes) -> None:
    large, small = draw_scene(SOURCE, 1, 2 * DEFAULT_SIZE_PX, 1), source[0]
    inner = slice(DEFAULT_SIZE_PX // 2, DEFAULT_SIZE_PX // 2 + DEFAULT_SIZE_PX)
    # Texture frays outlines differently; everything else stays in its place.
    assert (large.labels[inner, inner] == small.labels).mean() > 0.93
    assert large.gsd_m == small.gsd_m
    assert shares([large]).min() > 0.03
    assert np.abs(shares([large]) - shares(source)).max() < 0.12


def test_contact_sheet_is_small_and_shows_every_scene(scenes: Scenes) -> None:
    sheet = contact_sheet(scenes)
    assert sheet.dtype == np.uint8
    assert sheet.shape[0] == 3
    assert sheet.shape[2] > sheet.shape[1]
    assert len(zlib.compress(sheet.tobytes(), 9)) < 300_000
    colours = {tuple(int(code[at : at + 2], 16) for at in (1, 3, 5)) for _, _, code in CLASSES}
    assert colours <= set(map(tuple, sheet[:, sheet.shape[1] // 2 :].reshape(3, -1).T.tolist()))
