"""The same bytes whatever the place rsseg runs in is like; or it is refused in words."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from untrained import save_untrained

UTM, PLACE = CRS.from_epsg(32633), Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)
BANDS = ("--bands", "red=1,green=2,blue=3,nir=4", "--alpha", "no")
RSSEG = (sys.executable, "-m", "rsseg_cli")
VECTORIZE = ("vectorize", "mask.tif", "-o", "out.geojson", "-f", "GeoJSON")
SEGMENT = ("segment", "scene.tif", *BANDS, "--model", "model.safetensors", "-o", "out.tif")
NOWHERE = "/there/is/no/such/place"

# What is set in the environment; None takes a variable away.
VARIABLES = {
    "plain C": {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0"},
    "Turkish": {"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8"},
    "German": {"LC_ALL": "de_DE.UTF-8", "LC_NUMERIC": "de_DE.UTF-8"},
    "another time zone": {"TZ": "Pacific/Kiritimati"},
    "no HOME": {"HOME": None, "USERPROFILE": None, "XDG_CACHE_HOME": None},
    "a HOME that is not there": {"HOME": NOWHERE},
    "a TMPDIR that is not there": {"TMPDIR": NOWHERE},
    "another PROJ": {"PROJ_DATA": NOWHERE, "PROJ_LIB": NOWHERE},
    "another GDAL": {"GDAL_DATA": NOWHERE, "GDAL_DRIVER_PATH": NOWHERE},
    "a proxy": {"http_proxy": "http://192.0.2.1:9", "https_proxy": "http://192.0.2.1:9"},
    "no search path": {"PATH": ""},
}


def closed(*numbers: int) -> Callable[[], None]:
    return lambda: [os.close(number) for number in numbers] and None


# What is done in the process before it is rsseg.
PROCESSES = {
    "umask 077": lambda: os.umask(0o077) and None,
    "one processor": lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
    "stdin closed": closed(0),
    "stdout closed": closed(1),
    "stderr closed": closed(2),
    "all closed": closed(0, 1, 2),
    "few files open": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
}
QUICK = ("plain C", "another PROJ", "all closed")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    values = np.kron(np.random.default_rng(1).integers(1, 4, (4, 20, 20)), np.ones((1, 5, 5))).astype("uint8")
    for name, bands in (("scene.tif", values * 60), ("mask.tif", values[:1])):
        shape = {"count": len(bands), "height": 100, "width": 100, "dtype": "uint8"}
        with rasterio.open(folder / name, "w", driver="GTiff", crs=UTM, transform=PLACE, **shape) as dataset:
            dataset.write(bands)
    save_untrained(folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def right(inputs: Path) -> dict[str, bytes]:
    """What comes out here."""
    return {call[0]: result(inputs, call) for call in (VECTORIZE, SEGMENT)}


def result(
    inputs: Path,
    call: tuple[str, ...],
    changes: dict[str, str | None] | None = None,
    first: Callable[[], None] | None = None,
) -> bytes:
    """The bytes of the output, which is then taken away."""
    environment = {key: value for key, value in (os.environ | (changes or {})).items() if value is not None}
    ended = subprocess.run(
        [*RSSEG, *call], cwd=inputs, env=environment, preexec_fn=first, capture_output=True, check=False, timeout=300
    )
    assert ended.returncode == 0, ended.stderr.decode(errors="replace")
    assert b"Traceback" not in ended.stderr
    output = inputs / call[call.index("-o") + 1]
    content = output.read_bytes()
    for path in inputs.glob("out.*"):
        path.unlink()
    return content


@pytest.mark.parametrize("case", [*VARIABLES, *PROCESSES])
def test_the_same_bytes_anywhere(case: str, inputs: Path, right: dict[str, bytes], thorough: bool) -> None:
    if not thorough and case not in QUICK:
        pytest.skip("for RSSEG_ALL_FAULTS=1")
    for call in (VECTORIZE, SEGMENT) if thorough else (VECTORIZE,):
        assert result(inputs, call, VARIABLES.get(case), PROCESSES.get(case)) == right[call[0]], call[0]


def test_without_a_network(inputs: Path, right: dict[str, bytes], thorough: bool) -> None:
    alone = ["unshare", "-rn", *RSSEG]
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rn", "true"], check=False).returncode:
        pytest.skip("no right to take the network away")
    call = SEGMENT if thorough else VECTORIZE
    subprocess.run([*alone, *call], cwd=inputs, check=True, capture_output=True)
    output = inputs / call[call.index("-o") + 1]
    assert output.read_bytes() == right[call[0]]
    output.unlink()


@pytest.mark.parametrize(
    "name", ["two words", "Wälder Ω 林", "a\nb", "x" * 196, "-o", "a'b\"c", "%41", "a=b", "a[1]", "~", "$HOME"]
)
def test_any_name(name: str, inputs: Path, right: dict[str, bytes], thorough: bool) -> None:
    if not thorough and name not in ("a\nb", "Wälder Ω 林"):
        pytest.skip("for RSSEG_ALL_FAULTS=1")
    folder = inputs / name
    folder.mkdir()
    mask = folder / f"{name}.tif"
    shutil.copy(inputs / "mask.tif", mask)
    ended = subprocess.run([*RSSEG, "vectorize", mask, "-o", inputs / "out.geojson"], capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr.decode()
    got = (inputs / "out.geojson").read_bytes()
    (inputs / "out.geojson").unlink()
    assert got == right["vectorize"]


@pytest.mark.parametrize("name", [b"not \xff UTF-8.tif", b"y" * 255])
def test_names_that_gdal_cannot_take(name: bytes, inputs: Path, thorough: bool) -> None:
    mask = os.path.join(os.fsencode(inputs), name)  # noqa: PTH118 - bytes
    with open(mask, "wb") as file:  # noqa: PTH123
        file.write((inputs / "mask.tif").read_bytes())
    ended = subprocess.run([*RSSEG, "vectorize", mask, "-o", inputs / "out.geojson"], capture_output=True, check=False)
    said = ended.stderr.decode(errors="replace")
    assert ended.returncode in (0, 1), said
    assert "Traceback" not in said
    assert (ended.returncode == 0) == (inputs / "out.geojson").exists()
    (inputs / "out.geojson").unlink(missing_ok=True)
