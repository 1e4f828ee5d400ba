"""The one way an output reaches its final name.

GDAL, as rasterio drives it, may lose data without raising anything: when the disk fills while a file is closed,
or while several threads compress. And a killed process leaves files that open without complaint. So every writer
works in a hidden folder beside the output, closes and verifies there, and only then is the file renamed.
Under the final name there is the old file, nothing, or the complete new one.
"""

import errno
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from rsseg_cli.errors import RssegError

WINDOWS = os.name == "nt"
LOCK = "lock"
# GDAL keeps statistics, overviews and masks under these names, and a CRS that GeoTIFF has no words for.
GDAL_SUFFIXES = (".aux.xml", ".ovr", ".msk")
# A database that somebody has open; replacing it then corrupts it for both.
OPEN_DATABASE = ("-wal", "-shm", "-journal")
# Left free beside the output: a full disk hurts more than rsseg.
HEADROOM_BYTES = 1 << 20
# File systems allow 255; GDAL, SQLite and rsseg append to the name while they write.
NAME_BYTES = 200
REASON_CHARACTERS = 200
UNREADABLE = "not recognized as being in a supported file format"  # GDAL, of a file that lost its beginning
# Error numbers of file systems that lack what was asked for, rather than fail at it.
LACKING = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)

logger = logging.getLogger(__name__)


@dataclass
class _Look:
    """At what was written: raises if it is not right, and knows how long looking took.

    What is the very file that was found right, and untouched since, is right under another name too.
    """

    verify: Callable[[Path], None]
    seconds: float = 0.0
    right: tuple[int, ...] = ()

    def __call__(self, finished: Path) -> None:
        began, found = time.perf_counter(), finished.stat()
        identity = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
        if identity != self.right:
            self.verify(finished)
            self.right = identity
        self.seconds += time.perf_counter() - began


@contextmanager
def deliver(
    target: Path,
    verify: Callable[[Path], None],
    *,
    overwrite: bool = False,
    inputs: Iterable[str] = (),
    sidecars: Sequence[Path] = (),
    expected_bytes: int = 0,
) -> Iterator[Path]:
    """A folder to write `target.name` and its sidecars into; all of it moves into place when the block ends well."""
    inputs, look = list(inputs), _Look(verify)
    check_target(target, overwrite=overwrite, inputs=inputs, sidecars=sidecars)
    with _staging_folder(target) as staging:
        # Again, now that no other run can be writing: one may have ended a moment ago.
        check_target(target, overwrite=overwrite, inputs=inputs, sidecars=sidecars)
        with system_errors(target):
            _reserve(staging, expected_bytes)
        yield staging
        with system_errors(target):
            look(staging / target.name)
            _move(staging, target, sidecars, look)
    logger.debug("verified %s in %.3f s", target, look.seconds)


def check_target(
    target: Path, *, overwrite: bool = False, inputs: Iterable[str] = (), sidecars: Sequence[Path] = ()
) -> None:
    """Refuses, before any work, what could not be delivered or would destroy something."""
    for path in (target, *sidecars):
        _check_name(path)
        if path.is_dir():
            raise _refusal(path, "is a folder", f"name the output file: -o {path / 'NAME'}{target.suffix}")
    if not target.parent.is_dir():
        make = "mkdir" if WINDOWS else "mkdir -p"
        raise _refusal(target, f"there is no folder {target.parent}", f"make it first: {make} {target.parent}")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise _refusal(target, f"no right to write into {target.parent}", "choose another folder")
    for name in inputs:
        if _same_file(target, name):
            raise _refusal(target, f"is also an input ({name})", "choose another name for the output")
    for existing in (path for path in (target, *sidecars) if os.path.lexists(path)):
        if not overwrite:
            raise _refusal(existing, "exists already", "choose another name, or replace it with --overwrite")
    _refuse_open((target, *sidecars))


