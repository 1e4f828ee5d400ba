"""Label maps that become one polygon layer: laid upon one another, their classes joined, merged and left out."""

import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window, intersect, intersection

from rsseg_cli.class_files import read_remap
from rsseg_cli.classes import UNLABELLED, ClassScheme, LabelClass, join
from rsseg_cli.errors import RssegError
from rsseg_cli.labels import is_vector
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.labels import NO_AND_YES, Labels, MappedIds, align_labels, open_label_raster
from rsseg_cli.raster.mosaic import joint_grid
from rsseg_cli.raster.sources import list_scenes

NO_MASK = 65_535

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Layer:
    """One mask among others."""

    labels: Labels  # on the pixels of its place, with the ids that the map of all masks has
    place: Window  # of that map

    def read(self, window: Window) -> tuple[NDArray[np.uint8], tuple[slice, slice]] | None:
        """(ids in a window of the map, where they lie in the window); None if the mask does not reach there."""
        if not intersect([self.place, window]):
            return None
        common = intersection([self.place, window])
        return self.labels.read(_seen_from(self.place, common)), _seen_from(window, common).toslices()


@dataclass(frozen=True)
class LayeredIds:
    """Masks upon one another, the last one on top; where it is unlabelled, those below show."""

    layers: tuple[Layer, ...]

    def read(self, window: Window) -> NDArray[np.uint8]:
        found = np.full((window.height, window.width), UNLABELLED, np.uint8)
        for _, ids, place in _parts(self.layers, window):
            np.copyto(found[place], ids, where=ids != UNLABELLED)
        return found


@dataclass(frozen=True)
class Origins:
    """Which mask each pixel comes from."""

    layers: tuple[Layer, ...]

    def read(self, window: Window) -> NDArray[np.uint16]:
        """Numbers of masks, in their order; NO_MASK where none has a label."""
        found = np.full((window.height, window.width), NO_MASK, np.uint16)
        for number, ids, place in _parts(self.layers, window):
            found[place][ids != UNLABELLED] = number
        return found


@dataclass(frozen=True)
class Masks:
    """One or several label maps, seen as one."""

    labels: Labels
    origins: Origins
    paths: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """File stems; where several files share one, with their folder, or else the whole path."""
        names = [Path(path).stem for path in self.paths]
        for longer in (lambda path: f"{Path(path).parent.name}/{Path(path).stem}", str):
            counts = Counter(names)
            names = [longer(path) if counts[name] > 1 else name for name, path in zip(names, self.paths, strict=True)]
        return tuple(names)


def _parts(layers: Sequence[Layer], window: Window) -> Iterator[tuple[int, NDArray[np.uint8], tuple[slice, slice]]]:
    """(number of the mask, its ids, where they lie) of the masks that reach into a window."""
    for number, layer in enumerate(layers):
        if (read := layer.read(window)) is not None:
            yield number, *read


def _seen_from(origin: Window, window: Window) -> Window:
    return Window(window.col_off - origin.col_off, window.row_off - origin.row_off, window.width, window.height)


def open_masks(texts: Sequence[str], classes: ClassScheme | None = None) -> Masks:
    """The masks that files, folders and patterns name, on the lattice of the first one.

    Only masks that reach into a window are read for it: memory stays flat, however many there are.
    """
    paths = tuple(list_scenes(texts))
    found = [_open(path, classes) for path in paths]
    if len(found) == 1:
        return Masks(found[0], Origins((Layer(found[0], found[0].grid.window),)), paths)
    _check(found)
    grid, places = joint_grid(paths, [labels.grid for labels in found])
    _say_what_moves(found, grid)
    scheme, tables = _joint_scheme(found)
    layers = tuple(
        Layer(_brought_onto(labels, grid.crop(place), scheme, table), place)
        for labels, place, table in zip(found, places, tables, strict=True)
    )
    name = f"{paths[0]} and {len(paths) - 1} more"
    return Masks(Labels(name, grid, scheme, LayeredIds(layers)), Origins(layers), paths)


def _open(path: str, classes: ClassScheme | None) -> Labels:
    try:
        return open_label_raster(path, classes)
    except RssegError as problem:
        if is_vector(path) and Path(path).exists():  # a GeoPackage may hold a raster too
            raise RssegError(
                f"{path}: is no label raster", "it may hold polygons already; name the raster they come from", file=path
            ) from problem
        raise


def _check(found: Sequence[Labels]) -> None:
    if len(found) >= NO_MASK:
        raise RssegError(
            f"{len(found)} masks are more than one layer is made of ({NO_MASK - 1})",
            "join some of them first: gdalbuildvrt part.vrt FILES",
        )
    if all(labels.grid.crs is None and labels.grid.transform.is_identity for labels in found):
        logger.warning(
            "%s and %d more have no place on the Earth: all of them begin at 0, 0 and lie upon one another",
            found[0].path,
            len(found) - 1,
        )
    _refuse_two_meanings(found)


