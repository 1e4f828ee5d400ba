"""ClassScheme: which classes there are, what they are called, and how labels on disk spell them."""

import colorsys
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsseg_cli.errors import RssegError

UNLABELLED = 255
# Distinct at a glance and for most colour-blind readers; after these, hues a golden angle apart.
PALETTE = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#edc948", "#b07aa1", "#9c755f", "#ff9da7", "#bab0ac")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelClass:
    """One class."""

    id: int  # in rsseg's own 8-bit maps, 0 to 254
    name: str
    color: str  # "#rrggbb"
    values: tuple[int, ...]  # what stands for it in the labels it came from, such as CORINE codes

    @property
    def rgb(self) -> tuple[int, int, int]:
        return int(self.color[1:3], 16), int(self.color[3:5], 16), int(self.color[5:7], 16)


@dataclass(frozen=True)
class ClassScheme:
    """Classes in the order of their ids."""

    classes: tuple[LabelClass, ...]

    def __post_init__(self) -> None:
        _check_count(len(self.classes))
        for what, keys in (("name", [_name(c) for c in self.classes]), ("id", [c.id for c in self.classes])):
            if len(set(keys)) < len(keys):
                raise ValueError(f"two classes share one {what}: {keys}")
        if any(not 0 <= c.id < UNLABELLED for c in self.classes):
            raise ValueError(f"class ids lie between 0 and {UNLABELLED - 1}: {[c.id for c in self.classes]}")

    @classmethod
    def of_values(
        cls,
        values: Iterable[int],
        names: Mapping[int, str] | None = None,
        colors: Mapping[int, str] | None = None,
    ) -> "ClassScheme":
        """A class for each value, and one for all values of a name."""
        names, colors = names or {}, colors or {}
        ordered = sorted({int(value) for value in values})
        return cls.of_names([(names.get(value) or str(value), (value,), colors.get(value)) for value in ordered])

    @classmethod
    def of_names(cls, named: Sequence[tuple[str, tuple[int, ...], str | None]]) -> "ClassScheme":
        """Classes as (name, values, colour); entries of one name, in capitals or not, are one class.

        The id is the first value where all values fit into 8 bits, else the place in the list. Classes that only have
        a name have no values: nothing says which number stands for them.
        """
        merged: dict[str, tuple[str, list[int], str | None]] = {}
        for name, values, color in named:
            first_name, known, first_color = merged.get(name.casefold(), (name, [], None))
            merged[name.casefold()] = (first_name, [*known, *values], first_color or color)
        _check_count(len(merged))
        _check_values_once(merged.values())
        keep = all(values and all(0 <= v < UNLABELLED for v in values) for _, values, _ in merged.values())
        classes = [
            LabelClass(values[0] if keep else at, name, color or default_color(at), tuple(values))
            for at, (name, values, color) in enumerate(merged.values())
        ]
        return cls(tuple(sorted(classes, key=lambda c: c.id)))

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(c.id for c in self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.classes)

    def named(self, text: str) -> tuple[LabelClass, ...]:
        """The class that has this name, in capitals or not; else those that have this number in their labels."""
        named = tuple(c for c in self.classes if _name(c) == text.casefold())
        return named or tuple(c for c in self.classes if text in map(str, c.values))

    @property
    def numbers(self) -> tuple[int, ...]:
        """What stands for each class on disk: its first value, or its id where those do not tell classes apart."""
        first = [c.values[0] if c.values else None for c in self.classes]
        return self.ids if None in first or len(set(first)) < len(first) else tuple(v for v in first if v is not None)

    @cached_property
    def _by_value(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        pairs = sorted((value, c.id) for c in self.classes for value in c.values)
        values, ids = zip(*pairs, strict=True) if pairs else ((), ())
        return np.array(values, np.int64), np.array(ids, np.uint8)

    def to_ids(self, values: NDArray[Any], missing: NDArray[np.bool_], path: str) -> NDArray[np.uint8]:
        """Labels as ids; `missing` becomes unlabelled, and a value of no class is an error that names it."""
        ids, foreign = self._look_up(values)
        foreign &= ~missing
        if foreign.any():
            self._refuse_foreign(values[foreign], path)
        ids[missing] = UNLABELLED
        return ids

    def _look_up(self, values: NDArray[Any]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """(ids, where a value is of no class)."""
        known, ids = self._by_value
        if values.dtype in (np.uint8, np.uint16):  # one table look-up, ten times quicker than searching
            table = np.full(np.iinfo(values.dtype).max + 1, UNLABELLED, np.uint8)
            fits = (known >= 0) & (known < len(table))
            table[known[fits]] = ids[fits]
            found = table[values]
            return found, found == UNLABELLED
        if not len(known):
            return np.full(values.shape, UNLABELLED, np.uint8), np.ones(values.shape, bool)
        at = np.searchsorted(known, values).clip(max=len(known) - 1)
        return ids[at], known[at] != values

    def _refuse_foreign(self, values: NDArray[Any], path: str) -> None:
        found, counts = np.unique(values, return_counts=True)
        listed = ", ".join(f"{v} ({n} pixels)" for v, n in list(zip(found.tolist(), counts.tolist(), strict=True))[:8])
        more = f" and {len(found) - 8} more" if len(found) > 8 else ""
        known = ", ".join(f"{'/'.join(map(str, c.values))} {c.name}" for c in self.classes)
        raise RssegError(
            f"{path}: holds values that are no class: {listed}{more}; the classes are {known}",
            "name them in a --classes file, or leave them out of the labels (nodata)",
            file=path,
        )

    def as_written(self) -> "ClassScheme":
        """The scheme of a map that holds the ids themselves, whatever the labels it was learned from held."""
        return ClassScheme(tuple(replace(c, values=(c.id,)) for c in self.classes))

    def to_json(self) -> list[dict[str, Any]]:
        return [{"id": c.id, "name": c.name, "color": c.color, "values": list(c.values)} for c in self.classes]

    @classmethod
    def from_json(cls, entries: Sequence[Mapping[str, Any]]) -> "ClassScheme":
        """What `to_json` gave; ValueError, KeyError or TypeError for anything else."""
        return cls(
            tuple(
                LabelClass(int(e["id"]), str(e["name"]), str(e["color"]), tuple(int(v) for v in e["values"]))
                for e in entries
            )
        )


def join(
    other: ClassScheme, scheme: ClassScheme, *, of_one_place: bool = True
) -> tuple[ClassScheme, NDArray[np.uint8]]:
    """(`scheme` with the classes that only `other` has, table from an id of `other` to its id there).

    Classes are the same if they share a name; where the two share no name at all, if they share a number. Two maps of
    one place with two numbered classes each, such as masks of 0 and 1 and of 1 and 2, are matched in order. Elsewhere
    other numbers are other classes.
    """
    known: dict[Any, int]
    if of_one_place and _are_masks_with_other_numbers(other, scheme):
        logger.info("%s and %s are matched in this order", _listed(other), _listed(scheme))
        keys: dict[int, str | int] = {c.id: place for place, c in enumerate(other.classes)}
        known = {place: c.id for place, c in enumerate(scheme.classes)}
    else:
        key = _common_key(other, scheme)
        keys = {c.id: key(c) for c in other.classes}
        known = {key(c): c.id for c in scheme.classes}
    table = np.full(256, UNLABELLED, np.uint8)
    added: list[LabelClass] = []
    for c in other.classes:
        if keys[c.id] not in known:
            _check_count(len(known) + 1)
            taken = set(known.values())
            known[keys[c.id]] = c.id if c.id not in taken else min(set(range(UNLABELLED)) - taken)
            color = _free_color(c.color, {c.color for c in (*scheme.classes, *added)})
            added.append(replace(c, id=known[keys[c.id]], name=_free_name(c.name, scheme), color=color))
        table[c.id] = known[keys[c.id]]
    return ClassScheme(tuple(sorted((*scheme.classes, *added), key=lambda c: c.id))), table


def _are_masks_with_other_numbers(other: ClassScheme, scheme: ClassScheme) -> bool:
    """No and yes as two numbers in a row, but not the same two."""
    both = (other, scheme)
    are_masks = all(len(s.classes) == 2 and s.names == (str(s.ids[0]), str(s.ids[0] + 1)) for s in both)
    return are_masks and other.names != scheme.names


def _common_key(other: ClassScheme, scheme: ClassScheme) -> Callable[[LabelClass], str | int]:
    """By name where any name is shared, else by number."""
    if {_name(c) for c in other.classes} & {_name(c) for c in scheme.classes}:
        return _name
    if not (other.classes and scheme.classes):
        return _name
    if not all(c.values for c in (*other.classes, *scheme.classes)):
        raise RssegError(
            f"classes cannot be matched: {_listed(other)} and {_listed(scheme)} share no name, and one has no numbers",
            "say which number is which class: --prediction-classes FILE (lines of value,name), or --classes FILE",
        )
    if {_first_value(c) for c in other.classes} & {_first_value(c) for c in scheme.classes}:
        logger.info("%s and %s share no name: classes are matched by number", _listed(other), _listed(scheme))
    return _first_value


def _free_name(name: str, scheme: ClassScheme) -> str:
    """A class that is new by its number may have another's name."""
    taken = {_name(c) for c in scheme.classes}
    return name if name.casefold() not in taken else f"{name} (other)"


def _free_color(color: str, taken: set[str]) -> str:
    """A colour that nobody chose gives way where another class has it."""
    if color not in PALETTE or color not in taken:
        return color
    return next(free for place in count() if (free := default_color(place)) not in taken)


def _name(c: LabelClass) -> str:
    return c.name.casefold()


def _first_value(c: LabelClass) -> int:
    return c.values[0]


def _listed(scheme: ClassScheme) -> str:
    return f"({', '.join(scheme.names[:6])})"


def default_color(position: int) -> str:
    if position < len(PALETTE):
        return PALETTE[position]
    r, g, b = colorsys.hls_to_rgb((position * 0.618034) % 1.0, 0.55, 0.5)
    return f"#{round(r * 255):02x}{round(g * 255):02x}{round(b * 255):02x}"


def _check_count(count: int) -> None:
    if count > UNLABELLED:
        raise RssegError(
            f"{count} classes are more than an 8-bit map holds ({UNLABELLED})",
            "merge classes in a --classes file; or is this an image rather than a label map?",
        )


def _check_values_once(merged: Iterable[tuple[str, list[int], str | None]]) -> None:
    owner: dict[int, str] = {}
    for name, values, _ in merged:
        for value in values:
            if owner.setdefault(value, name) != name:
                raise RssegError(f"value {value} belongs to two classes, {owner[value]} and {name}", "keep one of them")
