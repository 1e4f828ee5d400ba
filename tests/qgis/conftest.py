"""QGIS, where it is installed: its Python, and an environment in which it runs without a screen."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rsseg_cli.environment import FOREIGN_VARIABLES

CHOICE = "RSSEG_QGIS_PYTHON"


@pytest.fixture(scope="session")
def qgis_python() -> str:
    """A Python that knows QGIS. One that a person named must; one that is found may not."""
    named = os.environ.get(CHOICE)
    python = named or shutil.which("python3")
    if python is None:
        pytest.skip(f"no python3 here; set {CHOICE} to the one of QGIS")
    tried = subprocess.run([python, "-c", "import qgis.core"], capture_output=True, text=True, check=False)
    if tried.returncode and not named:
        pytest.skip(f"{python} knows no QGIS; set {CHOICE} to one that does")
    assert tried.returncode == 0, tried.stderr
    return python


@pytest.fixture(scope="session")
def in_qgis(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A profile of its own, its own PROJ and GDAL, and `rsseg` on PATH.

    Not the virtual environment itself: QGIS takes the first Python on PATH for its own.
    """
    folder = tmp_path_factory.mktemp("qgis")
    folder.chmod(0o700)  # Qt takes no other for XDG_RUNTIME_DIR
    programs = folder / "bin"
    programs.mkdir()
    (programs / "rsseg").symlink_to(Path(sys.executable).with_name("rsseg"))
    strange = (*FOREIGN_VARIABLES, "VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")
    kept = {name: value for name, value in os.environ.items() if name not in strange}
    return {
        **kept,
        "PATH": f"/usr/bin:/bin:{programs}",
        "QT_QPA_PLATFORM": "offscreen",
        "XDG_RUNTIME_DIR": str(folder),
        "QGIS_CUSTOM_CONFIG_PATH": str(folder / "profile"),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"),
    }