def _check_name(path: Path) -> None:
    try:
        too_long = len(path.name.encode()) > NAME_BYTES
        path.is_dir()
    except UnicodeError as problem:
        raise _refusal(path, "the name is not valid UTF-8, which GDAL wants", "choose another name") from problem
    except OSError as problem:
        raise _refusal(path, f"cannot be written: {problem.strerror}", "choose another name") from problem
    if too_long:
        raise _refusal(path, "the name is too long", f"choose one of at most {NAME_BYTES} bytes")


def _staging_path(target: Path) -> Path:
    return target.with_name(f".{target.name}.rsseg")


@contextmanager
def _staging_folder(target: Path) -> Iterator[Path]:
    """A hidden folder beside the target, ours alone; what a killed run left in it is thrown away."""
    folder = _staging_path(target)
    with system_errors(target):
        lock = _lock(folder, target)
    try:
        with system_errors(target):
            _empty(folder, keep=LOCK)
        yield folder
    finally:
        # Gone before the lock is released: a run that waits at the door finds no folder, and makes its own.
        discard(folder)
        with suppress(OSError):  # all is delivered or not by now, whatever closing the lock says
            lock.release()
        if WINDOWS:  # where the lock could not be deleted while it was held
            with suppress(OSError):
                folder.rmdir()


