"""What is known of changed patches: measured, light and season taken out, and by the classes of both dates."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from coverages import Pixels
from rasterio.crs import CRS
from rasterio.windows import Window

from rsseg_cli.change.comparison import Comparison
from rsseg_cli.change.methods import Detector
from rsseg_cli.change.pair import Pair
from rsseg_cli.change.polygons import columns, directions
from rsseg_cli.change.scheme import CHANGE_SCHEME
from rsseg_cli.change.scratch import Scratch
from rsseg_cli.change.threshold import Cut
from rsseg_cli.classes import UNLABELLED, ClassScheme
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.labels import Labels
from rsseg_cli.raster.scene import Band, Scene
from rsseg_cli.vector.coverage import Coverage, polygonize

GRID = Grid(CRS.from_epsg(32633), Affine(1, 0, 0, 0, -1, 0), 60, 80)
ROOF, FIELD = (slice(5, 15), slice(5, 25)), (slice(30, 40), slice(5, 15))
FOREST, EDGE = (slice(30, 50), slice(40, 60)), (slice(0, 4), slice(70, 80))


@dataclass(frozen=True, eq=False)
class Held:
    values: np.ndarray

    def read(self, window: Window, bands: object) -> np.ndarray:
        return self.values[:, *window.toslices()].astype(np.float32)


class Still:
    def distance(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        raise AssertionError("all that is needed was kept")


def pair_of(before: np.ndarray, after: np.ndarray, names: tuple[str, ...]) -> Pair:
    bands = tuple(Band(name, "float32") for name in names)
    scenes = [Scene(name, GRID, bands, Held(values)) for name, values in (("b", before), ("a", after))]
    return Pair(scenes[0], scenes[1], GRID, keeps_after=True, loose=scenes[0])


def mask_of(*patches: tuple[slice, slice]) -> np.ndarray:
    mask = np.zeros(GRID.shape, np.uint8)
    for patch in patches:
        mask[patch] = 1
    mask[-5:] = UNLABELLED
    return mask


def coverage_of(mask: np.ndarray) -> Coverage:
    return polygonize(Labels("m.tif", GRID, CHANGE_SCHEME, Pixels(mask)))


def found_of(folder: Path, pair: Pair, distance: np.ndarray) -> Comparison:
    kept = Scratch(folder / "distances", GRID, 1, 512, folder / "m.tif")
    kept.write(distance[np.newaxis], GRID.window)
    return Comparison(pair, "cva", Detector(Still(), 0), kept, Cut(), limit=4.0, second_limit=4.0)


def ground() -> np.ndarray:
    """Red and near infrared of grass, soil and what lies between."""
    red = 0.10 + 0.02 * np.random.default_rng(0).standard_normal(GRID.shape)
    nir = 0.30 + 0.04 * np.random.default_rng(1).standard_normal(GRID.shape)
    return np.stack([red, nir])


def changed(values: np.ndarray) -> np.ndarray:
    later = values.copy()
    later[:, *ROOF] += [[[0.10]], [[0.24]]]
    later[:, *FIELD] += [[[-0.05]], [[0.20]]]
    later[:, *FOREST] += [[[0.06]], [[-0.16]]]
    return later


def in_another_light(values: np.ndarray) -> np.ndarray:
    return values * [[[1.3]], [[0.6]]] + [[[0.05]], [[0.1]]]


@pytest.mark.parametrize("light", [np.copy, in_another_light])
def test_light_and_season_are_taken_out(tmp_path: Path, light) -> None:
    before = ground()
    mask = mask_of(ROOF, FIELD, FOREST)
    found = found_of(tmp_path, pair_of(before, light(changed(before)), ("red", "NIR")), np.ones(GRID.shape))
    coverage = coverage_of(mask)
    known = {
        name: np.array(values.to_pylist())[coverage.ids == 1] for name, values in columns(coverage, found, {}).items()
    }
    np.testing.assert_allclose(known["change_red"].astype(float), [5, -2.5, 3], atol=0.3)
    np.testing.assert_allclose(known["change_NIR"].astype(float), [6, 5, -4], atol=0.3)
    assert known["direction"].tolist() == ["brighter", "greener", "browner"]


def test_the_order_of_dates_turns_the_direction(tmp_path: Path) -> None:
    before = ground()
    coverage = coverage_of(mask_of(ROOF, FIELD, FOREST))
    found = found_of(tmp_path, pair_of(changed(before), before, ("red", "nir")), np.ones(GRID.shape))
    words = np.array(columns(coverage, found, {})["direction"].to_pylist())[coverage.ids == 1]
    assert words.tolist() == ["darker", "browner", "greener"]


def test_score_and_magnitude_are_means_of_pixels(tmp_path: Path) -> None:
    distance = np.random.default_rng(4).uniform(2, 20, GRID.shape).astype(np.float32)
    distance[-5:] = np.nan
    coverage = coverage_of(mask_of(ROOF, EDGE))
    found = found_of(tmp_path, pair_of(ground(), ground(), ("1", "2")), distance)
    known = columns(coverage, found, {})
    for region, patch in zip(np.flatnonzero(coverage.ids == 1), (EDGE, ROOF), strict=True):
        assert known["magnitude"][region].as_py() == pytest.approx(distance[patch].mean() / 4, abs=6e-4)
        assert known["score_mean"][region].as_py() == pytest.approx((distance / (distance + 4))[patch].mean(), abs=6e-4)
    assert list(known) == ["score_mean", "magnitude", "change_1", "change_2", "direction"]


def test_where_all_has_changed_nothing_says_what_light_did(tmp_path: Path) -> None:
    mask = np.ones(GRID.shape, np.uint8)
    found = found_of(tmp_path, pair_of(ground(), ground(), ("red", "nir")), np.full(GRID.shape, 9))
    known = columns(coverage_of(mask), found, {})
    assert known["change_red"].to_pylist() == known["direction"].to_pylist() == [None]
    assert known["score_mean"].to_pylist() == [pytest.approx(9 / 13, abs=1e-3)]


def test_bands_that_differ_in_capitals_alone_have_columns_of_their_own(tmp_path: Path) -> None:
    found = found_of(tmp_path, pair_of(ground(), ground(), ("B1", "b1")), np.ones(GRID.shape))
    assert list(columns(coverage_of(mask_of(ROOF)), found, {}))[2:4] == ["change_B1", "change_b1_2"]


def test_directions() -> None:
    changes = np.array([[1, -1, 2, np.nan, 1.0], [1, -1, -2, 1, 1]])
    greener = np.array([np.nan, 0.02, 0.09, 0.5, -0.3])
    assert directions(changes, greener) == ["brighter", "darker", "mixed", None, "browner"]


def test_from_and_to_are_what_covers_most(tmp_path: Path) -> None:
    scheme = ClassScheme.of_names([("water", (3,), None), ("forest", (4,), None), ("town", (250,), None)])
    ids = np.full(GRID.shape, 3, np.uint8)
    ids[ROOF] = 4
    ids[5:9, 5:25] = UNLABELLED
    ids[9:11, 5:25] = 250
    ids[FIELD] = UNLABELLED
    ids[30:40, 40:60] = 250
    ids[40:50, 40:60] = 4
    labels = Labels("c.tif", GRID, scheme, Pixels(ids))
    coverage = coverage_of(mask_of(ROOF, FIELD, FOREST))
    found = found_of(tmp_path, pair_of(ground(), ground(), ("red", "nir")), np.ones(GRID.shape))
    known = columns(coverage, found, {"from": labels, "to": replace(labels, source=Pixels(np.full_like(ids, 250)))})
    of_changed = np.flatnonzero(coverage.ids == 1)
    # 80 pixels of forest are more than 40 of town and what nobody labelled; of two that are even, the first.
    assert known["from"].take(of_changed).to_pylist() == ["forest", None, "forest"]
    assert known["to"].take(of_changed).to_pylist() == ["town"] * 3


def test_nothing_has_columns_too(tmp_path: Path) -> None:
    labels = Labels("c.tif", GRID, ClassScheme.of_values([1]), Pixels(np.full(GRID.shape, UNLABELLED, np.uint8)))
    found = found_of(tmp_path, pair_of(ground(), ground(), ("red", "nir")), np.full(GRID.shape, np.nan))
    known = columns(coverage_of(np.full(GRID.shape, UNLABELLED, np.uint8)), found, {"from": labels})
    assert {len(values) for values in known.values()} == {0}
