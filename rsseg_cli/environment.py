"""What has to be settled with what is below us: GDAL and PROJ before they are loaded, memory, and pipes on Windows."""

import ctypes
import errno
import gc
import importlib.util
import logging
import mmap
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WINDOWS = os.name == "nt"
KEEP_VARIABLE = "RSSEG_KEEP_PROJ_DATA"
# GDAL runs no code that comes with data, whatever other programs have it set to.
PYTHON_IN_DATA = "GDAL_VRT_ENABLE_PYTHON"
FOREIGN_VARIABLES = ("PROJ_LIB", "PROJ_DATA", "GDAL_DATA", "GDAL_DRIVER_PATH")
# GDAL would keep up to 5 % of all memory in decoded blocks; every raster is read once and in order here.
CACHE_MIB = "32"

# Objects made before Python looks for garbage among them; its own number is in the hundreds or thousands.
MADE_BEFORE_COLLECTING = 100_000

# mallopt's names for: from this size on ask the system; beyond this much that is free give it back; how many heaps.
M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_ARENA_MAX = -3, -1, -8
KEPT_BYTES = 2**31 - 1

MEMORY = Path("/proc/meminfo")
CONTAINER_MEMORY = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current"))
CONTAINER_CACHE = Path("/sys/fs/cgroup/memory.stat")
OWN_PAGES, PAGE_BYTES = Path("/proc/self/statm"), mmap.PAGESIZE

logger = logging.getLogger(__name__)


def prepare() -> None:
    """Keeps foreign data paths away from our wheels, GDAL's memory flat, and its chatter from the person."""
    os.environ.setdefault("GDAL_CACHEMAX", CACHE_MIB)
    # Threads that wait for each other keep the processor busy for a while, and other programs from it: beside some,
    # training took several times as long. So few turns are no slower on a computer of one's own.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # rasterio silences this while it warps, in a list of filters that all threads share: now and then one is too late.
    warnings.filterwarnings("ignore", "Dataset has no geotransform", module=r"rasterio\.warp")
    os.environ[PYTHON_IN_DATA] = "NO"
    _set_aside_foreign_data()


def collect_seldom() -> None:
    """What is imported is no garbage: looking for some in PyTorch took a seventh of the time that it needs to load."""
    gc.set_threshold(MADE_BEFORE_COLLECTING)


def collect_no_more() -> None:
    """A process that ends gives back everything at once; Python would look through all of PyTorch before."""
    gc.freeze()


def fill_closed_streams() -> None:
    """Whoever starts rsseg may have closed some; the next file opened would get the number, and all that is said."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8", closefd=False))


def keep_freed_memory() -> None:
    """Memory that a network frees stays with the process: its next pass asks for the same sizes again.

    By default the GNU C library hands such large pieces back, and getting them anew, page by page, took a quarter of
    the time of a pass. One heap serves all threads: with one each, holes in them grew by a third over a large scene.
    Other systems' libraries have no such call.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_ARENA_MAX, 1)


@contextmanager
def to_a_reader() -> Iterator[None]:
    """Around what is written to stdout: that a pipe's reader has gone is a BrokenPipeError on Windows too."""
    try:
        yield
    except OSError as problem:
        if WINDOWS and problem.errno == errno.EINVAL:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from problem
        raise


def free_memory() -> int:
    """Bytes that are free for this process; more than anybody has where the system does not say."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", _text(MEMORY))
    limit, used = (_text(path).strip() for path in CONTAINER_MEMORY)
    free = [int(found[1]) << 10] if found else []
    free += _left_by_limit()
    if limit.isdigit() and used.isdigit():  # a container may have less than its machine; without a limit it says "max"
        cached = re.search(r"^inactive_file (\d+)", _text(CONTAINER_CACHE), re.MULTILINE)
        free.append(int(limit) - int(used) + int(cached[1] if cached else 0))
    return min(free, default=2**63 - 1)


def _left_by_limit() -> list[int]:
    """What `ulimit -v` leaves, as it is set on shared machines."""
    if WINDOWS:
        return []
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = _text(OWN_PAGES).split()
    return [] if limit == resource.RLIM_INFINITY or not pages else [max(0, limit - int(pages[0]) * PAGE_BYTES)]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _set_aside_foreign_data() -> None:
    """Drops data paths that QGIS, OSGeo4W or conda set for *their* PROJ and GDAL.

    A rasterio wheel brings its own data; with another PROJ's proj.db it knows no EPSG code. Builds that
    take PROJ from the system or from conda have no data of their own and are left alone.
    """
    found = [name for name in FOREIGN_VARIABLES if os.environ.get(name)]
    if not found or os.environ.get(KEEP_VARIABLE) or not _rasterio_brings_data():
        return
    for name in found:
        del os.environ[name]
    logger.info(
        "%s set aside: rasterio brings its own PROJ and GDAL data (set %s=1 to keep them)",
        ", ".join(found),
        KEEP_VARIABLE,
    )


def _rasterio_brings_data() -> bool:
    spec = importlib.util.find_spec("rasterio")
    return bool(spec and spec.origin and (Path(spec.origin).parent / "proj_data" / "proj.db").exists())
