"""Settings by name: from a file, from --set, from options; each of the type of its field."""

import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from rsseg_cli.errors import RssegError

Settings = TypeVar("Settings")
# What of a value's type is said to a person.
KINDS = {float: "a number", int: "a whole number", bool: "true or false", str: "a text"}


def gather(file: Path | None, pairs: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """All that was set; --set wins over the file, an option of its own over both."""
    given = {name: value for name, value in options.items() if value is not None}
    return (read_settings(file) if file else {}) | parse_settings(pairs) | given


def read_settings(path: Path) -> dict[str, Any]:
    """Lines of `name = value` (TOML), or what `rsseg adapt --json` printed."""
    if not path.is_file():
        raise _refusal(path, "no such file", "check the name")
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as problem:
        raise _refusal(path, f"cannot be read: {problem}", "write a line each: learning_rate = 0.001") from problem
    found = found.get("settings", found) if isinstance(found, dict) else found
    if not isinstance(found, dict):
        raise _refusal(path, "holds no settings", "write a line each: learning_rate = 0.001")
    return _flat(found)


def _flat(found: Mapping[str, Any]) -> dict[str, Any]:
    """TOML takes `source.steps` for a table with steps in it; names are texts here."""
    flat: dict[str, Any] = {}
    for name, value in found.items():
        flat |= {f"{name}.{inner}": v for inner, v in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def parse_settings(pairs: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE` pairs of --set."""
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise RssegError(f"--set {pair}: not of the form NAME=VALUE", "for example --set learning_rate=0.0005")
        found[name.strip()] = value.strip()
    return found


def fill(kind: type[Settings], given: Mapping[str, Any]) -> Settings:
    """The dataclass with what is given of its fields."""
    types = types_of(kind)
    return kind(**{name: convert(name, value, types[name]) for name, value in given.items() if name in types})


def fill_known(kind: type[Settings], given: Mapping[str, Any], others: Sequence[str]) -> Settings:
    """The same, for what is left when others have taken theirs: a name that is not of this dataclass is an error."""
    if unknown := [name for name in given if name not in types_of(kind)]:
        raise RssegError(
            f"there is no such setting: {', '.join(unknown)}", f"there are: {', '.join([*types_of(kind), *others])}"
        )
    return fill(kind, given)


def types_of(kind: type[Any]) -> dict[str, type[Any]]:
    """The fields of a dataclass, all of which have a default, and what they hold."""
    return {field.name: type(field.default) for field in fields(kind)}


def convert(name: str, value: Any, kind: type[Any]) -> Any:
    """A text or a TOML value as what the setting holds."""
    words = {"true": True, "false": False}
    found = value
    if isinstance(value, str) and kind is not str:
        found = words.get(value.casefold()) if kind is bool else _number(value)
    if kind is float and type(found) is int:
        found = float(found)
    if kind is int and type(found) is float and found.is_integer():
        found = int(found)
    if type(found) is not kind or (kind is float and not math.isfinite(found)):
        raise RssegError(f"{name} = {value}: not {KINDS[kind]}", f"give {KINDS[kind]}")
    return found


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def toml_of(settings: Mapping[str, Any]) -> list[str]:
    """Lines that --settings reads again."""
    # For numbers, texts and booleans, JSON is TOML.
    return [f"{name} = {json.dumps(value)}" for name, value in settings.items()]


def _refusal(path: Path, problem: str, hint: str) -> RssegError:
    return RssegError(f"{path}: {problem}", hint, file=str(path))
