"""rsseg info: what it says of rasters, series and vector files."""

import json
from pathlib import Path

import geopandas
import numpy as np
from affine import Affine
from shapely.geometry import box


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
    for year in (2001, 1999, 2010):
        make_raster(f"series/{year}.tif", np.ones((4, 4), np.uint8))
    (found,) = described(rsseg("info", tmp_path / "series", "--json"))
    assert found["kind"] == "series"
    assert [scene["date"] for scene in found["scenes"]] == ["1999", "2001", "2010"]
    assert found["same_grid"] is True


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
