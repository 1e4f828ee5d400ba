"""What a person's folders hold: scenes, and the labels that belong to them."""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from rsseg_cli.classes import UNLABELLED, ClassScheme, join
from rsseg_cli.errors import RssegError
from rsseg_cli.labels import PolygonOptions, is_vector, open_labels
from rsseg_cli.raster.bands import matched, shared_names
from rsseg_cli.raster.labels import Ids, Labels, align_labels
from rsseg_cli.raster.scene import Scene
from rsseg_cli.raster.sources import RASTER_SUFFIXES, is_label_name, list_scenes, open_scene

# Folders that lie side by side, images and labels of the same stems.
PAIRED_FOLDERS = (("images", "labels"), ("image", "label"), ("images", "masks"), ("img_dir", "ann_dir"))
LABEL_ENDING = re.compile(r"[_-](labels?|masks?|gt)$", re.IGNORECASE)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Labelled:
    """A scene, and labels on its grid."""

    scene: Scene
    labels: Labels
    source: str  # the folder, or what else the person gave, that it was found in


@dataclass(frozen=True)
class LabelOptions:
    """What the person says about labels."""

    file: str | None = None  # one label file for all scenes, FILE[:LAYER]
    classes: ClassScheme | None = None
    polygons: PolygonOptions | None = None


def find_labelled(folders: Sequence[str], options: LabelOptions, bands: str | None = None) -> list[Labelled]:
    """Every scene of the folders that has labels, all with the first one's bands and under one class scheme."""
    pairs, without = _labelled(folders, options, bands)
    for problem in without:
        logger.warning("left out: %s", problem.problem)
    return pairs


def _labelled(
    folders: Sequence[str], options: LabelOptions, bands: str | None
) -> tuple[list[Labelled], list[RssegError]]:
    """Scenes with labels; and why others have none."""
    named = [(folder, *pair) for folder in folders for pair in _pairs(folder, options)]
    pairs, without = _opened(named, options, bands)
    first = pairs[0].scene
    pairs = [replace(pair, scene=match_bands(pair.scene, first.names, first.path)) for pair in pairs]
    return _under_one_scheme(pairs), without


def find_scenes(folders: Sequence[str], bands: str | None = None) -> list[Scene]:
    """Every raster of the folders that is no label map."""
    names = [name for folder in folders for name in _images(folder)]
    return [open_scene(name, bands) for name in names]


def find_given(
    folders: Sequence[str], options: LabelOptions, bands: str | None, scheme: ClassScheme
) -> dict[str, Labels]:
    """Labels of a target, by the path of their scene; their ids are places among the source's classes."""
    (found, without), file = _labelled(folders, options, bands), options.file
    if without:
        logger.info("%s: labels something in %d of %d target scenes", file, len(found), len(found) + len(without))
    theirs = found[0].labels.scheme
    joined, table = join(theirs, scheme)
    if unknown := [name for name in joined.names if name not in scheme.names]:
        raise RssegError(
            f"{file}: labels {', '.join(unknown)}, which the source does not; it has {', '.join(scheme.names)}",
            "name classes as the source does (--classes FILE merges and renames), or label some in the source too",
            file=file,
        )
    places = positions(scheme)[table]
    return {pair.scene.path: replace(pair.labels, source=_Renumbered(pair.labels.source, places)) for pair in found}


def match_bands(
    scene: Scene, wanted: tuple[str, ...], whose: str, options: Sequence[str] = ("--source-bands",)
) -> Scene:
    """The scene with the bands wanted: by name, or by order where as many bands have no name in common."""
    found = matched(scene, wanted, f"{', '.join(wanted)} of {whose}")
    if found is not None:
        return found
    raise RssegError(
        f"{scene.path} has {len(scene.bands)} bands: {', '.join(scene.names)}; "
        f"{whose} has {len(wanted)}: {', '.join(wanted)}",
        _band_hint(shared_names(scene, wanted), wanted, options),
        file=scene.path,
    )


def _band_hint(shared: Sequence[str], wanted: Sequence[str], options: Sequence[str]) -> str:
    if shared:
        return "take the bands both have: " + " ".join(f"{option} {','.join(shared)}" for option in options)
    if all(name.isdigit() for name in wanted):
        return "say which are which, for example: " + " ".join(f"{option} red=3,green=2" for option in options)
    numbered = ",".join(f"{name}={number}" for number, name in enumerate(wanted, 1))
    return f"say which are which: {options[-1]} {numbered}"


def _images(folder: str) -> list[str]:
    """Rasters of a folder, of its `images` folder if it has one; or what a pattern or name gives."""
    if not Path(folder).is_dir():
        return list_scenes([folder])
    inner = (Path(folder) / images for images, _ in PAIRED_FOLDERS)
    names = list_scenes([str(next((path for path in inner if path.is_dir()), folder))])
    found = [name for name in names if not is_label_name(name)]
    if not found:
        raise RssegError(
            f"{folder}: by their names, the {len(names)} rasters in it are labels",
            "put the images beside them: town.tif beside town_labels.tif",
            file=folder,
        )
    return found