def _refuse_two_meanings(found: Sequence[Labels]) -> None:
    """Alone, a mask of 0 and 255 says no and yes. Beside masks of other numbers, 255 may as well mean nothing."""
    yes = [labels for labels in found if labels.scheme == NO_AND_YES]
    for labels in found if yes else ():
        values = {value for c in labels.scheme.classes for value in c.values}
        if not values <= {0, UNLABELLED}:
            raise RssegError(
                f"{yes[0].path}: holds 0 and 255 alone, and {labels.path} other numbers: is 255 a class, or no label?",
                "say it with --classes FILE, a line each: value,name (255 is no label where it is not among them)",
                file=yes[0].path,
            )


def _say_what_moves(found: Sequence[Labels], grid: Grid) -> None:
    moved = [labels.path for labels in found if grid.offset_of(labels.grid) is None]
    if moved:
        logger.info(
            "%s%s: on other pixels than %s, and brought onto them by nearest neighbour (the mask that is named first "
            "gives the pixels)",
            moved[0],
            f" and {len(moved) - 1} more" if len(moved) > 1 else "",
            found[0].path,
        )


def _joint_scheme(found: Sequence[Labels]) -> tuple[ClassScheme, list[NDArray[np.uint8]]]:
    """(the classes of all masks, for each mask the table from its ids to theirs)."""
    scheme = ClassScheme(())
    tables = []
    for labels in found:
        try:
            scheme, table = join(labels.scheme, scheme, of_one_place=False)
        except RssegError as problem:
            raise RssegError(f"{labels.path}: {problem.problem}", problem.hint, file=labels.path) from problem
        tables.append(table)
    return scheme, tables


def _brought_onto(labels: Labels, grid: Grid, scheme: ClassScheme, table: NDArray[np.uint8]) -> Labels:
    placed = labels if labels.grid.offset_of(grid) is not None else align_labels(labels, grid)
    return replace(placed, scheme=scheme, source=MappedIds(placed.source, table))


def remap(labels: Labels, path: str) -> Labels:
    """The labels with classes merged, renamed or left out as the lines of a CSV say."""
    names, colors = _wishes(labels, path)
    merged: dict[str, list[LabelClass]] = {}
    for c in labels.scheme.classes:
        if name := names.get(c.id, c.name):
            merged.setdefault(name.casefold(), []).append(c)
    table = np.full(256, UNLABELLED, np.uint8)
    classes = []
    for key, members in merged.items():
        kept = next((c for c in members if c.name.casefold() == key), members[0])
        name = names.get(kept.id) or kept.name
        values = (int(name),) if re.fullmatch(r"-?\d+", name) else tuple(v for c in members for v in c.values)
        classes.append(LabelClass(members[0].id, name, colors.get(key) or kept.color, values))
        table[[c.id for c in members]] = members[0].id
    return replace(labels, scheme=ClassScheme(tuple(classes)), source=MappedIds(labels.source, table))


def _wishes(labels: Labels, path: str) -> tuple[dict[int, str], dict[str, str]]:
    """(name that each class of some id shall have, or none; colours by names in small letters)."""
    names: dict[int, str] = {}
    spelled: dict[str, str] = {}
    colors: dict[str, str] = {}
    for wanted, to, color in read_remap(path):
        c = _class_of(labels, wanted, path)
        if c.id in names:
            raise RssegError(f"{path}: two lines say what {c.name} becomes", "keep one of them", file=path)
        known = labels.scheme.named(to)
        name = known[0].name if len(known) == 1 else to
        names[c.id] = spelled.setdefault(name.casefold(), name)
        if color:
            colors.setdefault(name.casefold(), color)
    return names, colors


def choose(labels: Labels, names: Sequence[str], option: str) -> frozenset[int]:
    """The ids of the classes that an option names, or gives the numbers of."""
    return frozenset(_class_of(labels, name.strip(), option).id for name in names)


def _class_of(labels: Labels, text: str, asked_by: str) -> LabelClass:
    found = labels.scheme.named(text)
    if len(found) == 1:
        return found[0]
    if found:
        raise RssegError(
            f"{asked_by}: {text} is the number of several classes: {', '.join(c.name for c in found)}",
            "say the name instead",
            file=labels.path,
        )
    raise RssegError(
        f"{asked_by}: {text} is no class of {labels.path}",
        f"the classes are: {', '.join(_spelled(c) for c in labels.scheme.classes) or 'none'}",
        file=labels.path,
    )


def _spelled(c: LabelClass) -> str:
    """Its numbers and its name, as far as that is not one of them."""
    numbers = [str(value) for value in c.values]
    return "/".join(numbers) if c.name in numbers else " ".join(["/".join(numbers), c.name]).strip()
