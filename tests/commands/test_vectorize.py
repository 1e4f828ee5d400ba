"""rsseg vectorize, end to end: label maps in, polygon layers out, and what is said about it."""

import json
import subprocess
import sys
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.features import rasterize
from rasterio.warp import transform_bounds

SCENES = Path(__file__).parents[2] / "sample_scenes"
TRUTH = SCENES / "truth" / "karst_1_labels.tif"
CLASSES = ["road", "building", "tree", "grass", "water", "bare ground"]


def read(path: Path, layer: str | None = None) -> geopandas.GeoDataFrame:
    return pyogrio.read_dataframe(path, layer=layer or path.stem)


def two_classes(height: int = 20, width: int = 30) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    mask[4:12, 5:20] = 1
    return mask


def test_the_exact_layer_gives_the_map_back(rsseg, tmp_path: Path) -> None:
    ended = rsseg("vectorize", TRUTH, "-o", "exact.gpkg", "--exact", "--json")
    assert ended.returncode == 0, ended.stderr
    found, frame = json.loads(ended.stdout), read(tmp_path / "exact.gpkg")
    with rasterio.open(TRUTH) as dataset:
        labels, transform, crs, nodata = dataset.read(1), dataset.transform, dataset.crs, dataset.nodata
    burnt = rasterize(zip(frame.geometry, frame["class_id"], strict=True), labels.shape, nodata, transform=transform)
    np.testing.assert_array_equal(burnt, labels)
    assert frame.crs == crs
    assert set(found) == {"output", "layer", "polygons", "classes", "seconds"}
    assert (found["output"], found["layer"], found["polygons"]) == ("exact.gpkg", "exact", len(frame))
    for name, figures in found["classes"].items():
        mine = frame[frame["class_name"] == name]
        pixels = (labels == mine["class_id"].iloc[0]).sum()
        assert figures["polygons"] == len(mine)
        assert figures["area_m2"] == pytest.approx(pixels * abs(transform.determinant))
        assert mine["area_m2"].sum() == pytest.approx(figures["area_m2"])


def test_the_usual_layer_is_clean(rsseg, tmp_path: Path) -> None:
    ended = rsseg("vectorize", TRUTH, "-o", "map.gpkg", "--min-area", "20,building=8", "--regularize", "building")
    assert (ended.returncode, ended.stdout) == (0, "map.gpkg\n"), ended.stderr
    frame = read(tmp_path / "map.gpkg")
    assert list(frame.columns) == ["uid", "class_id", "class_name", "area_m2", "perimeter_m", "geometry"]
    assert frame["uid"].is_unique
    assert set(frame["class_name"]) <= set(CLASSES)
    assert shapely.is_valid(frame.geometry).all()
    assert shapely.coverage_is_valid(frame.geometry.to_numpy())
    np.testing.assert_allclose(frame["area_m2"], frame.area)
    np.testing.assert_allclose(frame["perimeter_m"], frame.length)
    least = np.where(frame["class_name"] == "building", 8, 20)
    assert (frame["area_m2"] > 0.6 * least).all()  # pixels decide; smoothing takes a little of small ones
    with rasterio.open(TRUTH) as dataset:
        assert frame.union_all().equals(shapely.box(*dataset.bounds))


def test_names_stay_whatever_is_done_to_lines(rsseg, tmp_path: Path) -> None:
    rsseg("vectorize", TRUTH, "-o", "a.gpkg", "--exact")
    rsseg("vectorize", TRUTH, "-o", "b.gpkg", "--simplify", "3")
    one, other = read(tmp_path / "a.gpkg"), read(tmp_path / "b.gpkg")
    assert one["uid"].tolist() == other["uid"].tolist()


def test_without_a_name_the_layer_lies_here_under_the_masks(rsseg, tmp_path: Path) -> None:
    assert rsseg("vectorize", TRUTH).stdout == "karst_1_labels.gpkg\n"
    assert rsseg("vectorize", TRUTH, "-f", "FlatGeobuf").stdout == "karst_1_labels.fgb\n"
    assert {path.name for path in tmp_path.iterdir()} == {"karst_1_labels.gpkg", "karst_1_labels.fgb"}


