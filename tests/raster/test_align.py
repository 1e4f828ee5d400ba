"""align: a window is the crop, values are where they belong, nothing bleeds."""

import numpy as np
import pyproj
import pytest
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.windows import Window
from scipy import ndimage

from rsseg_cli.errors import RssegError
from rsseg_cli.raster.align import align
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.scene import Band, Scene, open_file

ZONE_33, ZONE_34 = CRS.from_epsg(32633), CRS.from_epsg(32634)
ORIGIN = (690_000.0, 5_400_000.0)


def rough(shape: tuple[int, int], bands: int = 1) -> np.ndarray:
    """Values from pixel to pixel as different as they can be: the worst case for any approximation."""
    return np.random.default_rng(3).uniform(1, 4000, (bands, *shape)).astype(np.float32)


def smooth(shape: tuple[int, int]) -> np.ndarray:
    return ndimage.gaussian_filter(rough(shape)[0], 6)[np.newaxis] * 50


def neighbour(pixel_m: float, shape: tuple[int, int]) -> Grid:
    """A grid in the next UTM zone over the middle of the source."""
    x, y = pyproj.Transformer.from_crs(32633, 32634, always_xy=True).transform(ORIGIN[0] + 1000, ORIGIN[1] - 800)
    return Grid(ZONE_34, Affine(pixel_m, 0, x, 0, -pixel_m, y), *shape)


@pytest.fixture
def scene(make_raster):
    def make(values: np.ndarray, **profile):
        transform = Affine(10, 0, ORIGIN[0], 0, -10, ORIGIN[1])
        return open_file(str(make_raster("source.tif", values, transform=transform, **profile)))

    return make


@pytest.mark.parametrize(
    ("pixel_m", "resampling", "windows"),
    [(10.0, Resampling.bilinear, 1000), (25.0, Resampling.bilinear, 1000), (6.0, Resampling.nearest, 200)],
)
def test_windows_are_the_crops(scene, pixel_m: float, resampling: Resampling, windows: int) -> None:
    aligned = align(scene(rough((700, 800), bands=2)), neighbour(pixel_m, (420, 530)), resampling)
    whole = aligned.read().values
    assert np.isfinite(whole).mean() > 0.25
    rng = np.random.default_rng(5)
    for _ in range(windows):
        height, width = rng.integers(1, 60, 2)
        row, col = rng.integers(0, 420 - height), rng.integers(0, 530 - width)
        part = aligned.read(Window(int(col), int(row), int(width), int(height))).values
        np.testing.assert_array_equal(part, whole[:, row : row + height, col : col + width])


def test_values_agree_with_an_independent_bilinear_interpolation(scene) -> None:
    values = smooth((700, 800))
    target = neighbour(10.0, (300, 300))
    found = align(scene(values), target).read().values[0]
    col, row = np.meshgrid(np.arange(300) + 0.5, np.arange(300) + 0.5)
    x, y = target.transform.c + 10 * col, target.transform.f - 10 * row
    x, y = pyproj.Transformer.from_crs(32634, 32633, always_xy=True).transform(x, y)
    at = [(ORIGIN[1] - y) / 10 - 0.5, (x - ORIGIN[0]) / 10 - 0.5]
    expected = ndimage.map_coordinates(values[0], at, order=1)
    assert np.abs(found - expected).max() < 0.002 * np.ptp(values)


def test_coarsening_averages_what_a_pixel_covers(scene) -> None:
    # Checkerboard: point sampling would give stripes of 0 and 100, an average gives 50.
    board = (np.indices((400, 400)).sum(axis=0) % 2 * 100).astype(np.float32)
    target = Grid(ZONE_33, Affine(80, 0, ORIGIN[0] + 3, 0, -80, ORIGIN[1] - 3), 40, 40)
    inner = align(scene(board), target).read().values[0, 2:-2, 2:-2]
    assert np.abs(inner - 50).max() < 2


