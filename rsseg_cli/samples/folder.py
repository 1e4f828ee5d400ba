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

from rsseg_cli.classes import ClassScheme
from rsseg_cli.progress import Track, untracked
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.layout import Layout
from rsseg_cli.raster.write import create_labels, create_raster
from rsseg_cli.samples.classes import CLASSES, UNLABELLED
from rsseg_cli.samples.scenes import DEFAULT_SIZE_PX, SCENES_PER_DOMAIN, SampleScene, draw_samples
from rsseg_cli.vector.write import write_geopackage

SCHEME = ClassScheme.of_names([(name, (id_,), color) for id_, name, color in CLASSES])
# The labels of this source scene are polygons; those of the others are rasters.
LABELLED_BY_POLYGONS = 2


def write_samples(
    folder: Path, size_px: int = DEFAULT_SIZE_PX, *, overwrite: bool = False, track: Track = untracked
) -> Iterator[tuple[SampleScene, list[Path]]]:
    """Draws and writes the scenes one by one: `source/` with labels, `target/` without, `truth/` of the target."""
    for part in ("source", "target", "truth"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    drawn = track(draw_samples(size_px), "drawing sample scenes", 2 * SCENES_PER_DOMAIN)
    for number, scene in enumerate(drawn):
        image = folder / scene.domain / f"{scene.name}.tif"
        write_image(image, scene, overwrite)
        yield scene, [image, _write_labels(folder, scene, number == LABELLED_BY_POLYGONS, overwrite)]


def grid_of(scene: SampleScene) -> Grid:
    x, y = scene.origin
    transform = Affine(scene.gsd_m, 0, x, 0, -scene.gsd_m, y)
    return Grid(CRS.from_epsg(scene.epsg), transform, *scene.labels.shape)


def write_image(path: Path, scene: SampleScene, overwrite: bool = False) -> None:
    # TIFF spells dates with colons.
    layout = Layout(scene.bands, "uint8", None, tags={"TIFFTAG_DATETIME": scene.date.replace("-", ":") + " 10:30:00"})
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
    with create_labels(path, grid, SCHEME, overwrite=overwrite) as writer:
        writer.write(scene.labels, grid.window)
    return path


def _polygons(labels: NDArray[np.uint8], grid: Grid) -> geopandas.GeoDataFrame:
    names = {id_: name for id_, name, _ in CLASSES}
    found = list(shapes(labels, mask=labels != UNLABELLED, connectivity=4, transform=grid.transform))
    return geopandas.GeoDataFrame(
        {"class": [names[int(value)] for _, value in found]},
        geometry=[shapely.geometry.shape(outline) for outline, _ in found],
        crs=grid.crs,
    )
