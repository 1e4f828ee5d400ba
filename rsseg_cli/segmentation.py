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
from rsseg_cli.job import Job, Outputs, Precision, SeriesAs, Settings
from rsseg_cli.model_file import read_card
from rsseg_cli.progress import Track, untracked
from rsseg_cli.raster.bands import listed, matched
from rsseg_cli.raster.files import is_local
from rsseg_cli.raster.scene import Scene
from rsseg_cli.raster.series import Series, find_series, groups_of
from rsseg_cli.raster.sources import is_band_files, list_scenes, open_mosaic
from rsseg_cli.raster.write import GEOTIFF_SUFFIXES
from rsseg_cli.vector.area import open_area

if TYPE_CHECKING:
    from xarray import DataArray

# A scene's pixels may be so many times as coarse, or as fine, as they are wanted. Coarser ones are enlarged for the
# network, in memory too; of much finer ones nothing is left.
MOST_COARSER = 4
MOST_FINER = 16

Places = str | Path | Sequence[str | Path]
OnError = Callable[[RssegError], None]
Asked = Sequence[str] | Scene | Series  # names of files that are one scene, or what is open already

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
    series: SeriesAs | None = None,
    shifts: bool = True,
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
    series: SeriesAs | None = None,
    shifts: bool = True,
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
    settings = Settings(tile_px, overlap_px, batch, gsd_m, device, precision, tta, series, shifts)
    area = str(aoi) if aoi is not None else None
    if not isinstance(scene, str | Path | Sequence):
        if output is not None or mosaic or overwrite or series:
            raise RssegError(
                "output, mosaic, series and overwrite are for files", "a DataArray's labels are given back"
            )
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
                done += map_scene(job, bundle, request.settings, resume=request.resume, track=track)
    seconds = time.perf_counter() - started
    megapixels = sum(entry["width"] * entry["height"] for entry in done) / 1e6
    return {"outputs": done, "seconds": seconds, "megapixels_per_second": megapixels / seconds}


def _segment_array(
    array: "DataArray", model: str, bands: str | None, aoi: str | None, settings: Settings
) -> "DataArray":
    from rsseg_cli.raster.arrays import labels_like, scene_of

    scene = _fitted(scene_of(array).select(bands), read_card(model), settings)
    area = open_area(aoi, scene) if aoi is not None else None

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
    asked = list(_asked(request, on_error))
    groups = [group for each in asked for group in _groups(each, request.settings.series)]
    if len(groups) > 1 and (request.probabilities or request.confidence):
        raise RssegError(
            f"--probabilities and --confidence name one file, and there are {len(groups)} maps to write",
            "map the scenes one by one, join them with --mosaic, or map the place of a series: --series place",
        )
    targets = iter(label_paths(groups, request.output))
    jobs = []
    for each in asked:
        own = [next(targets) for _ in _groups(each, request.settings.series)]
        with _spared(on_error):
            jobs.append(_job(request, each, own, card))
    _refuse_inputs(jobs)
    return jobs


def _asked(request: Request, on_error: OnError | None) -> Iterator[Asked]:
    """What is to be mapped; only a search for series opens files at once."""
    if request.settings.series is None:
        names = list_scenes(request.scenes)
        yield from [names] if request.mosaic else [[name] for name in names]
        return
    if request.mosaic:
        raise RssegError("--mosaic and --series do not go together", "pieces of one date are joined in any case")
    for group in groups_of(request.scenes):
        with _spared(on_error):
            yield from _with_series(find_series(group, request.bands, request.alpha), group)


def _with_series(found: list[Series | Scene], group: list[str]) -> list[Series | Scene]:
    """What was found, if a series is among it; what is none is mapped by itself."""
    alone = [each.path for each in found if isinstance(each, Scene)]
    if len(alone) == len(found):
        raise RssegError(
            f"{', '.join(group)}: no two dates of one place among {len(found)} scenes",
            "leave --series away; or check with `rsseg info` that the scenes have dates and overlap",
            file=group[0],
        )
    if alone:
        logger.info("mapped by themselves, with no other date of their place: %s", ", ".join(alone))
    return found


def _groups(asked: Asked, series: SeriesAs | None) -> list[list[str]]:
    """The names of which each map of it is called after."""
    if isinstance(asked, Scene):
        return [[asked.path]]
    if not isinstance(asked, Series):
        return [list(asked)]
    return [[asked.path]] if series == "place" else [[scene.path] for scene in asked.scenes]


def _job(request: Request, asked: Asked, targets: Sequence[Path], card: Mapping[str, Any]) -> Job:
    scene = asked if isinstance(asked, Scene | Series) else open_mosaic(asked, request.alpha).select(request.bands)
    if isinstance(scene, Series):
        scene = scene.each(lambda date: _fitted(date, card, request.settings))
    else:
        scene = _fitted(scene, card, request.settings)
    # All dates of a series lie on its grid.
    first = scene.scenes[0] if isinstance(scene, Series) else scene
    area = open_area(request.aoi, first) if request.aoi is not None else None
    for target in targets:
        if target != request.output:
            target.parent.mkdir(parents=True, exist_ok=True)
    more = (request.probabilities, request.confidence, request.overwrite, request.creation_options)
    maps = tuple(Outputs(target, *more) for target in targets)
    for outputs in maps:
        outputs.check(scene.files)
    return Job(scene, maps, area)


def _fitted(scene: Scene, card: Mapping[str, Any], settings: Settings) -> Scene:
    """The scene as the model needs it."""
    scene = with_bands(scene, tuple(card["architecture"]["bands"]))
    _refuse_other_scale(scene, settings.gsd_m or card["gsd_m"])
    return scene


def _refuse_inputs(jobs: Sequence[Job]) -> None:
    """One scene's map must not replace another scene."""
    inputs = {Path(file).resolve() for job in jobs for file in job.scene.files if is_local(file)}
    for path in (path for job in jobs for outputs in job.maps for path in outputs.paths):
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
    # Windows and macOS take names for the same that differ in capitals alone.
    shared = Counter(stem.casefold() for stem in stems)
    names: dict[str, str] = {}
    for files, stem in zip(groups, stems, strict=True):
        parent = Path(files[0]).parent.name
        wanted = f"{parent}_{stem}" if shared[stem.casefold()] > 1 and parent else stem
        numbered = (f"{wanted}_{number}" for number in count(2))
        name = next(name for name in chain([wanted], numbered) if name.casefold() not in names)
        names[name.casefold()] = name
    return [folder / f"{name}_labels.tif" for name in names.values()]


def _stem(files: Sequence[str]) -> str:
    first = files[0]
    if is_band_files(first):
        first = first.partition(",")[0].partition("=")[2].strip()
    path = Path(first)
    stem = path.resolve().name if path.is_dir() else path.stem or "map"
    return stem if len(files) == 1 else f"{stem}_mosaic"
