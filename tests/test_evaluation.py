"""evaluate: the whole way from files to figures."""

from pathlib import Path

import geopandas
import numpy as np
import pyproj
import pytest
from affine import Affine
from scipy import ndimage
from shapely.geometry import box
from sklearn import metrics

from rsseg_cli import evaluate
from rsseg_cli.errors import RssegError
from rsseg_cli.evaluation import BLOCK_PX, Rules


def at(pixel_m: float, col: float = 0.0, row: float = 0.0) -> Affine:
    return Affine(pixel_m, 0, 500_000 + col, 0, -pixel_m, 5_000_000 - row)


def patches(shape: tuple[int, int], classes: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(classes, *shape))
    return ndimage.gaussian_filter(noise, (0, 9, 9)).argmax(axis=0).astype(np.uint8)


def test_different_grids_nodata_and_absent_classes_as_scikit_learn_has_it(make_raster) -> None:
    """Truth of 1 m pixels that starts 30 m right and 20 m below a prediction of 0.5 m pixels."""
    predicted, truth = patches((400, 500), 5, 1), patches((200, 250), 4, 2)
    predicted[:60] = 200  # nodata of the prediction
    truth[truth == 2] = 99  # nodata of the truth; class 2 is absent
    prediction = make_raster("p.tif", predicted, nodata=200)
    found = evaluate(str(prediction), str(make_raster("t.tif", truth, transform=at(1.0, 30.25, 20.25), nodata=99)))

    # The centre of truth pixel (r, c) lies at (20.75 + r, 30.75 + c) m: prediction pixel (41 + 2r, 61 + 2c).
    rows, cols = 41 + 2 * np.arange(200), 61 + 2 * np.arange(250)
    inside = np.ix_(rows < 400, cols < 500)
    t = truth[inside].ravel()
    p = predicted[np.ix_(rows[rows < 400], cols[cols < 500])].ravel()
    held = (t != 99) & (p != 200)
    options = {"labels": [0, 1, 3], "average": "macro"}
    assert found["miou"] == pytest.approx(metrics.jaccard_score(t[held], p[held], **options), abs=1e-9)
    assert found["f1_macro"] == pytest.approx(metrics.f1_score(t[held], p[held], **options), abs=1e-9)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(t[held], p[held]), abs=1e-9)
    assert found["classes_in_mean"] == ["0", "1", "3"]
    assert found["pixels"] == held.sum()
    assert found["unpredicted_pixels"] == (truth != 99).sum() - held.sum()
    assert found["scored_on"] == "the truth's grid"


def test_a_map_against_itself_is_perfect_over_many_blocks(make_raster) -> None:
    path = str(make_raster("big.tif", patches((600, BLOCK_PX + 300), 3, 3), compress="deflate"))
    found = evaluate(path, path)
    assert (found["miou"], found["f1_macro"], found["accuracy"]) == (1, 1, 1)
    assert found["pixels"] == 600 * (BLOCK_PX + 300)


def test_scores_against_a_mask(make_raster) -> None:
    truth = (patches((300, 300), 6, 4) == 0).astype(np.uint8) * 255
    rng = np.random.default_rng(5)
    values = np.clip(rng.normal(0.35 + 0.3 * (truth > 0), 0.15), 0, 1).astype(np.float32)
    values[:10] = np.nan
    found = evaluate(str(make_raster("s.tif", values)), str(make_raster("m.tif", truth)), rules=Rules(threshold=0.6))
    t, s = truth[10:].ravel() > 0, values[10:].ravel()
    assert found["auc"] == pytest.approx(metrics.roc_auc_score(t, s), abs=1e-9)
    assert found["average_precision"] == pytest.approx(metrics.average_precision_score(t, s), abs=1e-9)
    assert found["f1"] == pytest.approx(metrics.f1_score(t, s >= np.float32(0.6)), abs=1e-9)
    assert found["best_f1"] >= found["f1"]
    assert found["unpredicted_pixels"] == 3000


def test_a_change_map_is_ranked_too(make_raster) -> None:
    truth = (patches((100, 100), 4, 6) == 0).astype(np.uint8) * 255
    change = np.where(np.random.default_rng(7).random(truth.shape) < 0.8, truth > 0, truth == 0).astype(np.uint8)
    found = evaluate(str(make_raster("c.tif", change, nodata=255)), str(make_raster("m.tif", truth)))
    assert found["positive"] == "1"
    assert found["f1"] == pytest.approx(metrics.f1_score((truth > 0).ravel(), change.ravel()), abs=1e-9)
    assert found["auc"] == pytest.approx(metrics.roc_auc_score((truth > 0).ravel(), change.ravel()), abs=1e-9)


