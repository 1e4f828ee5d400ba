"""Maps scenes with a model. All that can be checked is checked first; only then is torch imported."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from rsseg_cli.errors import RssegError
from rsseg_cli.job import Job, Outputs, Precision, Settings
from rsseg_cli.model_file import read_card
from rsseg_cli.progress import Track, untracked
from rsseg_cli.raster.bands import listed, matched
from rsseg_cli.raster.dataset import is_local
from rsseg_cli.raster.scene import Scene
from rsseg_cli.raster.sources import is_band_files, list_scenes, open_mosaic
from rsseg_cli.raster.write import GEOTIFF_SUFFIXES
from rsseg_cli.vector.area import Area, open_area

if TYPE_CHECKING:
    from xarray import DataArray

# A scene's pixels may be so many times as coarse, or as fine, as they are wanted. Coarser ones are enlarged for the
# network, in memory too; of much finer ones nothing is left.
MOST_COARSER = 4
MOST_FINER = 16

Places = str | Path | Sequence[str | Path]
OnError = Callable[[RssegError], None]

logger = logging.getLogger(__name__)


@overload
def segment(
    scene: "DataArray",
    model: str | Path,
    *,
    bands: str | None = None,
    aoi: str | Path | None = None,
    tile_px: int = ...,
    overlap_px: int | None = ...,
    batch: int | None = ...,
    gsd_m: float | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    tta: bool = False,
) -> "DataArray": ...
@overload
def segment(
    scene: Places,
    model: str | Path,
    *,
    output: str | Path | None = None,
    bands: str | None = None,
    mosaic: bool = False,
    aoi: str | Path | None = None,
    tile_px: int = ...,
    overlap_px: int | None = ...,
    batch: int | None = ...,
    gsd_m: float | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    tta: bool = False,
    overwrite: bool = False,
    track: Track = untracked,
) -> dict[str, Any]: ...
def segment(
    scene: "Places | DataArray",
    model: str | Path,
    *,
    output: str | Path | None = None,
    bands: str | None = None,
    mosaic: bool = False,
    aoi: str | Path | None = None,
    tile_px: int = Settings.tile_px,
    overlap_px: int | None = Settings.overlap_px,
    batch: int | None = Settings.batch,
    gsd_m: float | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    tta: bool = False,
    overwrite: bool = False,
    track: Track = untracked,
) -> "dict[str, Any] | DataArray":
    """Maps land cover with a model; the keywords are the options of `rsseg segment`.

    Names of files in: maps are written as the command writes them, and what `--json` prints is returned.
    A georeferenced DataArray in, (band, y, x) as `Scene.read` and rioxarray give it: the labels come back as one,
    (y, x), 255 where there is nothing, names of the classes in `attrs["classes"]`. They are the command's to the bit.

        from rsseg_cli import open_scene, segment

        segment("rsseg_demo/target/karst_1.tif", "rsseg_demo/town.safetensors", output="map.tif")
        array = open_scene("rsseg_demo/target/karst_1.tif").read()
        labels = segment(array[:, :100, :100], "rsseg_demo/town.safetensors", bands="red,green,blue,nir")
    """
    started = time.perf_counter()
    settings = Settings(tile_px, overlap_px, batch, gsd_m, device, precision, tta)
    area = str(aoi) if aoi is not None else None
    if not isinstance(scene, str | Path | Sequence):
        if output is not None or mosaic or overwrite:
            raise RssegError("output, mosaic and overwrite are for files", "a DataArray's labels are given back")
        return _segment_array(scene, str(model), bands, area, settings)
    names = [scene] if isinstance(scene, str | Path) else scene
    request = Request(
        scenes=tuple(map(str, names)),
        model=str(model),
        output=Path(output) if output is not None else None,
        bands=bands,
        mosaic=mosaic,
        aoi=area,
        settings=settings,
        overwrite=overwrite,
    )
    return map_all(request, started, track)


@dataclass(frozen=True)
class Request:
    """What the person asked for."""

    scenes: tuple[str, ...]
    model: str
    output: Path | None = None  # a file or a folder; None: the folder we are in
    bands: str | None = None
    alpha: str = "auto"
    mosaic: bool = False  # all scenes are one
    aoi: str | None = None  # FILE[:LAYER] of polygons: nothing else is mapped
    probabilities: Path | None = None
    confidence: Path | None = None
    settings: Settings = field(default_factory=Settings)
    resume: bool = False
    overwrite: bool = False
    creation_options: Mapping[str, str] = field(default_factory=dict)


def map_all(
    request: Request, started: float, track: Track = untracked, on_error: OnError | None = None
) -> dict[str, Any]:
    """Maps every scene; a bad one ends it all, or is told to `on_error` and left out."""
    done: list[dict[str, Any]] = []
    if jobs := plan(request, on_error):
        from rsseg_cli.bundle import load_bundle
        from rsseg_cli.mapping import map_scene

        bundle = load_bundle(request.model)
        for job in jobs:
            with _spared(on_error):
                done.append(map_scene(job, bundle, request.settings, resume=request.resume, track=track))
    seconds = time.perf_counter() - started
    megapixels = sum(entry["width"] * entry["height"] for entry in done) / 1e6
    return {"outputs": done, "seconds": seconds, "megapixels_per_second": megapixels / seconds}


def _segment_array(
    array: "DataArray", model: str, bands: str | None, aoi: str | None, settings: Settings
) -> "DataArray":
    from rsseg_cli.raster.arrays import labels_like, scene_of

    scene, area = _fitted(scene_of(array).select(bands), read_card(model), aoi, settings)

    from rsseg_cli.bundle import load_bundle
    from rsseg_cli.mapping import map_array

    bundle = load_bundle(model)
    window = area.window if area else scene.grid.window
    ids = map_array(scene, area, bundle, settings)
    return labels_like(array, ids, bundle.card.scheme, scene.grid.crop(window).transform, window)


@contextmanager
def _spared(on_error: OnError | None) -> Iterator[None]:
    """One of many may fail, if somebody wants to hear of it."""
    try:
        yield
    except RssegError as error:
        if on_error is None:
            raise
        on_error(error)


def plan(request: Request, on_error: OnError | None = None) -> list[Job]:
    """The maps to make, checked."""
    card = read_card(request.model)
    names = list_scenes(request.scenes)
    groups = [names] if request.mosaic else [[name] for name in names]
    if len(groups) > 1 and (request.probabilities or request.confidence):
        raise RssegError(
            f"--probabilities and --confidence name one file, and there are {len(groups)} scenes",
            "map the scenes one by one, or join them with --mosaic",
        )
    jobs = []
    for files, target in zip(groups, label_paths(groups, request.output), strict=True):
        with _spared(on_error):
            jobs.append(_job(request, files, target, card))
    _refuse_inputs(jobs)
    return jobs


def _job(request: Request, files: Sequence[str], target: Path, card: Mapping[str, Any]) -> Job:
    scene = open_mosaic(files, request.alpha).select(request.bands)
    scene, area = _fitted(scene, card, request.aoi, request.settings)
    if target != request.output:
        target.parent.mkdir(parents=True, exist_ok=True)
    outputs = Outputs(target, request.probabilities, request.confidence, request.overwrite, request.creation_options)
    outputs.check(scene.files)
    return Job(scene, outputs, area)


def _fitted(scene: Scene, card: Mapping[str, Any], aoi: str | None, settings: Settings) -> tuple[Scene, Area | None]:
    """The scene as the model needs it, and the area of it that is wanted."""
    scene = with_bands(scene, tuple(card["architecture"]["bands"]))
    _refuse_other_scale(scene, settings.gsd_m or card["gsd_m"])
    return scene, open_area(aoi, scene) if aoi is not None else None


def _refuse_inputs(jobs: Sequence[Job]) -> None:
    """One scene's map must not replace another scene."""
    inputs = {Path(file).resolve() for job in jobs for file in job.scene.files if is_local(file)}
    for path in (path for job in jobs for path in job.outputs.paths):
        if path.resolve() in inputs:
            raise RssegError(
                f"{path}: is also an input", "choose another folder with -o", file=str(path), kind="output"
            )


