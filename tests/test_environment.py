import os
from pathlib import Path

import pytest

from rsseg_cli import environment
from rsseg_cli.environment import free_memory


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of the files in which Linux says how much memory there is."""
    monkeypatch.setattr(environment, "MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(environment, "CONTAINER_MEMORY", (tmp_path / "max", tmp_path / "current"))
    monkeypatch.setattr(environment, "CONTAINER_CACHE", tmp_path / "stat")
    return tmp_path


def test_a_system_that_says_nothing_sets_no_limit(system: Path) -> None:
    assert free_memory() == 2**63 - 1


def test_what_the_machine_has_free(system: Path) -> None:
    (system / "meminfo").write_text("MemTotal:  99 kB\nMemAvailable:    2048 kB\n")
    assert free_memory() == 2 << 20
    (system / "max").write_text("max\n")
    (system / "current").write_text("77\n")
    assert free_memory() == 2 << 20


def test_a_container_may_have_less_and_its_cache_counts_as_free(system: Path) -> None:
    (system / "meminfo").write_text("MemAvailable:    2048 kB\n")
    (system / "max").write_text("1000\n")
    (system / "current").write_text("900\n")
    assert free_memory() == 100
    (system / "stat").write_text("anon 1\ninactive_file 300\n")
    assert free_memory() == 400


def test_a_limit_for_the_process_leaves_less(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    (system / "meminfo").write_text("MemAvailable:    2048 kB\n")
    (system / "statm").write_text("100 7 7 7\n")
    monkeypatch.setattr(environment, "OWN_PAGES", system / "statm")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100 * environment.PAGE_BYTES + 5000, resource.RLIM_INFINITY))
    assert free_memory() == 5000
    monkeypatch.setattr(resource, "getrlimit", lambda _: (50 * environment.PAGE_BYTES, resource.RLIM_INFINITY))
    assert free_memory() == 0


def test_no_code_in_data_whatever_other_programs_want(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GDAL_VRT_ENABLE_PYTHON", "YES")
    environment.prepare()
    assert os.environ["GDAL_VRT_ENABLE_PYTHON"] == "NO"
