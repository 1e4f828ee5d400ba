from dataclasses import dataclass

import numpy as np
import pyarrow
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.windows import Window

from rsseg_cli.classes import UNLABELLED, ClassScheme
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.labels import Labels
from rsseg_cli.vector import polygons
from rsseg_cli.vector.coverage import Coverage, polygonize
from rsseg_cli.vector.table import attributes, record_batches
from rsseg_cli.vector.uids import uids

SCHEME = ClassScheme.of_names([("water", (0,), None), ("forêt", (2,), None)])
MASK = np.random.default_rng(5).choice(np.array([0, 2, UNLABELLED], np.uint8), (20, 30))


@dataclass(frozen=True)
class Rows:
    ids: np.ndarray

    def read(self, window: Window) -> np.ndarray:
        return self.ids[window.row_off : window.row_off + window.height]


def coverage_of(mask: np.ndarray, crs: CRS | None) -> Coverage:
    grid = Grid(crs, Affine(2, 0, 400_000, 0, -2, 5_400_000), *mask.shape)
    return polygonize(Labels("mask.tif", grid, SCHEME, Rows(mask)))


def test_every_polygon_has_its_uid_class_and_size() -> None:
    coverage = coverage_of(MASK, CRS.from_epsg(32633))
    found = attributes(coverage, SCHEME)
    assert list(found) == ["uid", "class_id", "class_name", "area_m2", "perimeter_m"]
    assert [int(text, 16) for text in found["uid"].to_pylist()] == uids(coverage).tolist()
    assert found["class_id"].to_pylist() == coverage.ids.tolist()
    assert found["class_name"].to_pylist() == [{0: "water", 2: "forêt"}[number] for number in coverage.ids.tolist()]
    assert found["area_m2"].to_pylist() == (coverage.pixels * 4).tolist()


def test_without_a_crs_units_are_pixels() -> None:
    found = attributes(coverage_of(np.zeros((3, 2), np.uint8), None), SCHEME)
    assert found["area_px"].to_pylist() == [6]
    assert found["perimeter_px"].to_pylist() == [10]


def test_rows_keep_together_over_batches(monkeypatch) -> None:
    monkeypatch.setattr(polygons, "BATCH", 7)
    coverage = coverage_of(MASK, CRS.from_epsg(32633))
    rows = record_batches(coverage, attributes(coverage, SCHEME), corners_only=True).read_all()
    assert len(rows) == len(coverage)
    outlines = shapely.from_wkb(rows["geom"].to_pylist())
    assert shapely.area(outlines).tolist() == rows["area_m2"].to_pylist()
    assert rows["uid"].to_pylist() == attributes(coverage, SCHEME)["uid"].to_pylist()


def test_nothing_has_columns_of_the_same_types() -> None:
    some, none = (coverage_of(mask, None) for mask in (MASK, np.full_like(MASK, UNLABELLED)))
    schemas = [record_batches(c, attributes(c, SCHEME), corners_only=True).schema for c in (some, none)]
    assert isinstance(schemas[0], pyarrow.Schema)
    assert schemas[0] == schemas[1]
