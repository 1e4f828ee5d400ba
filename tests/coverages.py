"""Masks to make polygons of, and the polygons that come out."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import shapely
from affine import Affine
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.windows import Window

from rsseg_cli.classes import UNLABELLED, ClassScheme
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.labels import Labels
from rsseg_cli.vector.coverage import Coverage
from rsseg_cli.vector.polygons import outline_batches

NORTH_UP = Affine(0.5, 0, 400_000, 0, -0.5, 5_400_000)
PIXEL_M2 = 0.25


@dataclass(frozen=True)
class Pixels:
    ids: np.ndarray

    def read(self, window: Window) -> np.ndarray:
        rows, cols = window.toslices()
        return self.ids[rows, cols].copy()


def labels_of(ids: Any, transform: Affine = NORTH_UP) -> Labels:
    ids = np.asarray(ids, np.uint8)
    scheme = ClassScheme.of_values(set(ids.ravel().tolist()) - {UNLABELLED})
    return Labels("mask.tif", Grid(CRS.from_epsg(32633), transform, *ids.shape), scheme, Pixels(ids))


@st.composite
def masks(
    draw: st.DrawFn, ids: tuple[tuple[int, ...], ...] = ((0, 1), (0, 1, 2, 255), (0, 0, 0, 3), (7, 255))
) -> np.ndarray:
    """Patches of some grain and some salt: from one pixel to a carpet with holes in its holes."""
    height, width, grain = draw(st.integers(1, 60)), draw(st.integers(1, 60)), draw(st.integers(1, 9))
    values = np.array(draw(st.sampled_from([(0, 1), (0, 1, 2, 255), (0, 0, 0, 3), (7, 255)])), np.uint8)
    salt = draw(st.sampled_from([0, 0.02, 0.2]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    coarse = rng.choice(values, (-(-height // grain), -(-width // grain)))
    mask = coarse.repeat(grain, 0).repeat(grain, 1)[:height, :width]
    return np.where(rng.random(mask.shape) < salt, rng.choice(values, mask.shape), mask)


def drawn(*rows: str) -> np.ndarray:
    return np.array([[UNLABELLED if sign == "." else int(sign) for sign in row] for row in rows], np.uint8)


def geometries(coverage: Coverage, *, corners_only: bool = False) -> np.ndarray:
    """The polygons of all regions."""
    batches = [
        shapely.from_ragged_array(shapely.GeometryType.POLYGON, batch.xy, (batch.rings, batch.polygons))
        for batch in outline_batches(coverage, corners_only=corners_only)
    ]
    return np.concatenate([np.empty(0, object), *batches])


def in_pixels(coverage: Coverage) -> Coverage:
    """With coordinates that count pixels."""
    return replace(coverage, grid=replace(coverage.grid, transform=Affine.identity()))


def burnt(coverage: Coverage) -> np.ndarray:
    """The class of each pixel, by the polygon that its centre lies in."""
    polygons = geometries(coverage)
    mask = np.full(coverage.grid.shape, UNLABELLED, np.uint8)
    if len(polygons):
        shapes = zip(polygons, coverage.ids.tolist(), strict=True)
        rasterize(shapes, out=mask, transform=coverage.grid.transform)
    return mask
