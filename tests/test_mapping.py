"""One scene mapped: the part that is wanted, mirror images, and the same labels however the scene is stored."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from rasterio.crs import CRS
from rasterio.windows import Window
from untrained import save_untrained

from rsseg_cli.bundle import Bundle, load_bundle
from rsseg_cli.errors import RssegError
from rsseg_cli.job import Job, Outputs, Settings
from rsseg_cli.mapping import View, map_array, map_scene, mirrored_too, walk_of
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.scene import Band, Scene, open_file
from rsseg_cli.raster.series import open_series
from rsseg_cli.vector.area import Area

SETTINGS = Settings(tile_px=128, overlap_px=32, precision="float32")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    return load_bundle(save_untrained(tmp_path_factory.mktemp("model") / "m.safetensors"))


@pytest.fixture
def path(make_raster) -> Path:
    values = np.random.default_rng(5).integers(1, 255, (4, 420, 310), dtype=np.uint8)
    return make_raster("noise.tif", values, photometric="minisblack", alpha="unspecified")


def disc(rows: int, cols: int) -> np.ndarray:
    row, col = np.ogrid[:rows, :cols]
    return ((row - 200) ** 2 + (col - 150) ** 2 < 90**2).astype(np.uint8)


def area_of(inside: np.ndarray) -> Area:
    rows, cols = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    window = Window(int(cols[0]), int(rows[0]), int(cols[-1] - cols[0] + 1), int(rows[-1] - rows[0] + 1))
    return Area(window, SimpleNamespace(read=lambda w: inside[w.toslices()]), "a digest")


def test_an_area_is_mapped_with_its_surroundings_in_view(path: Path, bundle: Bundle) -> None:
    scene = open_file(str(path))
    area = area_of(disc(*scene.grid.shape))
    view = View.of(scene, area, 32)
    assert (area.window.height, view.grid.height, view.scene.grid.height) == (179, 179, 179 + 2 * 32)
    assert view.grid == scene.grid.crop(area.window)
    labels = map_array(scene, area, bundle, SETTINGS)
    rows, cols = area.window.toslices()
    np.testing.assert_array_equal(labels == 255, disc(*scene.grid.shape)[rows, cols] == 0)
    # The same walk over the surroundings alone, cut by hand.
    seen = area.grown(32, scene.grid)
    whole = map_array(View.of(scene, area, 32).scene, None, bundle, SETTINGS)
    top, left = area.window.row_off - seen.row_off, area.window.col_off - seen.col_off
    cut = whole[top : top + 179, left : left + 179]
    np.testing.assert_array_equal(labels[labels != 255], cut[labels != 255])


def test_values_in_other_units_are_told(path: Path, bundle: Bundle, make_raster, caplog) -> None:
    map_array(open_file(str(path)), None, bundle, SETTINGS)
    assert not caplog.records
    with rasterio.open(path) as file:
        reflectance = file.read().astype(np.float32) / 10000
    other = make_raster("reflectance.tif", reflectance)
    map_array(open_file(str(other)), None, bundle, SETTINGS)
    (told,) = caplog.messages
    assert "reflectance.tif: values are not like those the model knows" in told
    assert "rsseg adapt" in told


def test_values_of_the_target_that_was_adapted_to_are_known(path: Path, bundle: Bundle, make_raster, caplog) -> None:
    with rasterio.open(path) as file:
        reflectance = file.read().astype(np.float32) / 10000
    known = bundle.card.normalisation
    centres, spreads = (tuple(value / 10000 for value in values) for values in (known.centres, known.spreads))
    target = replace(known, centres=centres, spreads=spreads).to_json()
    card = replace(bundle.card, provenance={"normalisation": {"target": target}})
    map_array(open_file(str(make_raster("target.tif", reflectance))), None, replace(bundle, card=card), SETTINGS)
    assert not caplog.records
    map_array(open_file(str(make_raster("other.tif", reflectance / 100))), None, replace(bundle, card=card), SETTINGS)
    assert "values are not like those the model knows" in caplog.text


def test_no_window_reaches_out_of_the_scene() -> None:
    scene = Scene(
        "s", Grid(CRS.from_epsg(32633), Affine.scale(1, -1), 50, 60), (Band("1", "uint8"),), SimpleNamespace()
    )
    corner = Area(Window(40, 0, 20, 10), SimpleNamespace(), "")
    assert corner.grown(16, scene.grid) == Window(24, 0, 36, 26)


def test_mirror_images_count_alike() -> None:
    torch.manual_seed(0)
    network = torch.nn.Conv2d(2, 3, 3, padding=1)
    with torch.inference_mode():
        averaged = mirrored_too(network)
        tiles = torch.randn(2, 2, 8, 12)
        expected = torch.stack(
            [network(tiles), *(network(tiles.flip(axes)).flip(axes) for axes in ((-1,), (-2,), (-2, -1)))]
        ).mean(dim=0)
        torch.testing.assert_close(averaged(tiles), expected)
        # Mirrored tiles give the mirrored answer, which those of a network of its own do not.
        torch.testing.assert_close(averaged(tiles.flip(-1)).flip(-1), averaged(tiles))
        assert not torch.allclose(network(tiles.flip(-1)).flip(-1), network(tiles))


def test_mirroring_is_used_when_asked_for(path: Path, bundle: Bundle) -> None:
    scene = open_file(str(path))
    once, averaged = (walk_of(scene, bundle, Settings(tta=tta)) for tta in (False, True))
    tiles = torch.randn(1, 4, 64, 64)
    torch.testing.assert_close(averaged.forward(tiles), mirrored_too(once.forward)(tiles))
    assert not torch.equal(averaged.forward(tiles), once.forward(tiles))


def test_strips_tiles_and_workers_do_not_matter(make_raster, bundle: Bundle) -> None:
    values = np.random.default_rng(6).integers(1, 255, (4, 640, 530), dtype=np.uint8)
    plain = {"photometric": "minisblack", "alpha": "unspecified", "compress": "deflate"}
    small, large = ({"tiled": True, "blockxsize": side, "blockysize": side} for side in (128, 512))
    maps = []
    for workers, name, tiled in ((1, "strips", {}), (3, "strips", {}), (3, "small", small), (1, "large", large)):
        path = make_raster(f"{name}.tif", values, **tiled, **plain)
        walk = walk_of(open_file(str(path)), bundle, Settings(tile_px=192, overlap_px=32, precision="float32"))
        places = np.full(values.shape[1:], 255, np.uint8)
        for cell, _ in replace(walk, workers=workers).cells():
            places[cell.window.toslices()] = cell.places
        maps.append(places)
    assert (np.bincount(maps[0].ravel(), minlength=3) > 1000).all()
    for other in maps[1:]:
        np.testing.assert_array_equal(other, maps[0])


def broken_off(rows: int):
    """A track that ends a run after so many rows."""

    def track(steps: Iterable, label: str, total: int) -> Iterator:
        for number, step in enumerate(steps):
            if number == rows:
                raise KeyboardInterrupt
            yield step

    return track


def job(path: Path, target: Path, area: Area | None = None) -> Job:
    return Job(open_file(str(path)), (Outputs(target, target.with_name("p.tif")),), area)


def test_an_area_goes_on_where_it_stopped(path: Path, bundle: Bundle, tmp_path: Path, caplog) -> None:
    area, settings = area_of(disc(420, 310)), replace(SETTINGS, tta=True)
    target = tmp_path / "m.tif"
    with pytest.raises(KeyboardInterrupt), caplog.at_level(logging.INFO):
        map_scene(job(path, target, area), bundle, settings, track=broken_off(1))
    assert "finished are kept; --resume" in caplog.text
    for other, match in ((replace(settings, tta=False), "tta was True, is False"), (settings, "aoi is another")):
        changed = replace(area, digest="another") if match.startswith("aoi") else area
        with pytest.raises(RssegError, match=f"differs: {match}$"):
            map_scene(job(path, target, changed), bundle, other, resume=True)
    (found,) = map_scene(job(path, target, area), bundle, settings, resume=True)
    assert (found["width"], found["height"]) == (179, 179)
    with rasterio.open(target) as labels:
        np.testing.assert_array_equal(labels.read(1), map_array(open_file(str(path)), area, bundle, settings))
    assert hidden(tmp_path) == []


def hidden(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name.startswith("."))


def test_a_run_that_finished_nothing_leaves_nothing(path: Path, bundle: Bundle, tmp_path: Path) -> None:
    def track(steps: Iterable, label: str, total: int) -> Iterator:
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        map_scene(job(path, tmp_path / "m.tif"), bundle, SETTINGS, track=track)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["noise.tif"]


def test_a_run_that_may_not_begin_leaves_the_rows_of_another(path: Path, bundle: Bundle, tmp_path: Path) -> None:
    target = tmp_path / "m.tif"
    with pytest.raises(KeyboardInterrupt):
        map_scene(job(path, target), bundle, SETTINGS, track=broken_off(1))
    target.touch()
    with pytest.raises(RssegError, match="exists already"):
        map_scene(job(path, target), bundle, SETTINGS)
    target.unlink()
    with pytest.raises(KeyboardInterrupt):
        map_scene(job(path, target), bundle, SETTINGS, resume=True, track=broken_off(0))
    assert hidden(tmp_path) == [".m.tif.rsseg-rows"]


@pytest.mark.parametrize("kind", ["row", "strip"])
@pytest.mark.parametrize("left", [5, 100])
def test_finished_rows_that_were_lost_are_told(
    path: Path, bundle: Bundle, tmp_path: Path, kind: str, left: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        map_scene(job(path, tmp_path / "m.tif"), bundle, SETTINGS, track=broken_off(1))
    (file, *_) = (tmp_path / ".m.tif.rsseg-rows").glob(f"{kind}[0-9]*")
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(RssegError, match=f"{file.name}: what an earlier run finished is damaged") as refused:
        map_scene(job(path, tmp_path / "m.tif"), bundle, SETTINGS, resume=True)
    assert refused.value.hint == "start anew without --resume"
    map_scene(job(path, tmp_path / "m.tif"), bundle, SETTINGS)


def test_a_full_disk_is_told_with_the_name_of_the_map(make_raster, bundle: Bundle, disk) -> None:
    # Wide and low: what one row leaves for the next is larger than the whole map.
    values = np.random.default_rng(5).integers(1, 255, (4, 100, 3000), dtype=np.uint8)
    path = make_raster("wide.tif", values, photometric="minisblack", alpha="unspecified")
    folder = disk(1000)
    with pytest.raises(RssegError, match=r"m\.tif: could not be written") as refused:
        map_scene(Job(open_file(str(path)), (Outputs(folder / "m.tif"),)), bundle, SETTINGS)
    assert refused.value.kind == "space"
    assert list(folder.iterdir()) == []


def mapped_at(temperature: float, path: Path, bundle: Bundle, target: Path) -> tuple[np.ndarray, np.ndarray]:
    """(labels, confidence) of a model with another temperature."""
    outputs = Outputs(target, confidence=target.with_name("c.tif"), overwrite=True)
    card = replace(bundle.card, temperature=temperature)
    map_scene(Job(open_file(str(path)), (outputs,)), replace(bundle, card=card), SETTINGS)
    with rasterio.open(target) as labels, rasterio.open(outputs.confidence) as confidence:
        return labels.read(1), confidence.read(1) * confidence.scales[0]


def test_the_temperature_changes_confidence_and_no_label(path: Path, bundle: Bundle, tmp_path: Path) -> None:
    labels, confidence = mapped_at(1.0, path, bundle, tmp_path / "m.tif")
    cooler, surer = mapped_at(0.05, path, bundle, tmp_path / "m.tif")
    warmer, shyer = mapped_at(1000.0, path, bundle, tmp_path / "m.tif")
    np.testing.assert_array_equal(cooler, labels)
    np.testing.assert_array_equal(warmer, labels)
    assert surer.mean() > confidence.mean() + 0.05
    np.testing.assert_allclose(shyer, 1 / 3, atol=0.004)


def test_a_run_does_not_go_on_with_another_temperature(path: Path, bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        map_scene(job(path, tmp_path / "m.tif"), bundle, SETTINGS, track=broken_off(1))
    warmer = replace(bundle, card=replace(bundle.card, temperature=2.0))
    with pytest.raises(RssegError, match=r"differs: temperature was 1.0, is 2.0$"):
        map_scene(job(path, tmp_path / "m.tif"), warmer, SETTINGS, resume=True)


def test_the_dates_of_an_area_go_on_where_they_stopped(make_raster, bundle: Bundle, tmp_path: Path) -> None:
    values = np.random.default_rng(7).integers(1, 255, (3, 4, 300, 200), dtype=np.uint8)
    values[1, :, 100:260] = 0
    for date, each in zip(("2020-01-01", "2020-02-01", "2020-05-01"), values, strict=True):
        make_raster(f"s/{date}.tif", each, nodata=0, photometric="minisblack", alpha="unspecified")
    series, settings = open_series(tmp_path / "s"), replace(SETTINGS, series="dates")
    area = area_of(disc(300, 200))

    def job_in(folder: str) -> Job:
        (tmp_path / folder).mkdir()
        return Job(series, tuple(Outputs(tmp_path / folder / f"{date}.tif") for date in series.dates), area)

    broken, whole = job_in("broken"), job_in("whole")
    with pytest.raises(KeyboardInterrupt):
        map_scene(broken, bundle, settings, track=broken_off(1))
    assert hidden(tmp_path / "broken") == [".2020-01-01.tif.rsseg-rows"]
    later, at_once = map_scene(broken, bundle, settings, resume=True), map_scene(whole, bundle, settings)
    for entry, other in zip(later, at_once, strict=True):
        assert entry["classes"] == other["classes"]
        assert entry["consistency"] == other["consistency"]
        with rasterio.open(entry["labels"]) as labels, rasterio.open(other["labels"]) as expected:
            np.testing.assert_array_equal(labels.read(1), expected.read(1))
            rows, cols = area.window.toslices()
            np.testing.assert_array_equal(labels.read(1) == 255, disc(300, 200)[rows, cols] == 0)
    assert 0 < at_once[0]["consistency"]["compared"] < 2 * disc(300, 200).sum()