def test_the_positive_class_of_several_is_named(make_raster) -> None:
    truth = patches((80, 80), 3, 8)
    score = make_raster("s.tif", np.random.default_rng(9).random(truth.shape, dtype=np.float32))
    path = str(make_raster("t.tif", truth))
    with pytest.raises(RssegError, match="the truth has 3: 0, 1, 2"):
        evaluate(str(score), path)
    found = evaluate(str(score), path, rules=Rules(positive="1"))
    assert found["classes"]["1"]["pixels"] == (truth == 1).sum()
    assert found["classes"]["other"]["pixels"] == (truth != 1).sum()


def test_polygons_are_scored_on_the_grid_of_the_prediction(make_raster, tmp_path: Path) -> None:
    predicted = np.zeros((20, 20), np.uint8)
    predicted[:, 10:] = 1
    shapes = [box(500_005, 4_999_990, 500_010, 5_000_000), box(500_000, 4_999_995, 500_005, 5_000_000)]
    frame = geopandas.GeoDataFrame({"class": ["1", "0"]}, geometry=shapes, crs=32633)
    frame.to_file(tmp_path / "t.gpkg")
    found = evaluate(str(make_raster("p.tif", predicted)), str(tmp_path / "t.gpkg"))
    assert found["accuracy"] == 1
    assert found["pixels"] == 200 + 100
    assert found["scored_on"] == "the prediction's grid"


def test_classes_are_matched_by_name_and_else_by_number(make_raster, tmp_path: Path) -> None:
    ids = patches((50, 50), 2, 10)
    prediction = make_raster("p.tif", ids)
    (tmp_path / "p.qml").write_text(
        '<qgis><paletteEntry value="0" label="Road"/><paletteEntry value="1" label="tree"/></qgis>'
    )
    truth = make_raster("t.tif", 7 - ids)
    (tmp_path / "t.qml").write_text(
        '<qgis><paletteEntry value="7" label="road"/><paletteEntry value="6" label="Tree"/></qgis>'
    )
    assert evaluate(str(prediction), str(truth))["accuracy"] == 1
    (tmp_path / "t.qml").unlink()
    found = evaluate(str(prediction), str(truth))
    assert found["accuracy"] == 0
    assert set(found["classes"]) == {"6", "7", "Road", "tree"}


def test_a_class_file_serves_both(make_raster, tmp_path: Path) -> None:
    codes = np.array([[311, 312], [511, 511]], np.uint16)
    classes = tmp_path / "c.csv"
    classes.write_text("311,forest\n312,forest\n511,water\n")
    merged = np.where(codes < 500, 312, 511).astype(np.uint16)
    paths = str(make_raster("p.tif", codes)), str(make_raster("t.tif", merged))
    assert evaluate(*paths, classes=str(classes))["accuracy"] == 1
    assert evaluate(*paths)["accuracy"] == 0.75


def test_masks_with_other_numbers_are_matched_in_order(make_raster, caplog) -> None:
    truth = (patches((60, 60), 2, 13) + 1).astype(np.uint8)
    with caplog.at_level("INFO"):
        found = evaluate(str(make_raster("p.tif", truth - 1, nodata=255)), str(make_raster("t.tif", truth, nodata=0)))
    assert (found["accuracy"], found["positive"]) == (1, "2")
    assert "matched in this order" in caplog.text


def test_classes_of_one_name_are_one_class(make_raster, tmp_path: Path) -> None:
    path = make_raster("p.tif", patches((50, 50), 3, 14))
    (tmp_path / "p.qml").write_text(
        '<qgis><paletteEntry value="0" label="water"/><paletteEntry value="1" label="Water"/></qgis>'
    )
    found = evaluate(str(path), str(path))
    assert (set(found["classes"]), found["miou"], found["pixels"]) == ({"water", "2"}, 1, 2500)


def test_names_without_numbers_are_not_guessed(make_raster, tmp_path: Path) -> None:
    frame = geopandas.GeoDataFrame(
        {"class": ["field"]}, geometry=[box(500_000, 4_999_990, 500_005, 5_000_000)], crs=32633
    )
    frame.to_file(tmp_path / "t.gpkg")
    predicted = np.zeros((20, 20), np.uint8)
    predicted[:, :10] = 1
    paths = str(make_raster("p.tif", predicted)), str(tmp_path / "t.gpkg")
    with pytest.raises(RssegError, match="classes cannot be matched") as refused:
        evaluate(*paths, background=True)
    assert "--prediction-classes" in refused.value.hint
    (tmp_path / "names.csv").write_text("0,background\n1,field\n")
    found = evaluate(*paths, background=True, prediction_classes=str(tmp_path / "names.csv"))
    assert (found["accuracy"], found["positive"]) == (1, "field")