def _refuse_other_scale(scene: Scene, gsd_m: float | None) -> None:
    own = scene.grid.gsd_m
    if own is None or gsd_m is None or gsd_m / MOST_FINER <= own <= gsd_m * MOST_COARSER:
        return
    raise RssegError(
        f"{scene.path} has pixels of {own:.4g} m, and is to be mapped at {gsd_m:.4g} m",
        f"use a model that knows such pixels, or take them as they are: --gsd {own:.4g}",
        file=scene.path,
    )


def with_bands(scene: Scene, wanted: tuple[str, ...]) -> Scene:
    """By name where the names agree, by order where as many bands have no name in common."""
    found = matched(scene, wanted, f"the model's {listed(wanted)}")
    if found is not None:
        return found
    order = ",".join(f"{name}={number}" for number, name in enumerate(wanted, 1))
    hint = f"say which is which: --bands {order}"
    if len(scene.bands) < len(wanted):
        hint = "map scenes that have these bands, or learn a model from the bands that this one has"
    raise RssegError(
        f"{scene.path} has {len(scene.bands)} band{'s' if len(scene.bands) > 1 else ''}: {listed(scene.names)}; "
        f"the model needs {len(wanted)}: {listed(wanted)}",
        hint,
        file=scene.path,
    )


def label_paths(groups: Sequence[Sequence[str]], output: Path | None) -> list[Path]:
    """Where the map of each scene goes, a scene being one file or several; never one name twice.

    `-o` is the file of a single map, or a folder. Without it `town.tif` becomes `town_labels.tif` here.
    """
    folder = output or Path()
    if output is not None and not output.is_dir():
        if len(groups) == 1 and output.suffix:
            return [output]
        if output.suffix.lower() in GEOTIFF_SUFFIXES:
            raise RssegError(
                f"-o {output}: names one file, and there are {len(groups)} scenes",
                "name a folder, or join them to one scene with --mosaic",
                kind="output",
            )
    stems = [_stem(files) for files in groups]
    shared = Counter(stems)
    names: dict[str, None] = {}
    for files, stem in zip(groups, stems, strict=True):
        parent = Path(files[0]).parent.name
        wanted = f"{parent}_{stem}" if shared[stem] > 1 and parent else stem
        numbered = (f"{wanted}_{number}" for number in count(2))
        names[next(name for name in chain([wanted], numbered) if name not in names)] = None
    return [folder / f"{name}_labels.tif" for name in names]


def _stem(files: Sequence[str]) -> str:
    first = files[0]
    if is_band_files(first):
        first = first.partition(",")[0].partition("=")[2].strip()
    stem = Path(first).stem or "map"
    return stem if len(files) == 1 else f"{stem}_mosaic"
