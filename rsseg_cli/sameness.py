"""Whether a run may go on where another stopped: only with the same inputs and options; and what differs, in words.

What a run is made from is a mapping of JSON: options by name, in groups or not, and `files` with a stamp of each. What
is not to be read by a person, such as a digest, is put into a list.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rsseg_cli.raster.files import stamps_of

FILES = "files"
MOST_NAMED = 6

Stamps = Mapping[str, list[int]]


def stamps(files: Iterable[str]) -> dict[str, list[int]]:
    """Size and time of the files on this machine: what tells that one was written anew, without reading it."""
    return {name: [size, changed] for name, _, size, changed in stamps_of(files)}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What is not the same, with what it was and is; empty if all is."""
    now = json.loads(json.dumps(now))
    found = [*_files(before.get(FILES, {}), now[FILES]), *_options(dict(_flat(before)), dict(_flat(now)))]
    more = [f"and {len(found) - MOST_NAMED} more"] if len(found) > MOST_NAMED else []
    return "; ".join(found[:MOST_NAMED] + more)


def _files(before: Stamps, now: Stamps) -> Iterator[str]:
    for name in {**now, **before}:
        if name not in now:
            yield f"{name} is not among the inputs any more"
        elif name not in before:
            yield f"{name} was not among the inputs"
        elif before[name] != now[name]:
            yield f"{name} has changed since"


def _options(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in {**now, **before}:
        was, is_now = before.get(name), now.get(name)
        if was != is_now and (isinstance(was, list) or isinstance(is_now, list)):
            yield f"{name} is another"
        elif was != is_now:
            yield f"{name} was {_said(was)}, is {_said(is_now)}"


def _flat(run: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in run.items():
        if isinstance(value, Mapping) and name != FILES:
            yield from _flat(value)
        elif name != FILES:
            yield name, value


def _said(value: Any) -> str:
    return "not given" if value is None else str(value)
