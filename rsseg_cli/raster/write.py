"""Label and value rasters on disk: cloud-optimised GeoTIFFs on exactly the grid they were made on."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.enums import Interleaving
from rasterio.errors import RasterioError
from rasterio.io import DatasetWriter
from rasterio.windows import Window

from rsseg_cli import __version__
from rsseg_cli.class_files import qml_of
from rsseg_cli.classes import UNLABELLED, ClassScheme
from rsseg_cli.delivery import deliver
from rsseg_cli.errors import RssegError
from rsseg_cli.raster.dataset import open_raster
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.labels import CLASSES_TAG

BLOCK_PX = 512
GEOTIFF_SUFFIXES = (".tif", ".tiff")
# Bytes a pixel that a compressed file may take, on the safe side of what was seen: class maps
# compress 20 times and more, float images hardly. Blocks and finished file lie side by side.
LABEL_BYTES_PX = 2 * 0.15
VALUE_BYTES_PX = 2 * 1.0


@dataclass(frozen=True)
class Layout:
    """What a raster holds, apart from its grid."""

    bands: tuple[str, ...]
    dtype: str
    nodata: float | None
    overviews: str = "AVERAGE"  # how zoomed-out levels are made
    tags: Mapping[str, str] = field(default_factory=dict)
    scheme: ClassScheme | None = None  # of a label map: colour table and style


@dataclass
class RasterWriter:
    """Takes windows in any order; every pixel must be given once."""

    dataset: DatasetWriter
    written_px: int = 0

    def write(self, values: NDArray[Any], window: Window) -> None:
        """Values (band, y, x), or (y, x) of a single band."""
        values = values if values.ndim == 3 else values[np.newaxis]
        self.dataset.write(values, window=window)
        self.written_px += window.width * window.height


@contextmanager
def create_labels(
    path: Path,
    grid: Grid,
    scheme: ClassScheme,
    *,
    overwrite: bool = False,
    inputs: Iterable[str] = (),
    options: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> Iterator[RasterWriter]:
    """A label map: 8-bit ids, 255 for nothing; colours and names inside, and in a QML beside it for QGIS."""
    tags = {CLASSES_TAG: json.dumps(scheme.to_json()), **(tags or {})}
    layout = Layout(("class",), "uint8", UNLABELLED, "NEAREST", tags, scheme)
    with create_raster(path, grid, layout, overwrite=overwrite, inputs=inputs, options=options) as writer:
        yield writer


@contextmanager
def create_raster(
    path: Path,
    grid: Grid,
    layout: Layout,
    *,
    overwrite: bool = False,
    inputs: Iterable[str] = (),
    options: Mapping[str, str] | None = None,
) -> Iterator[RasterWriter]:
    """A raster to fill window by window; it appears under its name when the block ends, complete and checked."""
    if path.suffix.lower() not in GEOTIFF_SUFFIXES:
        raise RssegError(
            f"{path}: rasters are written as GeoTIFF",
            f"end the name with .tif; gdal_translate makes other formats of it: {path.stem}.tif",
            file=str(path),
            kind="output",
        )
    size = len(layout.bands) * np.dtype(layout.dtype).itemsize * grid.height * grid.width
    expected = int(size * (LABEL_BYTES_PX if layout.scheme else VALUE_BYTES_PX))
    style = [path.with_suffix(".qml")] if layout.scheme else []

    def verify(finished: Path) -> None:
        verify_raster(finished, grid, layout, path)

    with (
        _gdal_errors(path),
        deliver(path, verify, overwrite=overwrite, inputs=inputs, sidecars=style, expected_bytes=expected) as folder,
    ):
        blocks = folder / "blocks.tif"
        with rasterio.open(blocks, "w", **_profile(grid, layout)) as dataset:
            _describe(dataset, layout)
            writer = RasterWriter(dataset)
            yield writer
        assert writer.written_px == grid.width * grid.height, "not every pixel was written once"
        verify_raster(blocks, grid, layout, path)
        _finish(blocks, folder / path.name, layout, options or {})
        if layout.scheme:
            (folder / style[0].name).write_text(qml_of(layout.scheme), encoding="utf-8")


def verify_raster(path: Path, grid: Grid, layout: Layout, target: Path) -> None:
    """Re-opens what was written for `target`. No pixel is decoded: what GDAL loses, it loses by whole blocks."""
    with open_raster(str(path)) as dataset:
        found = (Grid.of(dataset), dataset.count, set(dataset.dtypes), dataset.nodata)
        wanted = (grid, len(layout.bands), {layout.dtype}, layout.nodata)
        # As text, because one NaN is not equal to another.
        if found[:3] != wanted[:3] or str(found[3]) != str(None if wanted[3] is None else float(wanted[3])):
            raise RssegError(
                f"{target}: came out as {found}, not as {wanted}",
                "leave creation options away that change grid or data type",
                file=str(target),
                kind="output",
            )
        lost = _lost_blocks(dataset, path.stat().st_size)
    if lost:
        raise RssegError(
            f"{target}: {lost} blocks are missing: the disk filled up, or failed, while they were written",
            "free some space, or choose another disk, and run again",
            file=str(target),
            kind="space",
        )


def creation_options(pairs: Sequence[str] | None) -> dict[str, str]:
    """`NAME=VALUE` pairs of --co."""
    options = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise RssegError(f"--co {pair}: not of the form NAME=VALUE", "for example --co COMPRESS=ZSTD")
        options[name.upper()] = value
    return options


def _profile(grid: Grid, layout: Layout) -> dict[str, Any]:
    return {
        "driver": "GTiff",
        "crs": grid.crs,
        "transform": grid.transform,
        "width": grid.width,
        "height": grid.height,
        "count": len(layout.bands),
        "dtype": layout.dtype,
        "nodata": layout.nodata,
        "tiled": True,
        "blockxsize": BLOCK_PX,
        "blockysize": BLOCK_PX,
        "interleave": "band",
        "compress": "deflate",
        "zlevel": 1,
        "BIGTIFF": "IF_SAFER",
        "photometric": "minisblack",
        "alpha": "unspecified",  # else GDAL takes the last of four 8-bit bands for transparency
    }


def _describe(dataset: DatasetWriter, layout: Layout) -> None:
    dataset.descriptions = layout.bands
    dataset.update_tags(TIFFTAG_SOFTWARE=f"rsseg {__version__}", **layout.tags)
    if layout.scheme:
        dataset.write_colormap(1, {c.id: (*c.rgb, 255) for c in layout.scheme.classes})


def _finish(blocks: Path, final: Path, layout: Layout, options: Mapping[str, str]) -> None:
    """The blocks as a cloud-optimised GeoTIFF, with the person's creation options on top of ours."""
    floating = np.issubdtype(np.dtype(layout.dtype), np.floating)
    ours = {
        "COMPRESS": "DEFLATE",
        "PREDICTOR": "FLOATING_POINT" if floating else "STANDARD" if not layout.scheme else "NO",
        "BLOCKSIZE": str(BLOCK_PX),
        "BIGTIFF": "IF_SAFER",
        "OVERVIEW_RESAMPLING": layout.overviews,
        "NUM_THREADS": "ALL_CPUS",
    }
    chosen = {**ours, **options}
    if "COMPRESS" in options and "PREDICTOR" not in options and options["COMPRESS"].upper() not in ("ZSTD", "LZW"):
        del chosen["PREDICTOR"]
    rasterio.shutil.copy(blocks, final, driver="COG", **chosen)
    blocks.unlink()


