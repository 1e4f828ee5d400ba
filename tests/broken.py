"""Writers to break, in this process or in one that may die. Run as a script, it is the process that forks them."""

import errno
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.windows import Window

from rsseg_cli.classes import ClassScheme
from rsseg_cli.errors import RssegError
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.write import create_labels
from rsseg_cli.vector.write import write_geopackage

SCHEME = ClassScheme.of_names([("water", (1,), "#0000ff"), ("forest & co", (2,), "#00ff00"), ("town", (3,), "#ff0000")])
UTM = CRS.from_epsg(32633)
TRANSFORM = Affine(0.3, 0.0, 400000.1234567891, 0.0, -0.3, 5000000.98765432)
# Calls by which Python changes a disk.
CHANGES = ("open", "os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir")

Write = Callable[..., None]


def noise(height: int, width: int) -> np.ndarray:
    """Labels that do not compress, so that bytes run out where they should."""
    return np.random.default_rng(1).integers(1, 4, (height, width)).astype("uint8")


def write_labels(path: Path, size: int = 700, between: Callable[[int], None] | None = None, **options: Any) -> None:
    values = noise(size, size)
    with create_labels(path, Grid(UTM, TRANSFORM, size, size), SCHEME, **options) as writer:
        for row in range(0, size, 200):
            part = values[row : row + 200]
            writer.write(part, Window(0, row, size, len(part)))
            if between:
                between(row)


def write_squares(path: Path, count: int = 3000, **options: Any) -> None:
    x, y = np.arange(count) % 100, np.arange(count) // 100
    squares = shapely.box(x, y, x + 1, y + 1)
    frame = geopandas.GeoDataFrame({"name": [f"square {n}" for n in range(count)]}, geometry=squares, crs=UTM)
    write_geopackage(path, frame, "squares", **options)


def content(path: Path) -> Any:
    """Everything that counts in a file, by other means than rsseg's; an exception if it is not readable."""
    if path.suffix == ".gpkg":
        # A window of space asks the spatial index, which counting does not.
        frames = [geopandas.read_file(path), geopandas.read_file(path, bbox=(10.5, 3.5, 20.5, 5.5))]
        return [(f.to_wkb().to_csv(), str(f.crs)) for f in frames]
    with rasterio.open(path) as dataset:
        levels = [dataset.read(), *(dataset.read(out_shape=(1, *_shape(path, n))) for n in range(_levels(dataset)))]
        return [level.tobytes() for level in levels], dataset.transform, str(dataset.crs), dataset.colormap(1)


def _levels(dataset: rasterio.DatasetReader) -> int:
    return len(dataset.overviews(1))


def _shape(path: Path, level: int) -> tuple[int, int]:
    with rasterio.open(path, OVERVIEW_LEVEL=level) as overview:
        shape: tuple[int, int] = overview.shape
        return shape


def outcome(write: Write, path: Path, **options: Any) -> RssegError | None:
    """None when the writer claims success; its error, which must speak of the output and of nothing hidden."""
    try:
        write(path, **options)
    except RssegError as raised:
        error = raised
    else:
        return None
    assert str(path) in error.problem
    assert error.file == str(path)
    assert error.hint
    assert ".rsseg" not in error.problem + error.hint
    assert len(error.problem) < len(str(path)) + 300
    return error


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file may grow beyond; Python has the signal ignored, so that writing fails instead."""
    resource = pytest.importorskip("resource", reason="limits on file sizes are a thing of POSIX")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Processes:
    """Forks a process a job from one that has imported everything: a tenth of a second instead of two."""

    def __init__(self) -> None:
        self.zygote = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, job: str, kill_after: float = -1) -> None:
        """`write_labels(Path("x.tif"))`, say, in a process of its own."""
        assert self.zygote.stdin is not None
        print(kill_after, job, file=self.zygote.stdin, flush=True)

    def end(self) -> int:
        """How the last one ended: 0 well, 1 with an RssegError, 2 with another error, -9 killed."""
        assert self.zygote.stdout is not None
        return int(self.zygote.stdout.readline())

    def run(self, job: str, kill_after: float = -1) -> int:
        self.start(job, kill_after)
        return self.end()

    def close(self) -> None:
        self.zygote.communicate()


def at_change(number: int, action: str) -> None:
    """Dies, or meets a full disk, at the n-th change of the disk from here on."""
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event not in CHANGES or (event == "open" and not _for_writing(arguments)):
            return
        seen += 1
        if seen == number:
            if action == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    sys.addaudithook(hook)


def _for_writing(arguments: tuple[Any, ...]) -> bool:
    return bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def _work() -> None:
    for line in sys.stdin:
        kill_after, job = line.split(" ", 1)
        pid = os.fork()
        if pid == 0:
            _do(job)
        if float(kill_after) >= 0:
            time.sleep(float(kill_after))
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _do(job: str) -> None:
    try:
        exec(job, globals())
    except RssegError:
        os._exit(1)
    except BaseException:
        traceback.print_exc()
        os._exit(2)
    os._exit(0)


if __name__ == "__main__":
    _work()
