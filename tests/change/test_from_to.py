"""Class maps lie where their dates lie, moved as their dates were moved."""

import numpy as np
import pytest
from affine import Affine

from rsseg_cli.change.from_to import open_classes
from rsseg_cli.change.pair import PairOptions, open_pair
from rsseg_cli.change.shift import Shift
from rsseg_cli.errors import RssegError

METRE = Affine(1, 0, 500_000, 0, -1, 5_000_000)
IMAGE = np.random.default_rng(0).integers(1, 200, (1, 40, 50)).astype(np.uint8)
CLASSES = np.arange(40 * 50).reshape(40, 50) // 100  # five rows a class


def written(make_raster, name: str, values: np.ndarray, **profile: object) -> str:
    return str(make_raster(name, values.astype(np.uint8), **{"transform": METRE, **profile}))


def test_a_map_on_another_grid_is_brought_on_by_nearest(make_raster) -> None:
    pair = open_pair(written(make_raster, "b.tif", IMAGE), written(make_raster, "a.tif", IMAGE + 1))
    coarse = written(make_raster, "c.tif", CLASSES[::2, ::2], transform=METRE @ Affine.scale(2))
    found = open_classes(coarse, None, pair, None, by_place=True)
    assert list(found) == ["from"]
    np.testing.assert_array_equal(found["from"].read(), CLASSES[::2, ::2].repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize(("keeps_after", "moved"), [(True, "from"), (False, "to")])
def test_a_map_moves_with_the_date_that_gives_way(make_raster, keeps_after: bool, moved: str) -> None:
    # The date with the coarser pixels is kept.
    fine, coarse = (
        written(make_raster, "f.tif", IMAGE),
        written(make_raster, "c.tif", IMAGE[:, :20, :25], transform=METRE @ Affine.scale(2)),
    )
    pair = open_pair(*((fine, coarse) if keeps_after else (coarse, fine)))
    assert pair.keeps_after == keeps_after
    classes = written(make_raster, "k.tif", CLASSES[:20, :25], transform=METRE @ Affine.scale(2))
    found = open_classes(classes, classes, pair, Shift(0.0, 3.0, 1.0), by_place=True)
    still = ({"from", "to"} - {moved}).pop()
    np.testing.assert_array_equal(found[still].read(), CLASSES[:20, :25])
    # What lies in row 5 before lies in row 8 after.
    before, after = (
        (found["from"].read(), CLASSES[:20, :25]) if keeps_after else (CLASSES[:20, :25], found["to"].read())
    )
    if keeps_after:
        np.testing.assert_array_equal(before[8:], CLASSES[5:17, :25])
    else:
        np.testing.assert_array_equal(after[5:17], CLASSES[8:20, :25])


def test_without_a_place_sizes_must_be_alike(make_raster) -> None:
    pair = open_pair(
        written(make_raster, "b.tif", IMAGE, transform=METRE @ Affine.translation(9000, 0)),
        written(make_raster, "a.tif", IMAGE + 1),
        PairOptions(align="off"),
    )
    classes = written(make_raster, "c.tif", CLASSES, transform=METRE @ Affine.translation(9000, 0))
    np.testing.assert_array_equal(open_classes(classes, None, pair, None, by_place=False)["from"].read(), CLASSES)
    small = written(make_raster, "s.tif", CLASSES[:20])
    with pytest.raises(RssegError, match=r"s\.tif: is 50 x 20 pixels, and its date 50 x 40"):
        open_classes(None, small, pair, None, by_place=False)


def test_an_image_is_no_class_map(make_raster) -> None:
    pair = open_pair(written(make_raster, "b.tif", IMAGE), written(make_raster, "a.tif", IMAGE + 1))
    image = str(make_raster("i.tif", np.random.default_rng(0).random((1, 40, 50)), transform=METRE))
    with pytest.raises(RssegError, match="no class number"):
        open_classes(image, None, pair, None, by_place=True)
