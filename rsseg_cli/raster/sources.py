"""From what a person types to scenes: files, globs, folders, several files as bands, or a mosaic."""

import glob
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from rsseg_cli.errors import RssegError
from rsseg_cli.raster.align import align
from rsseg_cli.raster.files import is_local
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.masked import without
from rsseg_cli.raster.mosaic import joint_grid
from rsseg_cli.raster.scene import Band, Scene, open_file

RASTER_SUFFIXES = (".tif", ".tiff", ".vrt", ".jp2", ".img", ".png", ".jpg", ".jpeg", ".bsq", ".bil", ".bip", ".dat")
BAND_FILES = re.compile(r"^\s*[A-Za-z_]\w*\s*=[^,=]+(,\s*[A-Za-z_]\w*\s*=[^,=]+)*$")
LABEL_NAME = re.compile(r"(^|[_-])(labels?|masks?|gt)$", re.IGNORECASE)
# town_clouds.tif beside town.tif says what is not to be seen there.
CLOUD_ENDING = re.compile(r"[_-](clouds?|cloud_?mask)$", re.IGNORECASE)

logger = logging.getLogger(__name__)


def open_scene(path: str | Path, bands: str | None = None, alpha: str = "auto", mosaic: bool = False) -> Scene:
    """One scene: a raster, `red=B04.tif,green=B03.tif`, or with `mosaic` all rasters of a folder or pattern."""
    names = list_scenes([str(path)])
    if len(names) > 1 and not mosaic:
        raise RssegError(
            f"{path}: is {len(names)} rasters, and one scene is needed here",
            "name one of them, or join them with --mosaic (later files on top)",
            file=str(path),
        )
    if not mosaic:
        return _open_one(names[0], alpha).select(bands)
    return replace(open_mosaic(names, alpha), path=str(path)).select(bands)


def list_scenes(texts: Sequence[str]) -> list[str]:
    """Each text as one or more scenes; a folder or a pattern gives its rasters in order of their names.

    Cloud masks are no scenes where what they mask is there too.
    """
    names = [name for text in texts for name in _expand(text)]
    stems = {Path(name).parent / Path(name).stem for name in names}
    return [name for name in names if not _masks_one_of(Path(name), stems)]


def _masks_one_of(path: Path, stems: set[Path]) -> bool:
    masked = CLOUD_ENDING.sub("", path.stem)
    return masked not in ("", path.stem) and path.with_name(masked) in stems


def is_label_name(name: str) -> bool:
    """Whether a raster is called as label maps are, such as town_labels.tif."""
    return LABEL_NAME.search(Path(name).stem) is not None


def has_rasters(folder: Path) -> bool:
    return any(map(_looks_like_raster, folder.iterdir()))


def cloud_mask_of(name: str) -> str | None:
    """The cloud mask that lies beside a raster, by its name."""
    path = Path(name)
    if not is_local(name) or not path.parent.is_dir():
        return None
    beside = sorted(path.parent.glob(f"{glob.escape(path.stem)}[_-][Cc]*"))
    return next((str(p) for p in beside if CLOUD_ENDING.sub("", p.stem) == path.stem and _looks_like_raster(p)), None)


def open_mosaic(names: Sequence[str], alpha: str = "auto") -> Scene:
    """Overlapping rasters as one scene on the first one's lattice; later ones lie on top."""
    return scenes_as_one([_open_one(name, alpha) for name in names])


def scenes_as_one(scenes: Sequence[Scene]) -> Scene:
    """Scenes that overlap or lie beside each other as one; later ones lie on top."""
    if len(scenes) == 1:
        return scenes[0]
    first = scenes[0]
    for other in scenes[1:]:
        if other.names != first.names:
            raise RssegError(
                f"{other.path} has the bands {', '.join(other.names)}; {first.path} has {', '.join(first.names)}",
                "a mosaic needs the same bands in every file; leave the odd ones out",
                file=other.path,
            )
    grid, _ = joint_grid([scene.path for scene in scenes], [scene.grid for scene in scenes])
    pixels = MosaicPixels(tuple(align(scene, grid) for scene in scenes), tuple(scene.grid for scene in scenes), grid)
    dates = {scene.date for scene in scenes}
    bands = tuple(_widest(each) for each in zip(*(scene.bands for scene in scenes), strict=True))
    return replace(
        first,
        path=f"{first.path} and {len(scenes) - 1} more",
        grid=grid,
        bands=bands,
        pixels=pixels,
        date=dates.pop() if len(dates) == 1 else None,
        chosen=None,
        files=_files(scenes),
    )


def _files(scenes: Sequence[Scene]) -> tuple[str, ...]:
    return tuple(file for scene in scenes for file in scene.files)