@pytest.mark.parametrize("name", ["m.gpkg", "m.fgb", "m.geojson", "m.geojsonl", "m.parquet"])
def test_every_format_holds_the_same(rsseg, tmp_path: Path, name: str) -> None:
    ended = rsseg("vectorize", TRUTH, "-o", name, "--crs", "EPSG:4326")
    assert ended.returncode == 0, ended.stderr
    path = tmp_path / name
    frame = geopandas.read_parquet(path) if name.endswith("parquet") else pyogrio.read_dataframe(path, layer="m")
    assert frame.crs == "EPSG:4326"
    assert shapely.is_valid(frame.geometry).all()
    rsseg("vectorize", TRUTH, "-o", "reference.gpkg")
    reference = read(tmp_path / "reference.gpkg")
    frame = frame.set_index("uid").loc[reference["uid"]]
    assert frame["class_name"].tolist() == reference["class_name"].tolist()
    np.testing.assert_allclose(frame["area_m2"], reference["area_m2"])
    np.testing.assert_allclose(frame.to_crs(reference.crs).area, reference["area_m2"], rtol=1e-3)


def test_a_stream_of_features_on_stdout(rsseg) -> None:
    ended = rsseg("vectorize", TRUTH, "-o", "-", "--classes", "building")
    features = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(features) > 5
    assert {feature["properties"]["class_name"] for feature in features} == {"building"}
    point = shapely.Point(features[0]["geometry"]["coordinates"][0][0])
    with rasterio.open(TRUTH) as dataset:
        around = shapely.box(*transform_bounds(dataset.crs, "EPSG:4326", *dataset.bounds))
    assert shapely.distance(point, around) < 1e-4


def test_a_reader_that_leaves_early_is_no_failure_to_shout_about(tmp_path: Path) -> None:
    command = f"{sys.executable} -m rsseg_cli vectorize {TRUTH} -o - | head -n 1"
    ended = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert json.loads(ended.stdout)["type"] == "Feature"
    assert "Traceback" not in ended.stderr


def test_classes_are_chosen_and_renamed(rsseg, tmp_path: Path) -> None:
    rules = tmp_path / "rules.csv"
    rules.write_text("from,to\ntree,green\ngrass,green\nbare ground,\n")
    ended = rsseg("vectorize", TRUTH, "-o", "m.gpkg", "--remap", rules, "--classes", "green,water")
    assert ended.returncode == 0, ended.stderr
    assert set(read(tmp_path / "m.gpkg")["class_name"]) <= {"green", "water"}
    names = tmp_path / "names.csv"
    names.write_text("value,name,color\n" + "".join(f"{n},class {n},#10203{n}\n" for n in range(6)))
    ended = rsseg("vectorize", TRUTH, "-o", "n.gpkg", "--classes", names)
    assert ended.returncode == 0, ended.stderr
    assert set(read(tmp_path / "n.gpkg")["class_name"]) <= {f"class {n}" for n in range(6)}


def test_polygons_go_on_from_one_mask_to_the_next(rsseg, make_raster, tmp_path: Path) -> None:
    whole = two_classes()
    make_raster("west.tif", whole[:, :12])
    make_raster("east.tif", whole[:, 10:], transform=Affine(0.5, 0, 500_005, 0, -0.5, 5_000_000))
    ended = rsseg("vectorize", "west.tif", "east.tif", "-o", "both.gpkg", "--exact")
    assert ended.returncode == 0, ended.stderr
    frame = read(tmp_path / "both.gpkg")
    assert sorted(frame["area_m2"]) == [120 * 0.25, 480 * 0.25]
    assert set(frame["source"]) == {"west, east"}


def test_confidence_of_each_polygon(rsseg, make_raster, tmp_path: Path) -> None:
    mask = make_raster("mask.tif", two_classes())
    sure = np.full((20, 30), 200, np.uint8)
    sure[4:12, 5:20] = np.arange(120).reshape(8, 15)
    with rasterio.open(make_raster("sure.tif", sure, nodata=255), "r+") as dataset:
        dataset.scales = (0.004,)
    ended = rsseg("vectorize", mask, "-o", "m.gpkg", "--confidence", "sure.tif")
    assert ended.returncode == 0, ended.stderr
    inner = read(tmp_path / "m.gpkg").set_index("class_id").loc[1]
    expected = np.arange(120) * 0.004
    assert inner["confidence_mean"] == pytest.approx(expected.mean(), abs=1e-6)
    assert inner["confidence_min"] == pytest.approx(0)
    assert inner["confidence_p10"] == pytest.approx(np.percentile(expected, 10), abs=1e-6)


