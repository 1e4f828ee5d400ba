"""rsseg info: what it says of rasters, series and vector files."""

import json
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import rasterio
from affine import Affine
from shapely.geometry import box
from untrained import save_untrained

from rsseg_cli.bundle import load_bundle, save_bundle


def described(ended) -> list[dict]:
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)["files"]


def test_a_raster(rsseg, make_raster) -> None:
    values = np.arange(3 * 20 * 30, dtype=np.uint16).reshape(3, 20, 30)
    path = make_raster("town_2021-07-03.tif", values, nodata=0)
    (found,) = described(rsseg("info", path, "--json"))
    assert (found["kind"], found["width"], found["height"], found["crs"]) == ("raster", 30, 20, "EPSG:32633")
    assert (found["gsd_m"], found["date"]) == (0.5, "2021-07-03")
    assert found["bands"][1]["range"] == [600, 1199]
    said = rsseg("info", path).stdout
    assert "30 x 20 pixels of 0.5 m" in said
    assert "2021-07-03" in said


def test_a_selection_of_bands(rsseg, make_raster) -> None:
    path = make_raster("rgbi.tif", np.random.default_rng(0).integers(0, 255, (4, 9, 9), dtype=np.uint8))
    (found,) = described(rsseg("info", path, "--bands", "nir=4,red", "--json"))
    assert [band["name"] for band in found["bands"]] == ["nir", "red"]


def test_a_label_map_lists_its_classes(rsseg, make_raster, tmp_path: Path) -> None:
    path = make_raster("l.tif", np.array([[1, 2]], np.uint8), nodata=0)
    (tmp_path / "l.qml").write_text('<qgis><paletteEntry value="2" label="road" color="#112233"/></qgis>')
    (found,) = described(rsseg("info", path, "--json"))
    assert [(c["id"], c["name"]) for c in found["classes"]] == [(1, "1"), (2, "road")]


def test_a_series_by_date(rsseg, make_raster, tmp_path: Path) -> None:
    values = np.ones((2, 8, 8), np.uint8)
    values[:, 0] = 0
    clouds = np.zeros((8, 8), np.uint8)
    clouds[:4] = 1
    for date, col in (("2001", 0), ("1999-05-03", 2), ("2010", 0.25)):
        place = Affine(0.5, 0, 500_000 + col / 2, 0, -0.5, 5_000_000)
        make_raster(f"all/town/{date}.tif", values, transform=place, nodata=0)
    make_raster("all/town/2001_clouds.tif", clouds)
    make_raster("all/town/2001_labels.tif", clouds)
    (found,) = described(rsseg("info", tmp_path / "all", "--json"))
    assert (found["kind"], found["file"]) == ("series", str(tmp_path / "all" / "town"))
    assert [scene["date"] for scene in found["scenes"]] == ["1999-05-03", "2001", "2010"]
    assert found["days"] == [0, 791, 4078]
    assert (found["same_grid"], found["same_bands"], found["width"], found["height"]) == (False, True, 10, 8)
    assert [Path(label).name for label in found["labels"]] == ["2001_labels.tif"]
    shown = [(s["valid_share"], s["cloud_share"], s["offset_px"], s["resampled"]) for s in found["scenes"]]
    assert shown == [(0.875, None, [2, 0], False), (0.5, 0.375, [0, 0], False), (0.875, None, [0.25, 0], True)]
    lines = rsseg("info", "all").stdout.splitlines()
    assert lines[1] == "  a series of one place: 3 dates in 4078 days"
    assert lines[-2].split() == ["2010", "88", "%", "-", "0.25,", "0", "2010.tif", "resampled"]


def test_dates_that_are_no_series_are_a_folder(rsseg, make_raster, tmp_path: Path) -> None:
    for name in ("2001_a", "2001_b", "2002"):
        make_raster(f"f/{name}.tif", np.ones((4, 4), np.uint8))
    ended = rsseg("info", "f")
    assert "no series of one place: 3 rasters, one grid" in ended.stdout
    assert "show the same ground on the same date, 2001" in ended.stderr


def test_a_mosaic(rsseg, make_raster, tmp_path: Path) -> None:
    make_raster("m/a.tif", np.ones((4, 4), np.uint8))
    make_raster("m/b.tif", np.ones((4, 4), np.uint8), transform=Affine(0.5, 0, 500_002, 0, -0.5, 5_000_000))
    (found,) = described(rsseg("info", tmp_path / "m", "--mosaic", "--json"))
    assert (found["width"], found["height"]) == (8, 4)


def test_a_vector_file(rsseg, tmp_path: Path) -> None:
    frame = geopandas.GeoDataFrame({"class": ["a"]}, geometry=[box(0, 0, 1, 1)], crs=4326)
    frame.to_file(tmp_path / "v.gpkg", layer="fields")
    (found,) = described(rsseg("info", "v.gpkg", "--json"))
    assert found["layers"] == [
        {"name": "fields", "geometry": "Polygon", "features": 1, "crs": "EPSG:4326", "fields": ["class"]}
    ]
    assert "fields: 1 Polygon" in rsseg("info", "v.gpkg").stdout


def test_one_bad_file_does_not_hide_the_others(rsseg, make_raster) -> None:
    path = make_raster("a.tif", np.ones((4, 4), np.uint8))
    ended = rsseg("info", "none.tif", path, "--json")
    assert ended.returncode == 1
    first, second = json.loads(ended.stdout)["files"]
    assert first["error"]["file"] == "none.tif"
    assert second["width"] == 4


