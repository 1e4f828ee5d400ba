"""What the writers' tests share: features of small masks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from affine import Affine
from broken import SCHEME, TRANSFORM, UTM
from coverages import Pixels

from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.labels import Labels
from rsseg_cli.vector import polygons
from rsseg_cli.vector.coverage import polygonize
from rsseg_cli.vector.table import Features, attributes, features_of

MakeFeatures = Callable[..., Features]


@pytest.fixture
def make_features() -> MakeFeatures:
    """Features of a mask; keywords go to `features_of`."""

    def make(ids: Any, crs: Any = UTM, transform: Affine = TRANSFORM, **options: Any) -> Features:
        ids = np.asarray(ids, np.uint8)
        coverage = polygonize(Labels("mask.tif", Grid(crs, transform, *ids.shape), SCHEME, Pixels(ids)))
        return features_of(coverage, attributes(coverage, SCHEME), **{"corners_only": False, **options})

    return make


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polygons, "BATCH", 7)