def test_one_file_for_each_district(rsseg, tmp_path: Path) -> None:
    with rasterio.open(TRUTH) as dataset:
        left, bottom, right, top = dataset.bounds
    halves = [shapely.box(left, bottom, (left + right) / 2, top), shapely.box((left + right) / 2, bottom, right, top)]
    geopandas.GeoDataFrame({"name": ["Nord", "Süd/Ost"]}, geometry=halves, crs="EPSG:32633").to_file(
        tmp_path / "districts.gpkg"
    )
    ended = rsseg("vectorize", TRUTH, "-o", "out", "--split", "districts.gpkg:name", "--crs", "EPSG:3857", "--json")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    paths = [tmp_path / entry["output"] for entry in found["districts"]]
    assert [path.name for path in paths] == ["karst_1_labels_Nord.gpkg", "karst_1_labels_Süd_Ost.gpkg"]
    frames = [pyogrio.read_dataframe(path, layer=path.stem) for path in paths]
    assert all(frame.crs == "EPSG:3857" for frame in frames)
    assert sum(frame["area_m2"].sum() for frame in frames) == pytest.approx((right - left) * (top - bottom))
    assert sum(c["area_m2"] for c in found["classes"].values()) == pytest.approx((right - left) * (top - bottom))


def test_a_second_layer_beside_the_first_but_never_under_another_crs(rsseg, tmp_path: Path) -> None:
    rsseg("vectorize", TRUTH, "-o", "all.gpkg", "--layer", "2024")
    ended = rsseg("vectorize", TRUTH, "-o", "all.gpkg", "--layer", "2025", "--append", "--exact")
    assert ended.returncode == 0, ended.stderr
    layers = {str(name): kind for name, kind in pyogrio.list_layers(tmp_path / "all.gpkg") if kind}
    assert set(layers) == {"2024", "2025"}
    before = (tmp_path / "all.gpkg").read_bytes()
    ended = rsseg("vectorize", TRUTH, "-o", "all.gpkg", "--layer", "2025", "--append", "--crs", "EPSG:4326")
    assert ended.returncode == 1
    assert "4326" in ended.stderr
    assert (tmp_path / "all.gpkg").read_bytes() == before


def test_rotated_grids_are_exact(rsseg, make_raster, tmp_path: Path) -> None:
    rotated = Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000) @ Affine.rotation(30)
    mask = make_raster("rotated.tif", two_classes(), transform=rotated)
    rsseg("vectorize", mask, "-o", "m.gpkg", "--exact")
    inner = read(tmp_path / "m.gpkg").set_index("class_id").loc[1]
    corners = [rotated @ corner for corner in ((5, 4), (20, 4), (20, 12), (5, 12))]
    assert {tuple(xy) for xy in shapely.get_coordinates(inner.geometry)} == set(corners)


def test_without_a_crs_pixels_count_and_that_is_said(rsseg, make_raster, tmp_path: Path) -> None:
    mask = make_raster("plain.tif", two_classes(), crs=None, transform=None)
    ended = rsseg("vectorize", mask, "-o", "m.gpkg", "--json")
    assert ended.stderr.count("no coordinate system") == 1
    frame = read(tmp_path / "m.gpkg")
    assert frame.crs is None
    assert sorted(frame["area_px"]) == [120, 480]
    assert json.loads(ended.stdout)["classes"]["1"] == {"polygons": 1, "area_px": 120}