def test_nan_nodata_is_valid_json(rsseg, make_raster) -> None:
    path = make_raster("f.tif", np.array([[np.nan, 1]], np.float32), nodata=np.nan)
    ended = rsseg("info", path, "--json")
    (found,) = json.loads(ended.stdout, parse_constant=lambda text: 1 / 0)["files"]
    assert found["bands"][0]["nodata"] == "nan"
    assert found["valid_share"] == 0.5


def test_files_as_bands(rsseg, make_raster) -> None:
    red, nir = make_raster("B04.tif", np.ones((4, 4), np.uint16)), make_raster("B08.tif", np.ones((2, 2), np.uint16))
    (found,) = described(rsseg("info", f"red={red},nir={nir}", "--json"))
    assert [band["name"] for band in found["bands"]] == ["red", "nir"]


def test_several_files_as_one_mosaic(rsseg, make_raster) -> None:
    one = make_raster("a.tif", np.ones((4, 4), np.uint8))
    other = make_raster("b.tif", np.ones((4, 4), np.float32), transform=Affine(0.5, 0, 500_002, 0, -0.5, 5_000_000))
    (found,) = described(rsseg("info", one, other, "--mosaic", "--json"))
    assert (found["width"], found["height"]) == (8, 4)
    assert str(one) in found["file"]
    assert str(other) in found["file"]
    assert found["bands"][0]["dtype"] == "float32"


def test_a_bad_file_in_a_folder_does_not_hide_the_others(rsseg, make_raster, tmp_path: Path) -> None:
    make_raster("f/a.tif", np.ones((4, 4), np.uint8))
    make_raster("f/b.tif", np.ones((4, 4), np.uint8))
    (tmp_path / "f" / "c.tif").write_text("no raster")
    (tmp_path / "f" / "._a.tif").write_text("left by a Mac")
    (tmp_path / "f" / "d.tif").mkdir()
    ended = rsseg("info", "f")
    assert ended.returncode == 1
    assert "2 rasters" in ended.stdout
    assert ended.stderr.count("error:") == 1
    assert "c.tif: not a raster" in ended.stderr


def test_geoparquet(rsseg, tmp_path: Path) -> None:
    geopandas.GeoDataFrame({"class": ["a"]}, geometry=[box(0, 0, 1, 1)], crs=4326).to_parquet(tmp_path / "v.parquet")
    (found,) = described(rsseg("info", "v.parquet", "--json"))
    assert found["layers"][0]["features"] == 1


def test_bands_that_are_empty_do_not_make_the_image_empty(rsseg, make_raster) -> None:
    values = np.ones((3, 10, 10), np.int16)
    values[1] = -1
    ended = rsseg("info", make_raster("e.tif", values, nodata=-1))
    assert "0.00 % of the pixels have every band, 100.00 % at least one" in ended.stdout


def test_a_sample_is_called_a_sample(rsseg, make_raster) -> None:
    values = np.zeros((1, 5000, 5000), np.uint8)
    values[0, 2600:2620, 2600:2620] = 7
    ended = rsseg("info", make_raster("big.tif", values, nodata=0, compress="deflate", tiled=True))
    assert "by a sample" in ended.stdout
    assert "in the sample" in ended.stdout


def test_damaged_sidecars_and_tags_end_in_words(rsseg, make_raster, tmp_path: Path) -> None:
    path = make_raster("l.tif", np.ones((4, 4), np.uint8))
    path.with_name("l.tif.aux.xml").write_text("<PAMDataset><oops")
    path.with_suffix(".qml").write_bytes(b"<qgis label='\xff\xfe paletteEntry'/>")
    ended = rsseg("info", path)
    assert ended.returncode == 0
    assert ended.stderr.count("left out, it cannot be read") == 2
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(RSSEG_CLASSES='[{"id": 300}]')
    refused = rsseg("evaluate", path, path)
    assert (refused.returncode, "RSSEG_CLASSES is damaged" in refused.stderr) == (1, True)


def test_a_palette_of_256_colours_is_a_raster_all_the_same(rsseg, make_raster) -> None:
    path = make_raster("map.tif", np.arange(256, dtype=np.uint8).reshape(16, 16))
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {value: (value, 0, 0, 255) for value in range(256)})
    ended = rsseg("info", path)
    assert ended.returncode == 0
    assert "16 x 16 pixels" in ended.stdout


def test_a_model_says_how_its_confidence_is_corrected(rsseg, tmp_path: Path) -> None:
    path = save_untrained(tmp_path / "m.safetensors")
    assert "confidence is not corrected" in rsseg("info", path).stdout
    bundle = load_bundle(path)
    save_bundle(path, replace(bundle.card, temperature=1.346), bundle.network, overwrite=True)
    assert "confidence is corrected by a temperature of 1.35" in rsseg("info", path).stdout
    (found,) = described(rsseg("info", path, "--json"))
    assert found["temperature"] == 1.346


def test_an_adapted_model_says_what_was_delivered(rsseg, tmp_path: Path) -> None:
    bundle = load_bundle(save_untrained(tmp_path / "m.safetensors"))
    selected = {"rule": "consistency", "step": 40, "match": "coral", "target_norms": 1.0, "score": 0.612}
    selected |= {"source_only_score": 0.5, "verdict": "adapted"}
    card = replace(bundle.card, scores={**bundle.card.scores, "selected": selected})
    save_bundle(tmp_path / "adapted.safetensors", card, bundle.network)
    said = rsseg("info", tmp_path / "adapted.safetensors").stdout
    assert "adapted, step 40, bands matched: coral; score 0.612 on target ground held back, source-only 0.500" in said