def _widest(bands: Sequence[Band]) -> Band:
    """One band of several files, as the first has it but of a type that holds them all."""
    if len({(band.scale, band.offset) for band in bands}) > 1:  # what is stored has no one meaning
        return Band(bands[0].name, "float32")
    return replace(bands[0], dtype=str(np.result_type(*(band.dtype for band in bands))))


@dataclass(frozen=True)
class MosaicPixels:
    """Scenes on one grid, the last one that holds a pixel wins it whole."""

    scenes: tuple[Scene, ...]
    extents: tuple[Grid, ...]  # the scenes' own grids, to skip those that a window does not touch
    grid: Grid

    def read(self, window: Window, bands: Sequence[int]) -> NDArray[np.float32]:
        values = np.full((len(bands), window.height, window.width), np.nan, np.float32)
        here = self.grid.crop(window)
        for scene, extent in zip(self.scenes, self.extents, strict=True):
            if not here.overlaps(extent):
                continue
            top = scene.pixels.read(window, [scene.chosen[at] for at in bands] if scene.chosen else bands)
            holds = np.isfinite(top).any(axis=0)
            values[:, holds] = top[:, holds]
        return values


@dataclass(frozen=True)
class StackedPixels:
    """One-band scenes on one grid as the bands of one scene."""

    scenes: tuple[Scene, ...]

    def read(self, window: Window, bands: Sequence[int]) -> NDArray[np.float32]:
        return np.concatenate([self.scenes[at].pixels.read(window, self.scenes[at].chosen or (0,)) for at in bands])


def _expand(text: str) -> Iterator[str]:
    if not text.strip() or not is_local(text) or _is_file(text) or BAND_FILES.match(text):
        yield text
    elif Path(text).is_dir():
        found = sorted(str(p) for p in Path(text).iterdir() if _looks_like_raster(p))
        if not found:
            raise RssegError(f"{text}: no raster in this folder", _where_else(Path(text)), file=text)
        yield from found
    elif glob.has_magic(text):
        found = sorted(glob.glob(text, recursive=True))  # noqa: PTH207 - absolute patterns too
        if not found:
            raise RssegError(f"{text}: no file has a name like this", "check the pattern, and quote it", file=text)
        yield from found
    else:
        yield text


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except OSError:
        return True  # a folder on the way may not be entered; opening it will say so


def _looks_like_raster(path: Path) -> bool:
    # macOS leaves ._ files beside every file on foreign disks.
    return path.suffix.lower() in RASTER_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _where_else(folder: Path) -> str:
    inner = sorted(p.name for p in folder.iterdir() if p.is_dir() and has_rasters(p))
    if inner:
        return f"folders within it are not searched; there are rasters in {', '.join(inner[:4])}"
    return f"rsseg looks for {', '.join(RASTER_SUFFIXES[:5])} and the like; name other files themselves"


def _open_one(text: str, alpha: str) -> Scene:
    return _open_band_files(text, alpha) if is_band_files(text) else _open_seen(text, alpha)


def _open_seen(path: str, alpha: str) -> Scene:
    """A file without the clouds that a mask beside it marks."""
    scene, mask = open_file(path, alpha), cloud_mask_of(path)
    if mask is None:
        return scene
    logger.info("%s: masks the clouds of %s", mask, path, extra={"topic": "cloud masks"})
    return without(scene, open_file(mask, "no"))


def is_band_files(text: str) -> bool:
    """Whether it is `red=B04.tif,green=B03.tif`, and not a file that is called so."""
    return BAND_FILES.match(text) is not None and not Path(text).exists()


def _open_band_files(text: str, alpha: str) -> Scene:
    """`red=B04.tif,green=B03.tif`: the grid is the finest file's, the others are brought onto it."""
    pairs = [item.split("=", 1) for item in text.split(",")]
    scenes = []
    for name, path in pairs:
        scene = _open_seen(path.strip(), alpha)
        if len(scene.bands) != 1:
            raise RssegError(
                f"{path.strip()}: has {len(scene.bands)} bands, and {name.strip()} needs one",
                "name files with one band each, or give one file and pick bands: --bands red=3,nir=4",
                file=path.strip(),
            )
        scenes.append(scene.select(f"{name.strip()}=1"))
    finest = min(scenes, key=lambda scene: scene.grid.gsd_m or 0.0)
    if len({scene.grid.pixel_size for scene in scenes}) > 1:
        logger.info("%s: bands of different resolution, brought to that of %s", text, finest.path)
    pixels = StackedPixels(tuple(align(scene, finest.grid) for scene in scenes))
    bands = tuple(scene.bands[0] for scene in scenes)
    date = next((scene.date for scene in scenes if scene.date), None)
    return Scene(text, finest.grid, bands, pixels, date, files=_files(scenes))