def _lost_blocks(dataset: rasterio.DatasetReader, size: int) -> int:
    """How many blocks of the TIFF, overviews included, are not in the file."""
    lost = 0
    bands = dataset.indexes[:1] if dataset.interleaving == Interleaving.pixel else dataset.indexes
    for band in bands:
        for level in (None, *range(len(dataset.overviews(band)))):
            lost += _lost_in_level(dataset, band, level, size)
    return lost


def _lost_in_level(dataset: rasterio.DatasetReader, band: int, level: int | None, size: int) -> int:
    rows, cols = dataset.block_shapes[band - 1]
    factor = 1 if level is None else dataset.overviews(band)[level]
    # An overview's tiles may be counted a little too many; those answer None for offset and size alike.
    height, width = -(-dataset.height // factor), -(-dataset.width // factor)
    lost = 0
    for row in range(-(-height // rows)):
        for col in range(-(-width // cols)):
            offset, length = (
                dataset.get_tag_item(f"BLOCK_{what}_{col}_{row}", "TIFF", bidx=band, ovr=level)
                for what in ("OFFSET", "SIZE")
            )
            missing = offset is None or length is None
            lost += (level is None and missing) or (not missing and int(offset) + int(length) > size)
    return lost


@contextmanager
def _gdal_errors(path: Path) -> Iterator[None]:
    """What GDAL says while writing, with the file's name and what to do about it."""
    try:
        yield
    except (RasterioError, rasterio._err.CPLE_BaseError) as problem:
        cause: BaseException = problem
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise RssegError(
            f"{path}: could not be written: {cause}",
            "is the disk full, or is a --co option wrong? Nothing was left half-written",
            file=str(path),
            kind="output",
        ) from problem
