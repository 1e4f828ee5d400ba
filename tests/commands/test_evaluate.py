"""rsseg evaluate: the table for people, the object for programs, and the refusals."""

import json

import numpy as np
import pytest


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