def _pairs(folder: str, options: LabelOptions) -> list[tuple[str, str]]:
    images = _images(folder)
    if options.file is not None:
        return [(image, options.file) for image in images]
    found = [(image, label) for image in images if (label := _label_of(image))]
    if not found:
        raise _no_labels(folder, images)
    if without := [Path(image).name for image in images if image not in dict(found)]:
        logger.info("%s: no labels for %s; left out", folder, ", ".join(without[:5]))
    return found


def _no_labels(folder: str, images: Sequence[str]) -> RssegError:
    open_scene(images[0])  # what is not there at all is the better complaint
    vectors = sorted({str(vector) for image in images for vector in _vectors_beside(Path(image))})
    if vectors:
        return RssegError(
            f"{folder}: holds {len(vectors)} vector files, and none says by its name that it is the labels",
            f"name the one with the labels, for example --labels {vectors[0]}",
            file=folder,
        )
    return RssegError(
        f"{folder}: holds {len(images)} images and no labels for them",
        "put labels beside them (town_labels.tif or town_labels.gpkg beside town.tif, or images/ and labels/ with "
        "the same names), or name them with --labels FILE",
        file=folder,
    )


def _label_of(image: str) -> str | None:
    """The label file that belongs to an image, by its name and place."""
    path = Path(image)
    for images, labels in PAIRED_FOLDERS:
        if path.parent.name == images and (beside := path.parent.parent / labels).is_dir():
            return _named(beside, lambda stem: stem == path.stem)
    own = _named(path.parent, lambda stem: LABEL_ENDING.sub("", stem) == path.stem and stem != path.stem)
    if own:
        return own
    vectors = _vectors_beside(path)
    return str(vectors[0]) if len(vectors) == 1 else None


def _vectors_beside(image: Path) -> list[Path]:
    """Vector files that may be the labels of a whole folder; one named after an image is that image's."""
    if not image.parent.is_dir():
        return []
    return [p for p in image.parent.iterdir() if is_vector(str(p)) and not LABEL_ENDING.search(p.stem)]


def _named(folder: Path, fits: Callable[[str], bool]) -> str | None:
    if not folder.is_dir():
        return None
    usable = (p for p in sorted(folder.iterdir()) if p.suffix.lower() in RASTER_SUFFIXES or is_vector(str(p)))
    return next((str(p) for p in usable if fits(p.stem)), None)


def _opened(
    named: Sequence[tuple[str, str, str]], options: LabelOptions, bands: str | None
) -> tuple[list[Labelled], list[RssegError]]:
    """Scenes and labels; of several scenes with one label file, why it says nothing about the others."""
    pairs: list[Labelled] = []
    problems: list[RssegError] = []
    labels = [label for _, _, label in named]
    for folder, image, label in named:
        try:
            pairs.append(_open_pair(folder, image, label, options, bands))
        except RssegError as error:
            if labels.count(label) == 1:
                raise
            problems.append(error)
    if not pairs:
        raise problems[0]
    return pairs, problems


def _open_pair(folder: str, image: str, label: str, options: LabelOptions, bands: str | None) -> Labelled:
    scene = open_scene(image, bands)
    labels = open_labels(label, scene.grid, options.classes, options.polygons if is_vector(label) else None)
    if labels.grid != scene.grid and scene.grid.crs is None and labels.grid.crs is None:
        _refuse_other_size(scene, labels)
    return Labelled(scene, align_labels(labels, scene.grid), folder)


def _refuse_other_size(scene: Scene, labels: Labels) -> None:
    if labels.grid.shape != scene.grid.shape:
        raise RssegError(
            f"{labels.path}: is {labels.grid.width} x {labels.grid.height} pixels, its image "
            f"{scene.path} {scene.grid.width} x {scene.grid.height}",
            "without a coordinate system both must have the same size",
            file=labels.path,
        )


def _under_one_scheme(pairs: list[Labelled]) -> list[Labelled]:
    """The labels of all files with one set of ids."""
    scheme = pairs[0].labels.scheme
    for pair in pairs[1:]:
        scheme, _ = join(pair.labels.scheme, scheme)
    joined = []
    for pair in pairs:
        _, table = join(pair.labels.scheme, scheme)
        joined.append(
            replace(pair, labels=replace(pair.labels, scheme=scheme, source=_Renumbered(pair.labels.source, table)))
        )
    return joined


@dataclass(frozen=True, eq=False)
class _Renumbered:
    """Labels under the ids of another scheme."""

    source: Ids
    table: NDArray[np.uint8]  # 256 entries

    def read(self, window: Window) -> NDArray[np.uint8]:
        return self.table[self.source.read(window)]


def positions(scheme: ClassScheme) -> NDArray[np.uint8]:
    """Table from class id to its place among the network's outputs; unlabelled stays unlabelled."""
    table = np.full(256, UNLABELLED, np.uint8)
    for place, c in enumerate(scheme.classes):
        table[c.id] = place
    return table