def test_whole_numbers_are_scores_when_a_threshold_is_given(make_raster) -> None:
    truth = (patches((80, 80), 3, 15) == 0).astype(np.uint8)
    percent = np.clip(np.random.default_rng(1).normal(40 + 30 * truth, 15), 0, 100).astype(np.uint8)
    found = evaluate(str(make_raster("s.tif", percent)), str(make_raster("t.tif", truth)), rules=Rules(threshold=50))
    assert found["auc"] == pytest.approx(metrics.roc_auc_score(truth.ravel(), percent.ravel()), abs=1e-9)
    assert found["f1"] == pytest.approx(metrics.f1_score(truth.ravel(), percent.ravel() >= 50), abs=1e-9)


def test_nearest_is_exact_across_coordinate_systems(make_raster) -> None:
    truth = patches((150, 170), 4, 16)
    predicted = patches((400, 400), 4, 17)
    west, north = pyproj.Transformer.from_crs(32633, 4326, always_xy=True).transform(500_010, 4_999_990)
    place = Affine(0.00001, 0, west, 0, -0.00001, north)
    prediction = make_raster("p.tif", predicted)
    found = evaluate(str(prediction), str(make_raster("t.tif", truth, crs="EPSG:4326", transform=place)))
    col, row = np.meshgrid(np.arange(170) + 0.5, np.arange(150) + 0.5)
    to_utm = pyproj.Transformer.from_crs(4326, 32633, always_xy=True)
    x, y = to_utm.transform(place.c + 0.00001 * col, place.f - 0.00001 * row)
    cols, rows = np.floor((x - 500_000) / 0.5).astype(int), np.floor((5_000_000 - y) / 0.5).astype(int)
    inside = (cols >= 0) & (cols < 400) & (rows >= 0) & (rows < 400)
    assert inside.mean() > 0.5
    t, p = truth[inside], predicted[rows[inside], cols[inside]]
    assert found["pixels"] == inside.sum()
    assert found["miou"] == pytest.approx(metrics.jaccard_score(t, p, average="macro"), abs=1e-9)


def test_ignored_classes_are_not_scored(make_raster) -> None:
    truth, predicted = patches((60, 60), 3, 11), patches((60, 60), 3, 12)
    paths = str(make_raster("p.tif", predicted)), str(make_raster("t.tif", truth))
    found = evaluate(*paths, rules=Rules(ignore=("0",)))
    held = truth != 0
    assert found["pixels"] == held.sum()
    assert found["miou"] == pytest.approx(
        metrics.jaccard_score(truth[held], predicted[held], labels=[1, 2], average="macro"), abs=1e-9
    )
    with pytest.raises(RssegError, match="--ignore forest"):
        evaluate(*paths, rules=Rules(ignore=("forest",)))


@pytest.mark.parametrize("reach", [1, 3])
def test_borders_are_left_out_on_either_side_over_block_seams(make_raster, monkeypatch, reach: int) -> None:
    monkeypatch.setattr("rsseg_cli.evaluation.BLOCK_PX", 16)
    truth = np.zeros((50, 50), np.uint8)
    truth[:, 17:] = 1
    predicted = truth.copy()
    predicted[:, 17:19] = 0  # wrong, but within two pixels of the border
    found = evaluate(
        str(make_raster("p.tif", predicted)), str(make_raster("t.tif", truth)), rules=Rules(boundary_px=reach)
    )
    assert found["pixels"] == 50 * (50 - 2 * reach)
    assert found["accuracy"] == (1 if reach == 3 else pytest.approx(1 - 50 / found["pixels"]))


def test_the_edge_of_what_is_labelled_is_no_border(make_raster) -> None:
    truth = np.full((20, 20), 3, np.uint8)
    truth[:, :10] = 0
    path = str(make_raster("t.tif", truth, nodata=0))
    assert evaluate(path, path, rules=Rules(boundary_px=2))["pixels"] == 200


def test_nothing_in_common_is_refused(make_raster) -> None:
    first = str(make_raster("a.tif", np.ones((9, 9), np.uint8)))
    far = str(make_raster("b.tif", np.ones((9, 9), np.uint8), transform=at(0.5, 9000)))
    with pytest.raises(RssegError, match="shares no ground"):
        evaluate(first, far)
    empty = str(make_raster("c.tif", np.zeros((9, 9), np.uint8), nodata=0))
    with pytest.raises(RssegError, match="no labelled pixel in common"):
        evaluate(first, empty)
