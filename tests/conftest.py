"""Fixtures that several tests share: small rasters on disk, and the real data where it is at hand."""

import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning

UTM33 = CRS.from_epsg(32633)
HALF_METRE = Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)

MakeRaster = Callable[..., Path]

# What started the tests may ignore Ctrl-C, as nohup and "&" do: commands that they start would, too.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# With --import-mode=importlib tests have no package to import from; `broken` holds what the fault tests share.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def thorough() -> bool:
    """Whether fault tests take all points where things can break, rather than a few: RSSEG_ALL_FAULTS=1."""
    return bool(os.environ.get("RSSEG_ALL_FAULTS"))


@pytest.fixture
def make_raster(tmp_path: Path) -> MakeRaster:
    """Writes an array (band, y, x) or (y, x) as a GeoTIFF; keywords go to rasterio.open."""

    def make(name: str, values: Any, **profile: Any) -> Path:
        values = np.asarray(values)
        values = values if values.ndim == 3 else values[np.newaxis]
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        described = {"crs": UTM33, "transform": HALF_METRE} | profile
        described = {key: value for key, value in described.items() if value is not None}
        count, height, width = values.shape
        opened = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": values.dtype}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, "w", **(opened | described)) as dataset:
                dataset.write(values)
        return path

    return make


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real scenes that RSSEG_DATA names; its MANIFEST.md says what is in it."""
    folder = os.environ.get("RSSEG_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("RSSEG_DATA names no folder with real scenes")
    return Path(folder)


@pytest.fixture
def rsseg(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command as a process of its own, in an empty folder."""

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "rsseg_cli", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "120", **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def processes() -> Iterator[object]:
    pytest.importorskip("resource", reason="needs POSIX processes")
    from broken import Processes

    running = Processes()
    yield running
    running.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """An empty disk of so many KiB, for so many files and folders."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = False

    def resize(kib: int, entries: int = 1000) -> Path:
        nonlocal mounted
        if mounted:
            subprocess.run(["umount", folder], check=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={kib}k,nr_inodes={entries + 1}", "tmpfs", folder]
        try:
            subprocess.run(mount, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as problem:
            pytest.skip(f"no right to mount a small disk here ({problem}); as root, or under `unshare -Urm`, there is")
        mounted = True
        return folder

    yield resize
    if mounted:
        subprocess.run(["umount", folder], check=True)
