"""What tests of commands that write share: a process that forks them, and a folder to run them in."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SHIM = Path(__file__).with_name("failing.c")


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """The library that makes calls fail, where it can be built."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    library = tmp_path_factory.mktemp("shim") / "failing.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", SHIM, "-o", library, "-ldl"], check=True)
    return library


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory, shim: Path | None) -> Iterator[Any]:
    pytest.importorskip("resource", reason="needs POSIX processes")
    from commands_that_write import Bench
    from forked import Rsseg

    rsseg = Rsseg(shim)
    yield Bench(rsseg, tmp_path_factory.mktemp("bench"))
    rsseg.close()
