import numpy as np
import pytest
from affine import Affine
from coverages import Pixels
from rasterio.crs import CRS

from rsseg_cli.classes import UNLABELLED, ClassScheme
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.labels import Labels
from rsseg_cli.vector.coverage import Coverage, polygonize
from rsseg_cli.vector.uids import hex_texts, uids

UTM = CRS.from_epsg(32633)
NORTH_UP = Affine(0.3, 0, 420_000, 0, -0.3, 5_400_000)
ROTATED = NORTH_UP @ Affine.rotation(33)
FAR_OUT = Affine(0.01, 0, -19_999_999.99, 0, -0.01, 9_999_999.99)
MASK = np.random.default_rng(5).choice(np.array([0, 1, 254, UNLABELLED], np.uint8), (40, 50))


def coverage_of(
    mask: np.ndarray, transform: Affine = NORTH_UP, strip_rows: int = 512, crs: CRS | None = UTM
) -> Coverage:
    labels = Labels("mask.tif", Grid(crs, transform, *mask.shape), ClassScheme.of_values(range(255)), Pixels(mask))
    return polygonize(labels, strip_rows)


def uids_of(coverage: Coverage) -> np.ndarray:
    return uids(coverage, coverage.ids)


@pytest.mark.parametrize("transform", [NORTH_UP, ROTATED, FAR_OUT])
@pytest.mark.parametrize("strip_rows", [1, 7])
def test_the_same_for_strips_of_any_height(transform: Affine, strip_rows: int) -> None:
    wanted = uids_of(coverage_of(MASK, transform)).tolist()
    assert uids_of(coverage_of(MASK, transform, strip_rows)).tolist() == wanted
    assert len(set(wanted)) == len(wanted)


def test_other_polygons_do_not_matter() -> None:
    mask = np.full((9, 9), UNLABELLED, np.uint8)
    mask[4:6, 3:7] = 2
    (alone,) = uids_of(coverage_of(mask)).tolist()
    mask[mask == UNLABELLED] = 7
    mask[0, ::2] = 2
    assert uids_of(coverage_of(mask)).tolist().count(alone) == 1


@pytest.mark.parametrize("shift", [0, 0.1, 0.15])
@pytest.mark.parametrize("turn", [0, 33])
@pytest.mark.parametrize("rounding", [-1e-6, 0, 1e-6])
def test_a_part_cut_out_has_the_numbers_of_the_whole(shift: float, turn: float, rounding: float) -> None:
    """Also where the lattice begins at half a pixel, and where the file rounds its corner."""
    mask = np.full((60, 70), UNLABELLED, np.uint8)
    mask[31:40, 22:30] = 3
    transform = Affine.translation(shift, shift) @ NORTH_UP @ Affine.rotation(turn)
    part = Affine.translation(rounding, rounding) @ transform @ Affine.translation(20, 30)
    assert uids_of(coverage_of(mask[30:50, 20:50], part)).tolist() == uids_of(coverage_of(mask, transform)).tolist()


def test_class_and_place_decide() -> None:
    mask = np.full((5, 5), UNLABELLED, np.uint8)
    mask[1:3, 2] = 0
    mask[2, 1] = 0  # the first pixel is that of the first row
    transform = Affine(1, 0, 100, 0, -1, 50)
    assert uids_of(coverage_of(mask, transform)).tolist() == [((-50 + 1) % 2**28 << 28) + 102]
    mask[mask == 0] = 254
    assert uids_of(coverage_of(mask, transform, crs=None)).tolist() == [(254 << 56) + (1 << 28) + 2]


def test_texts_are_the_numbers_in_hex() -> None:
    numbers = np.array([0, 1, 2**64 - 1, 0x0123456789ABCDEF], np.uint64)
    assert [row.tobytes().decode() for row in hex_texts(numbers)] == [f"{number:016x}" for number in numbers.tolist()]


def test_nothing_has_no_numbers() -> None:
    assert uids_of(coverage_of(np.full((4, 4), UNLABELLED, np.uint8))).shape == (0,)
    assert hex_texts(np.empty(0, np.uint64)).shape == (0, 16)
