"""Label rasters in every spelling there is."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.windows import Window

from rsseg_cli.class_files import qml_of
from rsseg_cli.classes import UNLABELLED, ClassScheme
from rsseg_cli.errors import RssegError
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.labels import align_labels, open_label_raster

MAP = np.array([[1, 2, 2], [3, 0, 1]])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64"])
def test_numbers_of_any_type(make_raster, dtype: str) -> None:
    labels = open_label_raster(str(make_raster("l.tif", MAP.astype(dtype), nodata=0)))
    assert labels.scheme.ids == (1, 2, 3)
    np.testing.assert_array_equal(labels.read(), np.where(MAP == 0, UNLABELLED, MAP))


def test_large_codes_stay_apart(make_raster) -> None:
    # 16777216 and 16777217 are one number in float32.
    labels = open_label_raster(str(make_raster("l.tif", np.array([[16_777_216, 16_777_217]], np.int32))))
    assert labels.scheme.names == ("16777216", "16777217")
    assert labels.read().tolist() == [[0, 1]]


def test_fractions_are_no_classes(make_raster) -> None:
    with pytest.raises(RssegError, match=r"holds 0\.5, which is no class number"):
        open_label_raster(str(make_raster("p.tif", np.array([[0.5, 1]], np.float32))))


def test_colours_in_three_bands(make_raster) -> None:
    rgb = np.zeros((3, 2, 2), np.uint8)
    rgb[:, 0, 0] = (255, 0, 128)
    rgb[:, 1, 1] = (10, 20, 30)
    path = str(make_raster("rgb.tif", rgb))
    assert open_label_raster(path).scheme.names == ("#000000", "#0a141e", "#ff0080")
    named = ClassScheme.of_names([("roof", (0xFF0080,), None), ("other", (0, 0x0A141E), None)])
    assert open_label_raster(path, named).read().tolist() == [[0, 1], [1, 1]]


def test_palette_names_and_colours(make_raster) -> None:
    path = make_raster("pal.tif", MAP.astype(np.uint8))
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {1: (1, 2, 3, 255), 2: (4, 5, 6, 255), 3: (7, 8, 9, 255)})
    assert [c.color for c in open_label_raster(str(path)).scheme.classes][1:] == ["#010203", "#040506", "#070809"]
    categories = "".join(f"<Category>{name}</Category>" for name in ("none", "road", "", "water"))
    path.with_name("pal.tif.aux.xml").write_text(
        f'<PAMDataset><PAMRasterBand band="1"><CategoryNames>{categories}</CategoryNames></PAMRasterBand></PAMDataset>'
    )
    assert open_label_raster(str(path)).scheme.names == ("none", "road", "2", "water")
    style = ClassScheme.of_names([("Strasse", (1,), "#ff0000")])
    path.with_suffix(".qml").write_text(qml_of(style))
    scheme = open_label_raster(str(path)).scheme
    assert scheme.names == ("none", "Strasse", "2", "water")
    assert scheme.classes[1].color == "#ff0000"


def test_255_without_nodata_is_unlabelled_and_said(make_raster, caplog) -> None:
    path = str(make_raster("l.tif", np.array([[0, 1, 255]], np.uint8)))
    with caplog.at_level("INFO"):
        labels = open_label_raster(path)
    assert labels.scheme.ids == (0, 1)
    assert labels.read().tolist() == [[0, 1, UNLABELLED]]
    assert "255 counts as unlabelled" in caplog.text
    named = ClassScheme.of_names([("a", (0,), None), ("b", (1,), None)])
    assert open_label_raster(path, named).read().tolist() == [[0, 1, UNLABELLED]]


def test_a_mask_of_0_and_255_is_a_map_of_two_classes(make_raster) -> None:
    labels = open_label_raster(str(make_raster("change.png.tif", np.array([[0, 255]], np.uint8))))
    assert labels.scheme.names == ("0", "1")
    assert labels.read().tolist() == [[0, 1]]


def test_255_can_be_a_class(make_raster) -> None:
    named = ClassScheme.of_names([("no", (0,), None), ("yes", (255,), None), ("maybe", (7,), None)])
    labels = open_label_raster(str(make_raster("l.tif", np.array([[0, 255, 7]], np.uint8))), named)
    assert [named.names[i] for i in labels.read()[0]] == ["no", "yes", "maybe"]


def test_values_outside_the_scheme_are_named(make_raster) -> None:
    scheme = ClassScheme.of_values([1, 2])
    with pytest.raises(RssegError, match=r"values that are no class: 3 \(1 pixels\)"):
        open_label_raster(str(make_raster("l.tif", MAP.astype(np.uint8), nodata=0)), scheme).read()


def test_images_are_no_label_maps(make_raster) -> None:
    noise = np.random.default_rng(0).integers(0, 65_535, (4, 90, 90), dtype=np.uint16)
    with pytest.raises(RssegError, match="has 4 bands of uint16"):
        open_label_raster(str(make_raster("image.tif", noise)))
    with pytest.raises(RssegError, match="more than 4096 different values"):
        open_label_raster(str(make_raster("band.tif", noise[:1])))


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (np.arange(900, dtype=np.uint16).reshape(30, 30), r"image\.tif: 900 classes are more than"),
        (np.ones((4, 4), np.complex64), r"image\.tif: holds complex numbers"),
        (np.linspace(-1, 1, 16, dtype=np.float32).reshape(4, 4), r"image\.tif: holds .*, which is no class number"),
    ],
)
def test_other_images_are_no_label_maps(make_raster, values: np.ndarray, match: str) -> None:
    with pytest.raises(RssegError, match=match) as refused:
        open_label_raster(str(make_raster("image.tif", values)))
    assert refused.value.file is not None


def test_measurements_in_steps_are_no_label_map(make_raster) -> None:
    path = make_raster("confidence.tif", MAP.astype(np.uint8), nodata=255)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales = (0.004,)
    with pytest.raises(RssegError, match=r"its numbers have a scale \(0\.004\)"):
        open_label_raster(str(path))


def test_nearest_neighbour_on_another_grid(make_raster) -> None:
    ids = np.random.default_rng(2).integers(0, 5, (60, 60), dtype=np.uint8)
    labels = open_label_raster(str(make_raster("l.tif", ids)))
    # Every third pixel: the centres of 1.5 m pixels lie on those of 0.5 m pixels.
    coarse = Grid(CRS.from_epsg(32633), Affine(1.5, 0, 500_000, 0, -1.5, 5_000_000), 20, 20)
    aligned = align_labels(labels, coarse)
    np.testing.assert_array_equal(aligned.read(), ids[1::3, 1::3])
    np.testing.assert_array_equal(aligned.read(Window(3, 5, 4, 6)), ids[1::3, 1::3][5:11, 3:7])


def test_an_empty_map_says_so(make_raster, caplog) -> None:
    labels = open_label_raster(str(make_raster("l.tif", np.zeros((4, 4), np.uint8), nodata=0)))
    assert (labels.read() == UNLABELLED).all()
    assert "no pixel is labelled" in caplog.text
