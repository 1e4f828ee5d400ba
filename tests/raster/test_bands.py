"""One rule for bands: names first, order where nothing has a name in common, and numbers are no names."""

import numpy as np
import pytest

from rsseg_cli.raster.bands import listed, matched, shared_names
from rsseg_cli.raster.scene import Scene
from rsseg_cli.raster.sources import open_scene


@pytest.fixture
def scene(make_raster):
    values = np.arange(5, dtype=np.float32).reshape(5, 1, 1) + 1

    def make(bands: str) -> Scene:
        return open_scene(make_raster("s.tif", values), bands)

    return make


@pytest.mark.parametrize(
    ("own", "wanted", "found"),
    [
        ("red=1,nir=2", ("NIR", "red"), [2, 1]),
        ("red=1,green=2,nir=3", ("nir",), [3]),
        ("a=3,b=1", ("red", "nir"), [3, 1]),
        ("2,1", ("1", "2"), [2, 1]),  # in order: numbers are no names
        ("1,2,3", ("1", "2"), None),
        ("red=1,other=2", ("nir", "red"), None),  # by order, red would be taken for nir
    ],
)
def test_which_band_is_which(scene, own: str, wanted: tuple[str, ...], found: list[int] | None) -> None:
    answer = matched(scene(own), wanted, "what is wanted")
    assert (answer.values().ravel().tolist() if answer else None) == found


def test_the_order_is_said(scene, caplog) -> None:
    caplog.set_level("INFO")
    matched(scene("red=1,nir=2"), ("red", "nir"), "the model's")
    assert caplog.text == ""
    matched(scene("a=1,b=2"), ("red", "nir"), "the model's red, nir")
    assert "its bands a, b are taken as the model's red, nir, in this order" in caplog.text


def test_names_in_common(scene) -> None:
    assert shared_names(scene("red=1,2,3"), ("Red", "2", "nir")) == ["Red"]
    assert listed([str(n) for n in range(14)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 2 more"