def test_an_empty_map_gives_an_empty_layer_and_says_so(rsseg, make_raster, tmp_path: Path) -> None:
    mask = make_raster("empty.tif", np.full((5, 5), 255, np.uint8), nodata=255)
    ended = rsseg("vectorize", mask, "-o", "m.gpkg")
    assert ended.returncode == 0, ended.stderr
    assert "no polygon is written: nothing is labelled" in ended.stderr
    frame = read(tmp_path / "m.gpkg")
    assert len(frame) == 0
    assert {"uid", "class_id", "class_name", "area_m2", "perimeter_m"} <= set(frame.columns)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["missing.tif"], "no such file"),
        (["ndvi.tif"], "no class number"),
        (["photo.tif"], "no label map"),
        (["mask.tif", "-o", "there.gpkg"], "--overwrite"),
        (["mask.tif", "-o", "m.shp"], ".gpkg"),
        (["mask.tif", "-o", "m.xyz"], "GPKG"),
        (["mask.tif", "-o", "nowhere/m.gpkg"], "mkdir"),
        (["mask.tif", "--classes", "castle"], "castle"),
        (["mask.tif", "--min-area", "20,castle=5"], "castle"),
        (["mask.tif", "--min-area", "lots"], "500,building=25"),
        (["mask.tif", "--regularize", "castle"], "castle"),
        (["mask.tif", "--crs", "EPSG:0"], "EPSG:25832"),
        (["mask.tif", "--exact", "--simplify", "2"], "--exact"),
        (["mask.tif", "--append", "--overwrite"], "--append"),
        (["mask.tif", "--confidence", "elsewhere.tif"], "elsewhere.tif"),
        (["mask.tif", "--split", "there.gpkg"], "FIELD"),
        (["mask.tif", "--split", "there.gpkg:name", "-o", "there.gpkg"], "name a folder"),
        (["mask.tif", "--crs", "EPSG:4258", "-o", "m.geojson"], "WGS 84"),
        (["mask.tif", "-f", "Shapefile"], "Shapefile"),
        (["mask.tif", "--simplify", "nan"], "--simplify"),
        (["mask.tif", "--layer", "a|b"], "--layer"),
        (["mask.tif", "-o", "-", "-f", "GPKG"], "--format"),
        (["mask.tif", "-o", "-", "--json"], "--json"),
        (["mask.tif", "--layer", "layer_styles"], "--layer"),
        (["mask.tif", "--classes", ","], "--classes"),
        (["mask.tif", "--min-area", "-5"], "500,building=25"),
        (["mask.tif", "--crs", "EPSG:3857", "-o", "m.geojson"], "GeoJSON"),
        (["plain.tif", "--crs", "EPSG:4326"], "no coordinate system"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(rsseg, make_raster, tmp_path: Path, options, words: str) -> None:
    make_raster("mask.tif", two_classes())
    rng = np.random.default_rng(0)
    make_raster("ndvi.tif", rng.random((20, 30), np.float32))
    make_raster("photo.tif", rng.integers(0, 255, (3, 200, 200), np.uint8))
    make_raster("elsewhere.tif", rng.random((20, 30), np.float32), transform=Affine(0.5, 0, 9_000_000, 0, -0.5, 0))
    make_raster("plain.tif", two_classes(), crs=None, transform=None)
    (tmp_path / "there.gpkg").write_bytes(b"mine")
    before = sorted(path.name for path in tmp_path.iterdir())
    ended = rsseg("vectorize", *options)
    assert ended.returncode == 1, ended.stdout
    assert "Traceback" not in ended.stderr
    assert ended.stderr.startswith("error:") or "\nerror:" in ended.stderr
    assert "hint:" in ended.stderr
    assert words in ended.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (tmp_path / "there.gpkg").read_bytes() == b"mine"


def test_a_default_layer_name_is_one_that_gdal_makes(rsseg, make_raster, tmp_path: Path) -> None:
    make_raster("(1).tif", two_classes())
    assert rsseg("vectorize", "(1).tif", "--json").returncode == 0
    assert [str(name) for name, kind in pyogrio.list_layers(tmp_path / "(1).gpkg") if kind] == ["1)"]


def test_what_is_too_small_and_alone_goes_and_is_counted(rsseg, make_raster, tmp_path: Path) -> None:
    islands = np.full((20, 30), 255, np.uint8)
    islands[2, 3], islands[10:15, 10:15] = 1, 1
    make_raster("islands.tif", islands, nodata=255)
    ended = rsseg("vectorize", "islands.tif", "-o", ".", "--min-area", "1e0")
    assert "1 polygons are too small, and left out" in ended.stderr
    assert len(read(tmp_path / "islands.gpkg")) == 1
    assert "--min-area leaves none" in rsseg("vectorize", "islands.tif", "-o", "no.gpkg", "--min-area", "99").stderr


def test_many_specks_are_pointed_out(rsseg, make_raster) -> None:
    noise = make_raster("noise.tif", np.random.default_rng(0).integers(0, 3, (60, 60), np.uint8))
    assert "--min-area" in rsseg("vectorize", noise).stderr
