"""The sample scenes on disk, laid out as a person's own folders might be."""

from collections.abc import Iterator
from pathlib import Path

import geopandas
import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.features import shapes

from rsseg_cli.change.scheme import CHANGE_SCHEME
from rsseg_cli.classes import ClassScheme
from rsseg_cli.progress import Track, untracked
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.layout import Layout
from rsseg_cli.raster.write import create_labels, create_raster
from rsseg_cli.samples.classes import CLASSES, UNLABELLED
from rsseg_cli.samples.pair import SamplePair, draw_pair
from rsseg_cli.samples.scenes import DEFAULT_SIZE_PX, SCENES_PER_DOMAIN, SampleScene, draw_samples
from rsseg_cli.samples.series import SERIES_SIZE_PX, SampleSeries, draw_all_series
from rsseg_cli.samples.works import KINDS
from rsseg_cli.vector.write import write_geopackage

SCHEME = ClassScheme.of_names([(name, (id_,), color) for id_, name, color in CLASSES])
KINDS_SCHEME = ClassScheme.of_names(
    [("unchanged", (0,), "#e8e8e8"), *((name, (id_,), color) for id_, name, color in KINDS)]
)
# The labels of this source scene are polygons; those of the others are rasters.
LABELLED_BY_POLYGONS = 2


def write_samples(
    folder: Path, size_px: int = DEFAULT_SIZE_PX, *, overwrite: bool = False, track: Track = untracked
) -> Iterator[tuple[SampleScene | SamplePair, list[Path]]]:
    """Draws and writes what a person may try rsseg on, one by one.

    Scenes lie in `source/` with labels and in `target/` without, with `truth/` of the target; two dates of one place
    and what changed between them lie in `change/`.
    """
    for part in ("source", "target", "truth", "change"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    drawn = track(_drawn(size_px), "drawing sample scenes", 2 * SCENES_PER_DOMAIN + 1)
    for number, sample in enumerate(drawn):
        if isinstance(sample, SamplePair):
            yield sample, _write_pair(folder / "change", sample, overwrite)
        else:
            image = folder / sample.domain / f"{sample.name}.tif"
            write_image(image, sample, overwrite)
            yield sample, [image, _write_labels(folder, sample, number == LABELLED_BY_POLYGONS, overwrite)]


def _drawn(size_px: int) -> Iterator[SampleScene | SamplePair]:
    yield from draw_samples(size_px)
    yield draw_pair(size_px)


def _write_pair(folder: Path, pair: SamplePair, overwrite: bool) -> list[Path]:
    images = [folder / f"{scene.name}.tif" for scene in (pair.before, pair.after)]
    for image, scene in zip(images, (pair.before, pair.after), strict=True):
        write_image(image, scene, overwrite)
    truth, kinds = folder / "truth.tif", folder / "kinds.tif"
    _write_ids(truth, pair.truth, grid_of(pair.before), CHANGE_SCHEME, overwrite)
    _write_ids(kinds, pair.kinds, grid_of(pair.before), KINDS_SCHEME, overwrite)
    return [*images, truth, kinds]


def write_series(
    folder: Path, size_px: int = SERIES_SIZE_PX, *, overwrite: bool = False, track: Track = untracked
) -> Iterator[tuple[SampleSeries, list[Path]]]:
    """Draws and writes the sample series, one by one: `source/` with labels, `target/` without, and `truth/` of it."""
    for part in ("source", "target", "truth"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for series in track(draw_all_series(size_px), "drawing sample series", 2):
        written = [
            path for number in range(len(series.scenes)) for path in _write_date(folder, series, number, overwrite)
        ]
        if series.domain == "target":
            change, kinds = folder / "truth" / "change.tif", folder / "truth" / "kinds.tif"
            _write_ids(change, series.change, grid_of(series.scenes[0]), CHANGE_SCHEME, overwrite)
            _write_ids(kinds, series.kinds, grid_of(series.scenes[0]), KINDS_SCHEME, overwrite)
            written += [change, kinds]
        yield series, written


def _write_date(folder: Path, series: SampleSeries, number: int, overwrite: bool) -> list[Path]:
    """The image, the mask of its clouds if there are any, and the labels of a date."""
    scene, clouds = series.scenes[number], series.clouds[number]
    image = folder / scene.domain / f"{scene.name}.tif"
    write_image(image, scene, overwrite)
    labels = _write_labels(folder, scene, as_polygons=False, overwrite=overwrite)
    if not clouds.any():
        return [image, labels]
    mask, grid = image.with_name(f"{scene.name}_clouds.tif"), grid_of(scene)
    with create_raster(mask, grid, Layout(("clouds",), "uint8", None), overwrite=overwrite) as writer:
        writer.write(clouds[np.newaxis], grid.window)
    return [image, labels, mask]


def _write_ids(path: Path, ids: NDArray[np.uint8], grid: Grid, scheme: ClassScheme, overwrite: bool) -> None:
    with create_labels(path, grid, scheme, overwrite=overwrite) as writer:
        writer.write(ids, grid.window)


def grid_of(scene: SampleScene) -> Grid:
    x, y = scene.origin
    transform = Affine(scene.gsd_m, 0, x, 0, -scene.gsd_m, y)
    return Grid(CRS.from_epsg(scene.epsg), transform, *scene.labels.shape)


def write_image(path: Path, scene: SampleScene, overwrite: bool = False) -> None:
    # TIFF spells dates with colons.
    tags = {"TIFFTAG_DATETIME": scene.date.replace("-", ":") + " 10:30:00"}
    layout = Layout(scene.bands, "uint8", scene.nodata, tags=tags)
    grid = grid_of(scene)
    with create_raster(path, grid, layout, overwrite=overwrite) as writer:
        writer.write(scene.image, grid.window)


def _write_labels(folder: Path, scene: SampleScene, as_polygons: bool, overwrite: bool) -> Path:
    stem = folder / ("source" if scene.domain == "source" else "truth") / f"{scene.name}_labels"
    grid = grid_of(scene)
    if as_polygons:
        path = stem.with_suffix(".gpkg")
        write_geopackage(path, _polygons(scene.labels, grid), "landcover", overwrite=overwrite)
        return path
    path = stem.with_suffix(".tif")
    _write_ids(path, scene.labels, grid, SCHEME, overwrite)
    return path


def _polygons(labels: NDArray[np.uint8], grid: Grid) -> geopandas.GeoDataFrame:
    names = {id_: name for id_, name, _ in CLASSES}
    found = list(shapes(labels, mask=labels != UNLABELLED, connectivity=4, transform=grid.transform))
    return geopandas.GeoDataFrame(
        {"class": [names[int(value)] for _, value in found]},
        geometry=[shapely.geometry.shape(outline) for outline, _ in found],
        crs=grid.crs,
    )
