"""What rsseg writes, opened by QGIS without a screen.

Name QGIS's Python to run them: RSSEG_QGIS_PYTHON=/usr/bin/python3 pytest tests/qgis
"""

import json
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from PIL import Image
from rasterio.crs import CRS
from rasterio.features import shapes
from rasterio.windows import Window

from rsseg_cli.classes import UNLABELLED, ClassScheme
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.write import create_labels

LOOK = Path(__file__).with_name("look.py")

UTM = CRS.from_epsg(32633)
LONLAT = CRS.from_epsg(4326)
SCHEME = ClassScheme.of_names(
    [("water", (0,), "#0000ff"), ('forêt & "Wald" <dense>', (7,), "#1a7f37"), ("l'étang", (254,), "#ff8800")]
)
OTHER = ClassScheme.of_names([("no", (0,), "#cccccc"), ("yes", (7,), "#aa0000"), ("perhaps", (254,), "#00aaaa")])

# Cells, of 5 pixels a side, that fill a picture of 4 to 3.
CELL_PX = 5
CELLS = np.random.default_rng(4).choice(np.array([0, 7, 254, UNLABELLED], np.uint8), (6, 8))
MASK = np.kron(CELLS, np.ones((CELL_PX, CELL_PX), np.uint8))
NOTHING = np.full_like(MASK, UNLABELLED)

Look = Callable[[Path], dict[str, Any]]


