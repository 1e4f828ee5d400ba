"""The one way an output reaches its final name.

GDAL, as rasterio drives it, may lose data without raising anything: when the disk fills while a file is closed,
or while several threads compress. And a killed process leaves files that open without complaint. So every writer
works in a hidden folder beside the output, closes and verifies there, and only then is the file renamed.
Under the final name there is the old file, nothing, or the complete new one.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from rsseg_cli.errors import RssegError

LOCK = "lock"
# GDAL and QGIS keep statistics, overviews and masks of the old file under these names.
STALE_SUFFIXES = (".aux.xml", ".ovr", ".msk")
# A database that somebody has open; replacing it then corrupts it for both.
OPEN_DATABASE = ("-wal", "-shm", "-journal")
# Left free beside the output: a full disk hurts more than rsseg.
HEADROOM_BYTES = 1 << 20


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
    check_target(target, overwrite=overwrite, inputs=inputs, sidecars=sidecars)
    with _staging_folder(target) as staging, _space_errors(target):
        _reserve(staging, expected_bytes)
        yield staging
        verify(staging / target.name)
        _move(staging, target)
    verify(target)


def check_target(
    target: Path, *, overwrite: bool = False, inputs: Iterable[str] = (), sidecars: Sequence[Path] = ()
) -> None:
    """Refuses, before any work, what could not be delivered or would destroy something."""
    if target.is_dir():
        raise _refusal(target, "is a folder", "name the output file: -o FOLDER/NAME.tif")
    if not target.parent.is_dir():
        raise _refusal(target, f"there is no folder {target.parent}", f"make it first: mkdir -p {target.parent}")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise _refusal(target, f"no right to write into {target.parent}", "choose another folder")
    for name in inputs:
        if _same_file(target, name):
            raise _refusal(target, f"is also an input ({name})", "choose another name for the output")
    for existing in (path for path in (target, *sidecars) if path.exists()):
        if not overwrite:
            raise _refusal(existing, "exists already", "choose another name, or replace it with --overwrite")
    _refuse_open_database(target)


@contextmanager
def _staging_folder(target: Path) -> Iterator[Path]:
    """A hidden folder beside the target, ours alone; what a killed run left in it is thrown away."""
    folder = target.with_name(f".{target.name}.rsseg")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as problem:
        raise _refusal(target, f"cannot be written: {problem.strerror}", "choose another name or folder") from problem
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout as held:
        raise _refusal(
            target, "another rsseg run is writing it", "wait until that run has ended, or choose another name"
        ) from held
    try:
        _empty(folder, keep=LOCK)
        yield folder
    finally:
        # Gone before the lock is: whoever waits for it notices, and makes a folder of his own.
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


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
        # Quotas and size limits do not show in what the disk has free.
        os.posix_fallocate(file.fileno(), 0, expected_bytes)
    trial.unlink()


@contextmanager
def _space_errors(target: Path) -> Iterator[None]:
    """Whatever says that the disk is full or broken, said once and in words."""
    try:
        yield
    except OSError as problem:
        full = problem.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        reason = "no space left on the disk" if full else problem.strerror or str(problem)
        detail = f" ({problem.strerror})" if full and "needed" in str(problem.strerror) else ""
        raise RssegError(
            f"{target}: could not be written: {reason}{detail}",
            "free some space, or choose another folder; nothing was left half-written",
            file=str(target),
            kind="space" if full else "output",
        ) from problem


def _move(staging: Path, target: Path) -> None:
    """Everything into place, the main file last; each name changes in one step."""
    ready = sorted((p for p in staging.iterdir() if p.name != LOCK), key=lambda p: p.name == target.name)
    for source in ready:
        _flush(source)
    for source in ready:
        _refuse_open_database(target)
        source.replace(target.with_name(source.name))
    for name in {target.name + suffix for suffix in STALE_SUFFIXES} - {source.name for source in ready}:
        target.with_name(name).unlink(missing_ok=True)
    if os.name == "posix":
        _flush(target.parent)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _refuse_open_database(target: Path) -> None:
    if any(target.with_name(target.name + suffix).exists() for suffix in OPEN_DATABASE):
        raise _refusal(target, "is open in another program", "close it in QGIS, or choose another name")


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