def test_strong_coarsening_reads_in_small_pieces() -> None:
    class Recorder:
        largest = 0

        def read(self, window: Window, bands: list[int]) -> np.ndarray:
            self.largest = max(self.largest, window.width, window.height)
            return np.full((len(bands), window.height, window.width), 7, np.float32)

    pixels = Recorder()
    source = Grid(ZONE_33, Affine(0.1, 0, ORIGIN[0], 0, -0.1, ORIGIN[1]), 60_000, 60_000)
    scene = Scene("wide.tif", source, (Band("1", "uint8"),), pixels)
    target = Grid(ZONE_33, Affine(10, 0, ORIGIN[0] + 1, 0, -10, ORIGIN[1] - 1), 600, 600)
    found = align(scene, target).read(Window(100, 100, 40, 40)).values
    assert (found == 7).all()
    assert pixels.largest < 3000


def test_the_same_lattice_is_read_in_place(scene) -> None:
    values = rough((100, 120), bands=2)
    source = scene(values)
    target = Grid(ZONE_33, Affine(10, 0, ORIGIN[0] - 200, 0, -10, ORIGIN[1] - 300), 100, 60)
    found = align(source, target).read().values
    np.testing.assert_array_equal(found[:, :70, 20:], values[:, 30:, :40])
    assert np.isnan(found[:, 70:]).all()
    assert np.isnan(found[:, :, :20]).all()
    assert align(source, source.grid) is source


@pytest.mark.parametrize("how", ["nodata", "alpha", "nan"])
def test_nothing_does_not_bleed_into_its_neighbours(scene, how: str) -> None:
    values = np.full((4 if how == "alpha" else 1, 200, 200), 100)
    values[:, :, :100] = 0
    if how == "alpha":
        values[3, :, 100:] = 255
        source = scene(values.astype(np.uint8))
    elif how == "nodata":
        source = scene(values.astype(np.uint8), nodata=0)
    else:
        source = scene(np.where(values == 0, np.nan, values).astype(np.float32))
    target = Grid(ZONE_33, Affine(7, 0, ORIGIN[0] + 3, 0, -7, ORIGIN[1] - 3), 200, 200)
    found = align(source, target).read().values
    assert set(np.unique(found[np.isfinite(found)])) == {100.0}
    assert 0.25 < np.isfinite(found).mean() < 0.75


def test_bands_keep_their_own_gaps(scene) -> None:
    values = np.full((2, 100, 100), 5, np.int16)
    values[0, :50] = -9999
    target = Grid(ZONE_33, Affine(9, 0, ORIGIN[0] + 3, 0, -9, ORIGIN[1] - 3), 90, 90)
    found = align(scene(values, nodata=-9999), target).read().values
    assert np.isnan(found[0, 5:40, 5:80]).all()
    assert (found[1, 5:80, 5:80] == 5).all()


def test_two_rasters_without_crs_share_their_pixels(make_raster) -> None:
    values = smooth((100, 100))
    source = open_file(str(make_raster("plain.tif", values, crs=None, transform=Affine(1, 0, 5, 0, -1, 105))))
    half = Grid(None, Affine(2, 0, 5, 0, -2, 105), 50, 50)
    found = align(source, half).read().values[0]
    expected = values[0].reshape(50, 2, 50, 2).mean(axis=(1, 3))
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99


def test_a_disc_seen_from_space_overlaps_what_lies_on_it(scene) -> None:
    """All corners of a geostationary grid lie off the Earth."""
    from_space = CRS.from_proj4("+proj=geos +lon_0=15 +h=35785831 +sweep=y")
    disc = Grid(from_space, Affine(20_000, 0, -5_430_000, 0, -20_000, 5_430_000), 543, 543)
    town = scene(rough((50, 50))).grid
    assert disc.overlaps(town)
    assert town.overlaps(disc)


def test_no_common_ground_and_half_known_places_are_refused(scene) -> None:
    source = scene(rough((50, 50)))
    with pytest.raises(RssegError, match="shares no ground"):
        align(source, Grid(ZONE_33, Affine(10, 0, 0, 0, -10, 0), 50, 50))
    with pytest.raises(RssegError, match="coordinate system"):
        align(source, Grid(None, Affine(10, 0, 0, 0, -10, 0), 50, 50))
