"""rsseg detect-change, end to end on the sample pair, and what it refuses."""

import json
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
from affine import Affine

SAMPLE = Path(__file__).parents[2] / "sample_scenes" / "change"
BEFORE, AFTER, TRUTH = (SAMPLE / f"{name}.tif" for name in ("before", "after", "truth"))
KEYS = [
    "change",
    "probability",
    "polygons",
    "changed_pixels",
    "changed_share",
    "changed_area_m2",
    "method",
    "delivered",
    "threshold",
    "steps",
    "stopped_by",
    "shift_px",
    "shift_reliability",
    "radiometry",
    "agreement_with_ir_mad",
    "warnings",
    "seconds",
]


def texture(seed: int = 0, height: int = 120, width: int = 150, bands: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    fields = np.kron(rng.random((bands, height // 10 + 1, width // 10 + 1)), np.ones((10, 10)))[:, :height, :width]
    return (400 + 1000 * fields + 40 * rng.standard_normal((bands, height, width))).astype(np.uint16)


def test_the_sample_pair(rsseg, tmp_path: Path) -> None:
    call = ["detect-change", BEFORE, AFTER, "-o", "m.tif", "--probability", "s.tif", "--polygons", "p.gpkg", "--json"]
    ended = rsseg(*call)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert list(found) == KEYS
    with rasterio.open(tmp_path / "m.tif") as mask, rasterio.open(AFTER) as after, rasterio.open(TRUTH) as dataset:
        assert (mask.crs, mask.transform, mask.shape, mask.nodata) == (after.crs, after.transform, after.shape, 255)
        labels, truth = mask.read(1), dataset.read(1)
        assert set(np.unique(labels)) == {0, 1, 255}
        assert (labels[(after.read() == 0).all(axis=0)] == 255).all()
    changed, held = labels == 1, (truth != 255) & (labels != 255)
    hits = (changed & (truth == 1))[held].sum()
    assert 2 * hits / (changed[held].sum() + (truth == 1)[held].sum()) > 0.6
    assert found["changed_pixels"] == changed.sum()
    assert found["changed_share"] == pytest.approx(changed.sum() / (labels != 255).sum())
    assert found["changed_area_m2"] == pytest.approx(changed.sum() * 0.64)
    with rasterio.open(tmp_path / "s.tif") as dataset:
        score = dataset.read(1)
    np.testing.assert_array_equal(np.isnan(score), labels == 255)
    np.testing.assert_array_equal((score > 0.5)[labels != 255], changed[labels != 255])
    assert (score[labels != 255] <= 1).all()
    polygons = pyogrio.read_dataframe(tmp_path / "p.gpkg", layer="p")
    assert set(polygons["class_name"]) == {"changed"}
    assert polygons["area_m2"].sum() == pytest.approx(found["changed_area_m2"], rel=0.1)
    assert (polygons["score_mean"] >= 0.5).all()
    assert (polygons["magnitude"] >= 1).all()
    assert set(polygons["direction"]) <= {"brighter", "darker", "greener", "browner", "mixed"}
    assert {f"change_{band}" for band in ("red", "green", "blue", "nir")} < set(polygons.columns)
    assert 0 < found["agreement_with_ir_mad"] < 1


@pytest.mark.parametrize("method", ["classical", "ir-mad", "cva"])
def test_the_same_date_twice_is_all_unchanged_and_a_warning(rsseg, make_raster, tmp_path: Path, method: str) -> None:
    scene = make_raster("a.tif", texture())
    ended = rsseg("detect-change", scene, scene, "--method", method, "--json")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert (found["change"], found["changed_pixels"], found["method"]) == ("change.tif", 0, method)
    assert ["hold the same pixels" in text or "nothing has changed" in text for text in found["warnings"]] == [True] * 2
    assert all(f"warning: {text}" in ended.stderr for text in found["warnings"])
    assert found["agreement_with_ir_mad"] is None


def test_another_light_another_grid_and_nodata(rsseg, make_raster, tmp_path: Path) -> None:
    before, after = texture(), texture()
    after[:, 40:60, 50:80] = texture(5)[:, 40:60, 50:80]
    after = (after * 0.7 + 90).astype(np.uint16)
    after[:, 100:, :] = 0
    make_raster("before.tif", before)
    make_raster("after.tif", after[:, 10:, 20:], nodata=0, transform=Affine(0.5, 0, 500_010, 0, -0.5, 4_999_995))
    ended = rsseg("detect-change", "before.tif", "after.tif", "-o", "m.tif", "--align", "grid", "--json")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    with rasterio.open(tmp_path / "m.tif") as dataset:
        labels = dataset.read(1)
        assert dataset.transform == Affine(0.5, 0, 500_010, 0, -0.5, 4_999_995)
    assert labels.shape == (110, 130)
    assert (labels[90:] == 255).all()
    assert (labels[35:45, 35:55] == 1).all()
    assert found["changed_share"] == pytest.approx(600 / (90 * 130), rel=0.6)
    assert found["shift_px"] is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["a.tif", "missing.tif"], "no such file"),
        (["a.tif", "far.tif"], "share no ground"),
        (["a.tif", "two.tif"], "--before-bands"),
        (["a.tif", "empty.tif"], "empty.tif"),
        (["a.tif", "flat.tif"], "same value everywhere"),
        (["a.tif", "complex.tif"], "complex"),
        (["a.tif", "b.tif", "-o", "a.tif", "--overwrite"], "input"),
        (["a.tif", "b.tif", "-o", "there.tif"], "--overwrite"),
        (["a.tif", "b.tif", "-o", "m.png"], "GeoTIFF"),
        (["a.tif", "b.tif", "-o", "m.tif", "--probability", "m.tif"], "one name"),
        (["a.tif", "b.tif", "--threshold", "much"], "auto, otsu, kittler, null nor a score between 0 and 1"),
        (["a.tif", "b.tif", "--threshold", "3"], "--threshold"),
        (["a.tif", "b.tif", "--min-area", "-1"], "--min-area"),
        (["a.tif", "touching.tif"], "share 1 x 120 pixels only"),
        (["a.tif", "b.tif", "--before-classes", "classes.tif"], "--polygons"),
        (["a.tif", "b.tif", "--before-classes", "b.tif", "--polygons", "p.gpkg"], "label map"),
        (["a.tif", "b.tif", "--after-classes", "far_classes.tif", "--polygons", "p.gpkg"], "shares no ground"),
        (["a.tif", "b.tif", "--after-classes", "c.gpkg", "--polygons", "c.gpkg", "--overwrite"], "input"),
        (["a.tif", "b.tif", "--polygons", "p.xyz"], "p.xyz"),
        (["a.tif", "shifted.tif", "--max-shift-px", "1"], "--max-shift-px"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_words(rsseg, make_raster, tmp_path: Path, options, words: str) -> None:
    values = texture()
    make_raster("a.tif", values)
    make_raster("b.tif", values + 30)
    make_raster("far.tif", values, transform=Affine(0.5, 0, 600_000, 0, -0.5, 5_000_000))
    make_raster("two.tif", values[:2])
    make_raster("empty.tif", np.zeros_like(values), nodata=0)
    make_raster("flat.tif", np.full_like(values, 7))
    make_raster("complex.tif", values.astype(np.complex64))
    make_raster("shifted.tif", np.roll(values, (3, 3), axis=(1, 2)))
    make_raster("touching.tif", values, transform=Affine(0.5, 0, 500_074.5, 0, -0.5, 5_000_000))
    make_raster("classes.tif", values[0] // 700)
    make_raster("far_classes.tif", values[0] // 700, transform=Affine(0.5, 0, 600_000, 0, -0.5, 5_000_000))
    make_raster("c.gpkg", (values[0] // 700).astype(np.uint8), driver="GPKG")
    (tmp_path / "there.tif").write_bytes(b"mine")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    ended = rsseg("detect-change", *options, "--json")
    assert ended.returncode == 1, ended.stderr
    assert set(json.loads(ended.stdout)["error"]) == {"kind", "file", "problem", "hint"}
    assert "Traceback" not in ended.stderr
    assert "hint:" in ended.stderr
    assert words in ended.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".geojson", ".parquet"])
def test_polygons_say_from_what_to_what_in_every_format(rsseg, make_raster, tmp_path: Path, suffix: str) -> None:
    before, after = texture(), texture()
    after[:, 40:60, 50:80] += 900
    make_raster("before.tif", before)
    make_raster("after.tif", after)
    classes = np.full((60, 75), 1, np.uint8)
    make_raster("old.tif", classes, transform=Affine(1, 0, 500_000, 0, -1, 5_000_000))
    classes[10:40, 15:50] = 2
    make_raster("new.tif", classes, transform=Affine(1, 0, 500_000, 0, -1, 5_000_000))
    (tmp_path / "new.qml").write_text(
        '<qgis><paletteEntry value="1" label="meadow" color="#00ff00"/>'
        '<paletteEntry value="2" label="house" color="#ff0000"/></qgis>'
    )
    maps = ["--before-classes", "old.tif", "--after-classes", "new.tif", "--min-area", "20", "--method", "classical"]
    ended = rsseg("detect-change", "before.tif", "after.tif", "-o", "m.tif", "--polygons", f"p{suffix}", *maps)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == ["m.tif", f"p{suffix}"]
    layer = {"layer": "p"} if suffix == ".gpkg" else {}
    read = geopandas.read_parquet if suffix == ".parquet" else geopandas.read_file
    polygons = read(tmp_path / f"p{suffix}", **layer)
    assert polygons[["class_name", "direction", "from", "to"]].to_numpy().tolist() == [
        ["changed", "brighter", "1", "house"]
    ]
    assert (polygons[["change_1", "change_2", "change_3"]] > 0.3).all(axis=None)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []
