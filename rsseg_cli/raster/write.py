"""Label and value rasters on disk: cloud-optimised GeoTIFFs on exactly the grid they were made on."""

import json
import logging
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.io import DatasetWriter
from rasterio.windows import Window

from rsseg_cli import __version__
from rsseg_cli.class_files import qml_of
from rsseg_cli.classes import UNLABELLED, ClassScheme
from rsseg_cli.delivery import deliver
from rsseg_cli.errors import RssegError
from rsseg_cli.raster.dataset import georeference_optional
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.labels import CLASSES_TAG
from rsseg_cli.raster.layout import Layout
from rsseg_cli.raster.verify import gdal_errors, verify_pixels, verify_raster

BLOCK_PX = 512
GEOTIFF_SUFFIXES = (".tif", ".tiff")
# Bytes a pixel that a compressed file may take, on the safe side of what was seen: class maps
# compress 20 times and more, float images hardly. Blocks and finished file lie side by side.
LABEL_BYTES_PX = 2 * 0.15
VALUE_BYTES_PX = 2 * 1.0
TRIAL_PX = 16
PREDICTING = ("DEFLATE", "LZW", "ZSTD")  # codecs that know predictors
# Codecs that may change values; all others give back what went in.
LOSSY = ("JPEG", "WEBP", "JXL", "LERC")


@dataclass
class RasterWriter:
    """Takes windows in any order; every pixel must be given once."""

    dataset: DatasetWriter
    target: Path
    checksums: list[tuple[Window, int]] = field(default_factory=list)

    def write(self, values: NDArray[Any], window: Window) -> None:
        """Values (band, y, x), or (y, x) of a single band."""
        values = values if values.ndim == 3 else values[np.newaxis]
        values = np.ascontiguousarray(values, self.dataset.dtypes[0])
        with gdal_errors(self.target):
            self.dataset.write(values, window=window)
        self.checksums.append((window, zlib.crc32(values.data)))

    @property
    def written_px(self) -> int:
        return sum(window.width * window.height for window, _ in self.checksums)


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
    tags = {CLASSES_TAG: json.dumps(scheme.as_written().to_json()), **(tags or {})}
    layout = Layout(("class",), "uint8", UNLABELLED, overviews="NEAREST", tags=tags, scheme=scheme)
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
    check_suffix(path)
    size = len(layout.bands) * np.dtype(layout.dtype).itemsize * grid.height * grid.width
    expected = int(size * (LABEL_BYTES_PX if layout.scheme else VALUE_BYTES_PX))
    style = [path.with_suffix(".qml")] if layout.scheme else []

    options = {name.upper(): value for name, value in (options or {}).items()}

    def verify(finished: Path) -> None:
        verify_raster(finished, grid, layout, path)
        verify_pixels(finished, writer.checksums, _keeps_values(layout, options), path)

    with deliver(path, verify, overwrite=overwrite, inputs=inputs, sidecars=style, expected_bytes=expected) as folder:
        _try_out(folder / "trial.tif", grid, layout, options, path)
        with _cog(folder / path.name, grid, layout, options, path) as writer:
            yield writer
        if layout.scheme:
            with gdal_errors(path):
                (folder / style[0].name).write_text(qml_of(layout.scheme), encoding="utf-8")


def check_suffix(path: Path) -> None:
    """Rasters are GeoTIFFs, and are called so."""
    if path.suffix.lower() not in GEOTIFF_SUFFIXES:
        raise RssegError(
            f"{path}: rasters are written as GeoTIFF",
            f"end the name with .tif; gdal_translate makes other formats of it: {path.stem}.tif",
            file=str(path),
            kind="output",
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


@contextmanager
def _cog(file: Path, grid: Grid, layout: Layout, options: Mapping[str, str], target: Path) -> Iterator[RasterWriter]:
    """Windows in any order, then a cloud-optimised GeoTIFF of them."""
    blocks = file.with_name(f"blocks-{file.name}")
    with gdal_errors(target), georeference_optional():
        dataset = rasterio.open(blocks, "w", **_profile(grid, layout))
    writer = RasterWriter(dataset, target)
    try:
        with gdal_errors(target):
            _describe(dataset, layout)
        yield writer
    finally:
        with gdal_errors(target):
            dataset.close()
    assert writer.written_px == grid.width * grid.height, "not every pixel was written once"
    with gdal_errors(target), georeference_optional():
        _finish(blocks, file, layout, options)
        blocks.unlink()


def _keeps_values(layout: Layout, options: Mapping[str, str]) -> bool:
    """Whether what is read back must be what was written."""
    lossy = "NBITS" in options or options.get("COMPRESS", "").upper().startswith(LOSSY)
    return layout.scheme is not None or not lossy


def _try_out(file: Path, grid: Grid, layout: Layout, options: Mapping[str, str], target: Path) -> None:
    """The same on a few empty pixels: what GDAL will not do with these options shows now, not after hours."""
    small = replace(grid, height=TRIAL_PX, width=TRIAL_PX)
    empty = np.full((len(layout.bands), *small.shape), layout.nodata or 0, layout.dtype)
    try:
        _check_block_size(options, target)
        with _complaints() as complaints, _cog(file, small, layout, options, target) as writer:
            writer.write(empty, small.window)
        verify_raster(file, small, layout, target)
        verify_pixels(file, writer.checksums, _keeps_values(layout, options), target)
        told = [text for text in complaints if any(name in text for name in options)]
        if told:  # GDAL leaves the option away and goes on
            raise RssegError(f"{target}: {told[0]}", "")
    except RssegError as problem:
        if not options:
            raise
        given = " ".join(f"--co {name}={value}" for name, value in options.items())
        raise RssegError(
            f"{problem.problem} (with {given})",
            "the options are those of GDAL's COG driver: https://gdal.org/drivers/raster/cog.html",
            file=str(target),
            kind=problem.kind,
        ) from problem


def _check_block_size(options: Mapping[str, str], target: Path) -> None:
    # GDAL 3.10 ends the whole process over BLOCKSIZE=ABC.
    size = options.get("BLOCKSIZE", str(BLOCK_PX))
    if not size.isdecimal() or int(size) % 16 or not 128 <= int(size) <= 4096:
        raise RssegError(f"{target}: BLOCKSIZE={size} is not a multiple of 16 from 128 to 4096", "", kind="output")


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """What GDAL warns of, through rasterio's log, which is where options it does not know end."""
    texts: list[str] = []
    listener = logging.Handler(logging.WARNING)
    listener.emit = lambda record: texts.append(record.getMessage().partition(" in ")[2])  # type: ignore[method-assign]
    log = logging.getLogger("rasterio._env")
    level, passed_on = log.level, log.propagate
    log.addHandler(listener)
    log.setLevel(logging.WARNING)
    log.propagate = False
    try:
        yield texts
    finally:
        log.removeHandler(listener)
        log.setLevel(level)
        log.propagate = passed_on


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
    if layout.scale != 1:
        dataset.scales = [layout.scale] * len(layout.bands)
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
        "NUM_THREADS": os.environ.get("GDAL_NUM_THREADS", "ALL_CPUS"),
    }
    chosen = {**ours, **options}
    if "COMPRESS" in options and "PREDICTOR" not in options and options["COMPRESS"].upper() not in PREDICTING:
        del chosen["PREDICTOR"]
    rasterio.shutil.copy(blocks, final, driver="COG", **chosen)
