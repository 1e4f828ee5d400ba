"""The process as a whole: start-up, exit codes, and what goes where."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

HEAVY = ("torch", "rasterio", "geopandas", "xarray", "transformers", "pyogrio", "scipy", "numpy")


def loaded_after(*arguments: str) -> set[str]:
    """Which modules a command has imported by the time it ends."""
    code = (
        "import sys\nfrom rsseg_cli.app import app\n"
        f"try:\n    app({list(arguments)!r})\nexcept SystemExit:\n    pass\nprint(*sys.modules, file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(ended.stderr.split())


COMMANDS = ("adapt", "segment", "evaluate", "info", "demo")


@pytest.mark.parametrize("arguments", [(), *((command,) for command in COMMANDS)])
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    loaded = loaded_after(*arguments, "--help")
    assert "typer" in loaded
    assert not loaded & set(HEAVY)


def test_label_rasters_are_scored_without_torch_or_geopandas(make_raster) -> None:
    path = str(make_raster("l.tif", np.eye(9, dtype=np.uint8)))
    loaded = loaded_after("evaluate", path, path, "--quiet")
    assert "rasterio" in loaded
    assert not loaded & {"torch", "geopandas", "transformers", "pyogrio"}


def test_neither_start_nor_end_waits_for_a_search_for_garbage() -> None:
    code = (
        "import atexit, gc, sys\nfrom rsseg_cli.app import main\nsys.argv = ['rsseg', '--version']\n"
        "atexit.register(lambda: print(gc.get_threshold()[0], gc.get_freeze_count()))\nmain()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seldom, frozen = map(int, ended.stdout.splitlines()[-1].split())
    assert seldom >= 100_000
    assert frozen > 10_000


def test_without_arguments_it_explains_itself(rsseg) -> None:
    ended = rsseg()
    assert ended.returncode == 2
    for command in COMMANDS:
        assert command in ended.stdout + ended.stderr


def test_every_command_has_a_runnable_example(rsseg) -> None:
    for command in COMMANDS:
        assert f"rsseg {command}" in rsseg(command, "--help").stdout.split("Example:")[1]


def test_version(rsseg) -> None:
    ended = rsseg("--version")
    assert (ended.returncode, ended.stdout.split()[0]) == (0, "rsseg")


def test_usage_errors_end_with_2(rsseg) -> None:
    for arguments in (
        ["evaluate"],
        ["info", "--no-such-option", "x"],
        ["nonsense"],
        ["evaluate", "a", "b", "--boundary", "-1"],
    ):
        assert rsseg(*arguments).returncode == 2


def test_what_the_person_can_mend_ends_with_1_and_a_hint(rsseg) -> None:
    ended = rsseg("info", "none.tif")
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.splitlines() == ["error: none.tif: no such file", "hint: check the name"]


def test_json_failures_are_one_object_on_stdout(rsseg) -> None:
    ended = rsseg("info", "none.tif", "--json")
    assert ended.returncode == 1
    error = json.loads(ended.stdout)["error"]
    assert error == {"kind": "input", "file": "none.tif", "problem": "none.tif: no such file", "hint": "check the name"}


def test_notes_go_to_stderr_and_quiet_silences_them(rsseg, make_raster) -> None:
    path = make_raster("plain.tif", np.ones((4, 4), np.uint8), crs=None, transform=None)
    loud, quiet = rsseg("info", path), rsseg("info", path, "--quiet")
    assert "note:" in loud.stderr
    assert quiet.stderr == ""
    assert quiet.stdout == loud.stdout


def test_the_log_keeps_notes_and_the_command_line(rsseg, make_raster, tmp_path: Path) -> None:
    path = make_raster("plain.tif", np.ones((4, 4), np.uint8), crs=None, transform=None)
    rsseg("info", path, "--quiet", "--log", "run.log")
    log = (tmp_path / "run.log").read_text()
    assert "command line:" in log
    assert "no coordinate system" in log
    refused = rsseg("info", path, "--log", "no/such/folder/run.log")
    assert (refused.returncode, "cannot write the log" in refused.stderr) == (1, True)


def test_the_log_never_goes_into_data(rsseg, make_raster) -> None:
    path = make_raster("l.tif", np.ones((4, 4), np.uint8))
    before = path.read_bytes()
    assert rsseg("info", path, "--log", path).returncode == 1
    assert path.read_bytes() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_full_stdout_is_said_in_words(make_raster) -> None:
    path = make_raster("l.tif", np.ones((4, 4), np.uint8))
    with Path("/dev/full").open("w") as full:
        call = [sys.executable, "-m", "rsseg_cli", "info", str(path)]
        ended = subprocess.run(call, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 1
    assert "error: No space left on device" in ended.stderr


def test_json_progress_is_one_event_a_line(rsseg, make_raster) -> None:
    path = make_raster("l.tif", np.eye(64, dtype=np.uint8))
    events = [json.loads(line) for line in rsseg("evaluate", path, path, "--progress", "json").stderr.splitlines()]
    progress = [event for event in events if event["event"] == "progress"]
    assert progress[0]["percent"] == 0
    assert progress[-1] == {"event": "progress", "label": "scoring", "done": 1, "total": 1, "percent": 100}


def test_a_foreign_proj_is_set_aside_with_a_note(rsseg, make_raster, tmp_path: Path) -> None:
    path = make_raster("l.tif", np.ones((4, 4), np.uint8))
    ended = rsseg("info", path, PROJ_DATA=str(tmp_path), GDAL_DATA=str(tmp_path))
    assert ended.returncode == 0
    assert "EPSG:32633" in ended.stdout
    assert "note: PROJ_DATA, GDAL_DATA set aside" in ended.stderr
    assert "set aside" not in rsseg("info", path, PROJ_DATA=str(tmp_path), RSSEG_KEEP_PROJ_DATA="1").stderr


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupts_end_cleanly_and_leave_nothing(tmp_path: Path, sent: signal.Signals, code: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "rsseg_cli", "demo", "d", "--size", "1024", "--json"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "d" / "source").exists():
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(sent)
    printed, said = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in said
    assert said.count("error:") == 1
    assert json.loads(printed)["error"]["kind"] == "stopped"
    assert not [p for p in tmp_path.rglob("*") if p.name.startswith(".")]


@pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them")
def test_a_closed_pipe_is_no_accident(tmp_path: Path, make_raster) -> None:
    path = make_raster("l.tif", np.ones((200, 4, 4), np.uint8))
    call = f"{sys.executable} -m rsseg_cli info {path} {path} {path} | head -1"
    ended = subprocess.run(["bash", "-c", call], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == str(path)
    assert ended.stderr == ""
