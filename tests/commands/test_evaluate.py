"""rsseg evaluate: the table for people, the object for programs, and the refusals."""

import json

import numpy as np
import pytest
import rasterio


@pytest.fixture
def maps(make_raster):
    truth = np.array([[0, 0, 1, 1], [0, 0, 1, 255]], np.uint8)
    predicted = np.array([[0, 0, 1, 0], [0, 1, 1, 1]], np.uint8)
    return make_raster("p.tif", predicted, nodata=255), make_raster("t.tif", truth, nodata=255)


def test_json_has_the_contracted_keys(rsseg, maps) -> None:
    found = json.loads(rsseg("evaluate", *maps, "--json").stdout)
    for key in ("miou", "f1_macro", "accuracy", "classes", "confusion", "auc", "average_precision", "best_f1", "f1"):
        assert key in found
    assert found["classes"]["0"]["iou"] == pytest.approx(3 / 5)
    assert found["miou"] == pytest.approx((3 / 5 + 2 / 4) / 2)
    assert found["confusion"]["counts"] == [[3, 1], [1, 2]]


def test_the_table_says_what_the_means_are_over(rsseg, maps) -> None:
    said = rsseg("evaluate", *maps).stdout
    assert "mIoU 0.5500, F1 0.7083: means over the 2 classes in the truth" in said
    assert "7 labelled pixels, on the truth's grid" in said


def test_absent_classes_are_named(rsseg, make_raster) -> None:
    predicted = make_raster("p.tif", np.array([[0, 3]], np.uint8))
    truth = make_raster("t.tif", np.array([[0, 1]], np.uint8))
    ended = rsseg("evaluate", predicted, truth)
    assert "note: not in the truth, so not in the means: 3" in ended.stderr
    assert "3           -       -" in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("none.tif", "{t}"), "no such file"),
        (("{p}", "none.gpkg"), "no such file"),
        (("{t}", "{image}"), "has 4 bands"),
        (("{p}", "{t}", "--positive", "forest"), "is no class of the truth"),
        (("{p}", "{t}", "--where", "a=1"), "are for vector files"),
        (("{p}", "{t}", "--classes", "none.csv"), "no such file"),
        (("layer.gpkg", "{t}"), "prediction is a vector file"),
    ],
)
def test_wrong_inputs_are_refused_in_words(rsseg, maps, make_raster, arguments, words: str) -> None:
    image = make_raster("image.tif", np.ones((4, 8, 8), np.uint16))
    names = {"p": maps[0], "t": maps[1], "image": image}
    ended = rsseg("evaluate", *(text.format(**names) for text in arguments))
    assert ended.returncode == 1
    assert ended.stdout == ""
    error, hint = (line for line in ended.stderr.splitlines() if line.startswith(("error", "hint")))
    assert words in error
    assert len(hint) > len("hint: ")


def test_confidence_is_scored_beside_the_map(rsseg, maps, make_raster) -> None:
    """Seven pixels have labels, and five of them are right."""
    sure = make_raster("c.tif", np.array([[250, 250, 250, 125], [250, 125, 250, 0]], np.uint8), nodata=255)
    with rasterio.open(sure, "r+") as dataset:
        dataset.scales = (1 / 250,)
    found = json.loads(rsseg("evaluate", *maps, "--confidence", sure, "--json").stdout)
    assert found["ece"] == pytest.approx(2 * 0.5 / 7)
    assert found["mean_confidence"] == pytest.approx(6 / 7)
    used = [entry for entry in found["reliability"] if entry["pixels"]]
    assert [(entry["pixels"], entry["accuracy"]) for entry in used] == [(2, 0), (5, 1)]
    assert found["miou"] == pytest.approx(0.55)
    said = rsseg("evaluate", *maps, "--confidence", sure).stdout
    assert "confidence 0.8571 on average; it is off by 0.1429" in said
    assert "ece" not in json.loads(rsseg("evaluate", *maps, "--json").stdout)


def test_pixels_without_confidence_are_told(rsseg, maps, make_raster) -> None:
    sure = make_raster("c.tif", np.array([[-1, 1, 1, 0.5], [1, 0.5, 1, 1]], np.float32), nodata=-1)
    ended = rsseg("evaluate", *maps, "--confidence", sure, "--json")
    assert "no confidence is known for 14.29 % of the scored pixels" in ended.stderr
    assert json.loads(ended.stdout)["mean_confidence"] == pytest.approx(5 / 6)


def test_what_is_no_confidence_is_refused(rsseg, maps, make_raster) -> None:
    bands = make_raster("b.tif", np.zeros((3, 2, 4), np.float32))
    percent = make_raster("100.tif", np.full((2, 4), 80, np.float32))
    score = make_raster("s.tif", np.full((2, 4), 0.5, np.float32))
    for arguments, words in (
        ((*maps, "--confidence", bands), "has 3 bands, and confidence is one"),
        ((*maps, "--confidence", percent), "holds 80 to 80, and confidence goes from 0 to 1"),
        ((score, maps[1], "--confidence", score), "is a map of scores"),
        ((*maps, "--confidence", "none.tif"), "no such file"),
    ):
        ended = rsseg("evaluate", *arguments)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert words in ended.stderr