def _lock(folder: Path, target: Path) -> FileLock:
    if folder.is_symlink():
        raise _refusal(target, f"{folder.name} beside it is a link", "remove it: rsseg empties the folder of that name")
    folder.mkdir(exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except (Timeout, FileNotFoundError) as held:  # not found: the other run ended, and its folder went, just now
        raise _refusal(
            target, "another rsseg run is writing it", "wait until that run has ended, or choose another name"
        ) from held
    except OSError:
        with suppress(OSError):
            folder.rmdir()
        raise
    return lock


def discard(folder: Path) -> None:
    """Takes a folder away as far as the system lets; what is left, the next run takes."""
    with suppress(OSError):  # when closing a folder fails, rmtree raises whatever it was told to ignore
        shutil.rmtree(folder, ignore_errors=True)


def _empty(folder: Path, keep: str) -> None:
    for leftover in folder.iterdir():
        if leftover.name != keep:
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def _reserve(folder: Path, expected_bytes: int) -> None:
    """Raises now, not after hours, if the space is not there; the space itself is given back at once."""
    if expected_bytes <= 0:
        return
    free = shutil.disk_usage(folder).free
    if free < expected_bytes + HEADROOM_BYTES:
        raise OSError(errno.ENOSPC, f"about {_mib(expected_bytes)} needed, {_mib(free)} free")
    if not hasattr(os, "posix_fallocate"):
        return
    trial = folder / "reservation"
    with trial.open("wb") as file:
        try:
            # Quotas and size limits do not show in what the disk has free.
            os.posix_fallocate(file.fileno(), 0, expected_bytes)
        except OSError as problem:
            if problem.errno not in LACKING:
                raise
    trial.unlink()


def failure(target: Path, problem: BaseException) -> RssegError:
    """What the system, GDAL or SQLite said while writing, with the output's name and what to do about it."""
    cause = problem
    while cause.__cause__ is not None:  # GDAL's first message; rasterio's own often refers to "previous exception"
        cause = cause.__cause__
    text = (cause.strerror if isinstance(cause, OSError) else None) or str(cause) or type(cause).__name__
    text = " ".join(text.replace(f"{_staging_path(target)}{os.sep}", "").split())
    text = text.rpartition(") failed: ")[2]  # SQLite repeats the whole statement before it says what went wrong
    if UNREADABLE in text:
        text = "what was written cannot be read again"
    if len(text) > REASON_CHARACTERS:
        text = f"... {text[-REASON_CHARACTERS:]}"
    full = re.search(r"no space|disk is full|quota|too large|needed", text, re.IGNORECASE) is not None
    with suppress(OSError):  # GDAL often says no more than "write error"
        full = full or shutil.disk_usage(target.parent).free < HEADROOM_BYTES
    advice = "free some space" if full else "see whether the disk has space, and takes files as large"
    return RssegError(
        f"{target}: could not be written: {text}",
        f"{advice}, or choose another folder; nothing was left half-written",
        file=str(target),
        kind="space" if full else "output",
    )


@contextmanager
def system_errors(target: Path) -> Iterator[None]:
    """What the system says of writing, as an error that names the output."""
    try:
        yield
    except OSError as problem:
        raise failure(target, problem) from problem


def _move(staging: Path, target: Path, sidecars: Sequence[Path], look: _Look) -> None:
    """Everything into place, the main file last; each name changes in one step."""
    beside = [*sidecars, *(target.with_name(target.name + suffix) for suffix in GDAL_SUFFIXES)]
    for path in (*beside, target):
        if (staging / path.name).exists():
            flush(staging / path.name)
    _refuse_open((target, *beside))
    with _put_back(staging, (*beside, target)):
        for path in beside:
            # What belonged to the old file goes first: a stale .aux.xml can move the new one elsewhere on Earth.
            if (staging / path.name).exists():
                (staging / path.name).replace(path)
            else:
                path.unlink(missing_ok=True)
        (staging / target.name).replace(target)
        look(target)
        _refuse_open_database(target)  # whoever opened the old one meanwhile would mix it with the new one
        if os.name == "posix":
            _flush_folder(target.parent)


@contextmanager
def _put_back(staging: Path, paths: Sequence[Path]) -> Iterator[None]:
    """If something goes wrong in the block, what was under the names before comes back."""
    new = [path for path in paths if (staging / path.name).exists()]
    for path in filter(os.path.lexists, paths):
        with suppress(OSError):  # a file system without hard links
            os.link(path, _before(staging, path))
    try:
        yield
    except BaseException:
        for path in paths:
            if _before(staging, path).exists():
                _before(staging, path).replace(path)
            elif path in new and not (staging / path.name).exists():
                path.unlink(missing_ok=True)
        raise


def _before(staging: Path, path: Path) -> Path:
    return staging / f"before-{path.name}"


def flush(path: Path) -> None:
    """On the disk for good, and for everyone the umask lets; some libraries write for the owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)
    with path.open("rb+") as file:  # Windows flushes only what may be written
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as problem:
        if problem.errno not in LACKING:
            raise
    finally:
        os.close(handle)


def _refuse_open(paths: Sequence[Path]) -> None:
    """Before anything is replaced: the first of the paths may be a database, all may be held by a program."""
    _refuse_open_database(paths[0])
    for path in paths if WINDOWS else ():
        _refuse_held(path)


def _refuse_held(path: Path) -> None:
    # Windows replaces no file that a program has open. A new name needs the same right, and the old one harms nothing.
    try:
        path.rename(path)
    except FileNotFoundError:
        return
    except OSError as problem:
        raise _refusal(
            path,
            f"cannot be replaced: {problem.strerror or problem}",
            "close it in QGIS and other programs, or choose another name",
        ) from problem


def _refuse_open_database(target: Path) -> None:
    if any(target.with_name(target.name + suffix).exists() for suffix in OPEN_DATABASE):
        left = ", ".join(target.name + suffix for suffix in OPEN_DATABASE)
        raise _refusal(
            target,
            "is open in another program",
            f"close it in QGIS, or choose another name; if no program has it open, one crashed: delete {left}",
        )


def _same_file(target: Path, name: str) -> bool:
    """Through symbolic and hard links too."""
    try:
        return target.exists() and target.samefile(name)
    except OSError:
        return False  # the input is no file, such as /vsicurl/...


def _refusal(target: Path, problem: str, hint: str) -> RssegError:
    return RssegError(f"{target}: {problem}", hint, file=str(target), kind="output")


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"
