"""rsseg among other programs of a shell: pipes that close, GDAL's variables, completion, several runs at once."""

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyogrio
import pytest

posix = pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them")
RSSEG = f"{sys.executable} -m rsseg_cli"


@pytest.fixture
def labels(make_raster) -> Path:
    """A map of 400 squares."""
    return make_raster("l.tif", np.kron(np.indices((20, 20)).sum(axis=0) % 2 + 1, np.ones((4, 4))).astype(np.uint8))


@pytest.fixture
def shell(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(text: str, **environment: str) -> subprocess.CompletedProcess[str]:
        process = ["bash", "-c", f'rsseg() {{ {RSSEG} "$@"; }}\n{text}']
        return subprocess.run(
            process, cwd=tmp_path, env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )

    return run


@posix
@pytest.mark.parametrize(
    "call",
    [
        "--help",
        "vectorize --help",
        "--version",
        "info l.tif l.tif",
        "info l.tif --json",
        "evaluate l.tif l.tif -q",
        "vectorize l.tif -o - -q",
        "info none.tif --json 2>&1",
    ],
)
def test_when_nobody_reads_on_it_is_quiet_and_leaves_nothing(shell, labels: Path, call: str, tmp_path: Path) -> None:
    ended = shell(f"rsseg {call} | true; echo ${{PIPESTATUS[0]}}")
    assert ended.stderr.replace("error: none.tif: no such file\nhint: check the name\n", "") == ""
    assert ended.stdout.strip() in ("0", "1")
    assert [path.name for path in tmp_path.iterdir()] == ["l.tif"]


@posix
def test_the_next_program_gets_whole_lines(shell, labels: Path) -> None:
    ended = shell("rsseg vectorize l.tif -o - -q | head -n 3")
    assert [json.loads(line)["type"] for line in ended.stdout.splitlines()] == ["Feature"] * 3
    assert ended.stderr == ""


@posix
def test_a_failure_can_be_told_from_success(shell, labels: Path) -> None:
    ended = shell("rsseg info none.tif -q && echo done; rsseg info l.tif -q > /dev/null && echo done")
    assert ended.stdout == "done\n"
    assert shell("set -o pipefail; rsseg info none.tif --json -q | cat > /dev/null").returncode == 1


def test_gdals_variables_are_respected(rsseg, labels: Path) -> None:
    assert "EPSG:32633" in rsseg("info", labels).stdout
    assert "EPSG:32633" not in rsseg("info", labels, GDAL_GEOREF_SOURCES="NONE").stdout
    code = "import rsseg_cli.raster, os; print(os.environ['GDAL_CACHEMAX'])"
    for given, used in (({}, "32"), ({"GDAL_CACHEMAX": "7%"}, "7%")):
        others = {name: value for name, value in os.environ.items() if name != "GDAL_CACHEMAX"}
        process = [sys.executable, "-c", code]
        assert subprocess.check_output(process, env={**others, **given}, text=True).strip() == used


@pytest.mark.parametrize(("given", "used"), [(None, "ALL_CPUS"), ("1", "1")])
def test_outputs_are_compressed_by_as_many_threads_as_gdal_may_use(
    given: str | None, used: str, labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import rasterio.shutil

    from rsseg_cli.raster.labels import open_label_raster
    from rsseg_cli.raster.write import create_labels

    threads = []
    really = rasterio.shutil.copy
    monkeypatch.setattr(
        rasterio.shutil, "copy", lambda *files, **o: (threads.append(o["NUM_THREADS"]), really(*files, **o))
    )
    monkeypatch.delenv("GDAL_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("GDAL_NUM_THREADS", given)
    found = open_label_raster(str(labels))
    with create_labels(tmp_path / "copy.tif", found.grid, found.scheme) as writer:
        writer.write(found.source.read(found.grid.window), found.grid.window)
    assert set(threads) == {used}


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """What a public bucket of S3 answers, without the cloud: (host, the headers of every request)."""
    asked: list[dict[str, str]] = []

    class Store(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *values: object) -> None:
            super().__init__(*values, directory=str(tmp_path))  # type: ignore[arg-type]

        def do_GET(self) -> None:
            asked.append(dict(self.headers))
            super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Store) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_a_public_bucket_is_read_without_a_signature(rsseg, labels: Path, tmp_path: Path, bucket) -> None:
    host, asked = bucket
    (tmp_path / "public").mkdir()
    labels.rename(tmp_path / "public" / "l.tif")
    local = {"AWS_S3_ENDPOINT": host, "AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "FALSE", "NO_PROXY": "127.0.0.1"}
    keys = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_REGION": "eu-central-1"}
    public = {"AWS_NO_SIGN_REQUEST": "YES", "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
    ended = rsseg("info", "/vsis3/public/l.tif", **local, **keys, **public)
    assert (ended.returncode, "80 x 80 pixels" in ended.stdout) == (0, True), ended.stderr
    assert asked
    assert not [headers for headers in asked if "Authorization" in headers]


@posix
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("det", {"detect-change"}),
        ("vectorize --si", {"--simplify"}),
        ("adapt --method s", {"self-training", "st-dasegnet", "source-only"}),
        ("info l", set()),  # no words of ours: the shell offers files
    ],
)
def test_the_shell_completes_what_is_typed(shell, typed: str, offered: set[str]) -> None:
    words = f"rsseg {typed}"
    ended = shell("rsseg", _RSSEG_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(len(words.split()) - 1))
    assert (set(ended.stdout.split()), ended.stderr) == (offered, "")


@posix
def test_several_runs_at_once_do_not_disturb_each_other(shell, labels: Path, tmp_path: Path) -> None:
    ended = shell(
        'for n in 1 2 3; do rsseg vectorize l.tif -o $n.gpkg -q & runs="$runs $!"; done\n'
        "for run in $runs; do wait $run || exit 1; done"
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert sorted(ended.stdout.split()) == ["1.gpkg", "2.gpkg", "3.gpkg"]
    assert {path.name for path in tmp_path.iterdir()} == {"l.tif", "1.gpkg", "2.gpkg", "3.gpkg"}
    assert [pyogrio.read_info(tmp_path / f"{n}.gpkg", layer=f"{n}")["features"] for n in (1, 2, 3)] == [400] * 3


@posix
def test_a_run_whose_caller_is_gone_ends_although_it_has_nothing_new_to_say(tmp_path: Path) -> None:
    """QGIS that was killed can cancel nothing any more."""
    (tmp_path / "slow.py").write_text(
        "import signal, time\n"
        "from rsseg_cli import console, stops\n"
        "console.HEARTBEAT_S = 0.2\n"
        "signal.signal(signal.SIGTERM, stops.terminate)\n"
        "def steps():\n"
        "    yield 1\n"
        "    for _ in range(600): time.sleep(0.1)\n"
        "list(console._counted(steps(), console._JsonMeter('x', 1000)))\n"
    )
    process = subprocess.Popen([sys.executable, "slow.py"], cwd=tmp_path, stderr=subprocess.PIPE)
    assert process.stderr is not None
    process.stderr.readline()
    process.stderr.close()
    assert process.wait(timeout=20) != 0
