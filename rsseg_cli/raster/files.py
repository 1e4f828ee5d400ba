"""Files on this machine's disks: what can be read at all, and whether it is still what it was."""

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from rsseg_cli.errors import RssegError

# Programs that show a raster write statistics and overviews beside it; its pixels are the same.
BESIDE = (".aux.xml", ".ovr")
KINDS = {stat.S_ISFIFO: "a pipe", stat.S_ISCHR: "a device", stat.S_ISBLK: "a device", stat.S_ISSOCK: "a socket"}

Stamp = tuple[str, int, int, int]  # name, inode, size, time of the last change


def is_local(path: str) -> bool:
    """Whether a path names a file on this machine's disks, not GDAL's own kinds of names."""
    return not path.startswith(("/vsi", "<")) and not re.match(r"^[A-Za-z][A-Za-z0-9+.]+:", path)


def refuse_special(name: str, listed_by: str | None = None) -> None:
    """Whoever opens a pipe waits for ever, and a device has no end."""
    if not is_local(name) or "\0" in name:
        return
    try:
        mode = os.stat(name).st_mode  # noqa: PTH116 - a name may be any text
    except OSError:
        return  # opening it will say why
    kind = next((kind for is_one, kind in KINDS.items() if is_one(mode)), None)
    if kind is not None:
        whose = f"{name}:" if listed_by in (None, name) else f"{listed_by}: lists {name}, which"
        hint = "write what comes out of it to a file first"
        raise RssegError(f"{whose} is {kind} and no file", hint, file=listed_by or name)


def stamps_of(files: Iterable[str]) -> tuple[Stamp, ...]:
    """What tells whether files are still what they are now."""
    stamps = (_stamp(file) for file in files if is_local(file) and not file.endswith(BESIDE))
    return tuple(stamp for stamp in stamps if stamp is not None)


def refuse_changed(stamps: Iterable[Stamp]) -> None:
    """Half of one file and half of another make no result."""
    for stamp in stamps:
        if _stamp(stamp[0]) != stamp:
            raise RssegError(
                f"{stamp[0]}: was changed or removed while it was read",
                "wait until whatever writes it has finished, and run again",
                file=stamp[0],
            )


def _stamp(file: str) -> Stamp | None:
    try:
        found = Path(file).stat()
    except (OSError, ValueError):
        return None
    return file, found.st_ino, found.st_size, found.st_mtime_ns
