"""ClassScheme: which classes there are, what they are called, and how labels on disk spell them."""

import colorsys
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
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

    @classmethod
    def of_values(
        cls,
        values: Iterable[int],
        names: Mapping[int, str] | None = None,
        colors: Mapping[int, str] | None = None,
    ) -> "ClassScheme":
        """One class a value. Values keep their number as id where all of them fit into 8 bits."""
        ordered = sorted({int(value) for value in values})
        names, colors = names or {}, colors or {}
        ids = ordered if all(0 <= v < UNLABELLED for v in ordered) else list(range(len(ordered)))
        _check_count(len(ordered))
        return cls(
            tuple(
                LabelClass(id_, names.get(value) or str(value), colors.get(value) or default_color(at), (value,))
                for at, (id_, value) in enumerate(zip(ids, ordered, strict=True))
            )
        )

    @classmethod
    def of_names(cls, named: Sequence[tuple[str, tuple[int, ...], str | None]]) -> "ClassScheme":
        """Classes as (name, values, colour); entries of one name are one class."""
        merged: dict[str, tuple[list[int], str | None]] = {}
        for name, values, color in named:
            known, first_color = merged.get(name, ([], None))
            merged[name] = ([*known, *values], first_color or color)
        _check_count(len(merged))
        _check_values_once(merged)
        single = [values[0] for values, _ in merged.values() if len(values) == 1]
        keep = len(single) == len(merged) and all(0 <= v < UNLABELLED for v in single)
        classes = [
            LabelClass(values[0] if keep else at, name, color or default_color(at), tuple(values))
            for at, (name, (values, color)) in enumerate(merged.items())
        ]
        return cls(tuple(sorted(classes, key=lambda c: c.id)))

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(c.id for c in self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.classes)

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

    def to_values(self, ids: NDArray[np.uint8], unlabelled: int) -> NDArray[np.int64]:
        """Ids back to the values they came from; merged classes give their first value."""
        table = np.full(256, unlabelled, np.int64)
        for c in self.classes:
            table[c.id] = c.values[0]
        return table[ids]

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

    def to_json(self) -> list[dict[str, Any]]:
        return [{"id": c.id, "name": c.name, "color": c.color, "values": list(c.values)} for c in self.classes]

    @classmethod
    def from_json(cls, entries: Sequence[Mapping[str, Any]]) -> "ClassScheme":
        return cls(
            tuple(
                LabelClass(int(e["id"]), str(e["name"]), str(e["color"]), tuple(int(v) for v in e["values"]))
                for e in entries
            )
        )


def join(other: ClassScheme, scheme: ClassScheme) -> tuple[ClassScheme, NDArray[np.uint8]]:
    """(`scheme` with the classes that only `other` has, table from an id of `other` to its id there).

    Classes are the same if they share a name; where the two share no name at all, if they share a number.
    """
    by_name = bool({_name(c) for c in other.classes} & {_name(c) for c in scheme.classes})
    if not by_name and other.classes and scheme.classes:
        logger.info("%s and %s share no name: classes are matched by number", _listed(other), _listed(scheme))
    key = _name if by_name else _first_value
    known = {key(c): c.id for c in scheme.classes}
    table = np.full(256, UNLABELLED, np.uint8)
    added = []
    for c in other.classes:
        if key(c) not in known:
            taken = set(known.values())
            known[key(c)] = c.id if c.id not in taken else min(set(range(UNLABELLED)) - taken)
            added.append(replace(c, id=known[key(c)]))
        table[c.id] = known[key(c)]
    return ClassScheme(tuple(sorted((*scheme.classes, *added), key=lambda c: c.id))), table


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


def _check_values_once(merged: Mapping[str, tuple[list[int], str | None]]) -> None:
    owner: dict[int, str] = {}
    for name, (values, _) in merged.items():
        for value in values:
            if owner.setdefault(value, name) != name:
                raise RssegError(f"value {value} belongs to two classes, {owner[value]} and {name}", "keep one of them")