@pytest.fixture
def look(qgis_python: str, in_qgis: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Look:
    """What QGIS finds in a file."""
    folder = tmp_path_factory.mktemp("pictures")

    def run(file: Path) -> dict[str, Any]:
        beside = sorted(file.parent.iterdir())
        call = [qgis_python, str(LOOK), str(file), str(folder)]
        ended = subprocess.run(call, env=in_qgis, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        assert sorted(file.parent.iterdir()) == beside, "QGIS left something behind"
        found: dict[str, Any] = json.loads(ended.stdout)
        return found

    return run


@pytest.fixture
def make_mask(tmp_path: Path) -> Callable[..., Path]:
    """A label map as `rsseg segment` writes it."""

    def make(mask: np.ndarray = MASK, scheme: ClassScheme = SCHEME, crs: CRS | None = UTM) -> Path:
        path = tmp_path / "masks" / f"{scheme.names[0]}.tif"
        path.parent.mkdir(exist_ok=True)
        with create_labels(path, Grid(crs, transform_of(crs), *mask.shape), scheme) as writer:
            writer.write(mask, Window(0, 0, mask.shape[1], mask.shape[0]))
        return path

    return make


@pytest.fixture
def vectorize(rsseg: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> Callable[..., Path]:
    def run(mask: Path, *options: str) -> Path:
        path = tmp_path / "layers" / "map.gpkg"
        path.parent.mkdir(exist_ok=True)
        ended = rsseg("vectorize", mask, "-o", path, *options)
        assert ended.returncode == 0, ended.stderr
        return path

    return run


def transform_of(crs: CRS | None) -> Affine:
    return Affine(1e-4, 0, 13, 0, -1e-4, 52) if crs == LONLAT else Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)


def classes_of(scheme: ClassScheme) -> list[list[object]]:
    return [[c.id, c.name, c.color] for c in scheme.classes]


def bounds_of(crs: CRS | None) -> tuple[float, ...]:
    return Grid(crs, transform_of(crs), *MASK.shape).bounds


def polygons_by_class(scheme: ClassScheme) -> Counter[str]:
    """How many polygons of each class there are, as GDAL counts them."""
    names = dict(zip(scheme.ids, scheme.names, strict=True))
    return Counter(names[int(value)] for _, value in shapes(MASK, MASK != UNLABELLED))


def check_layer(layer: dict[str, Any], scheme: ClassScheme = SCHEME) -> None:
    """All polygons of MASK are there, and each of them is drawn as its class."""
    wanted = polygons_by_class(scheme)
    assert layer["valid"]
    assert (layer["geometry"], layer["features"]) == ("Polygon", wanted.total())
    check_style(layer, scheme)
    assert Counter(name for name, _ in layer["legend"]) == wanted
    assert all(entries == [name] for name, entries in layer["legend"])
    check_picture(layer, scheme)


def check_style(layer: dict[str, Any], scheme: ClassScheme) -> None:
    assert (layer["renderer"], layer["attribute"]) == ("categorizedSymbol", "class_id")
    assert layer["classes"] == classes_of(scheme)


def check_picture(layer: dict[str, Any], scheme: ClassScheme) -> None:
    """Each cell of MASK has its colour where QGIS drew it, and paper shows where nothing is."""
    with Image.open(layer["picture"]) as image:
        side = image.width // CELLS.shape[1]
        drawn = np.asarray(image.convert("RGB"))[side // 2 :: side, side // 2 :: side]
    colours = np.full((256, 3), 255, np.uint8)
    colours[list(scheme.ids)] = [c.rgb for c in scheme.classes]
    np.testing.assert_array_equal(drawn, colours[CELLS])


@pytest.mark.parametrize("crs", [UTM, LONLAT])
def test_a_layer_has_its_polygons_classes_and_colours(look: Look, make_mask, vectorize, crs: CRS) -> None:
    (layer,) = look(vectorize(make_mask(crs=crs), "--exact")).values()
    check_layer(layer)
    assert layer["crs"] == crs.to_string()
    assert layer["extent"] == pytest.approx(bounds_of(crs), rel=1e-12)
    assert layer["fields"] == ["fid", "uid", "class_id", "class_name", "area_m2", "perimeter_m"]


def test_generalised_polygons_are_drawn_as_well(look: Look, make_mask, vectorize) -> None:
    (layer,) = look(vectorize(make_mask())).values()
    check_layer(layer)
    assert layer["extent"] == pytest.approx(bounds_of(UTM), rel=1e-12)


def test_without_a_crs(look: Look, make_mask, vectorize) -> None:
    (layer,) = look(vectorize(make_mask(crs=None), "--exact")).values()
    check_layer(layer)
    assert layer["crs"] == ""
    assert layer["fields"][-2:] == ["area_px", "perimeter_px"]


@pytest.mark.parametrize("name", ['Wälder "neu"', "Peter's 湖; --", "select", "layer_styles2", "a <b> & c"])
def test_odd_layer_names(look: Look, make_mask, vectorize, name: str) -> None:
    found = look(vectorize(make_mask(), "--exact", "--layer", name))
    assert list(found) == [name]
    check_layer(found[name])


def test_an_empty_layer_has_its_legend(look: Look, make_mask, vectorize) -> None:
    (layer,) = look(vectorize(make_mask(NOTHING), "--exact")).values()
    assert (layer["valid"], layer["geometry"], layer["features"]) == (True, "Polygon", 0)
    assert layer["crs"] == "EPSG:32633"
    check_style(layer, SCHEME)


def test_layers_of_one_file_have_styles_of_their_own(look: Look, make_mask, vectorize) -> None:
    vectorize(make_mask(), "--exact", "--layer", "land")
    found = look(vectorize(make_mask(scheme=OTHER), "--exact", "--layer", "change", "--append"))
    assert sorted(found) == ["change", "land"]
    check_layer(found["land"])
    check_layer(found["change"], OTHER)


def test_a_label_map_has_its_classes_and_colours(look: Look, make_mask) -> None:
    (layer,) = look(make_mask()).values()
    assert (layer["valid"], layer["crs"], layer["renderer"]) == (True, "EPSG:32633", "paletted")
    assert layer["classes"] == classes_of(SCHEME)
    assert layer["extent"] == pytest.approx(bounds_of(UTM), rel=1e-12)
    check_picture(layer, SCHEME)
