"""A run that was stopped goes on, and what it writes is what it would have written."""

import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rasterio.windows import Window

from rsseg_cli import detect_change, open_scene
from rsseg_cli.change import comparison, detection
from rsseg_cli.change.comparison import _Walk
from rsseg_cli.change.detection import Request, detect
from rsseg_cli.change.methods import Choice
from rsseg_cli.change.pair import PairOptions
from rsseg_cli.change.scratch import Scratch
from rsseg_cli.errors import RssegError

SAMPLE = Path(__file__).parents[2] / "sample_scenes" / "change"
BEFORE, AFTER = (str(SAMPLE / f"{name}.tif") for name in ("before", "after"))
PLAIN, CLASSICAL = PairOptions(align="grid"), Choice("classical")
BLOCK_PX, BLOCKS = 64, 16


@pytest.fixture(scope="module", autouse=True)
def small_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (comparison, detection):
            patch.setattr(module, "BLOCK_PX", BLOCK_PX)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, small_blocks: None) -> tuple[Path, dict[str, Any]]:
    """The folder, and the report, of a run that nothing stops."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, detect(request_in(folder), 0.0)


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[Window]:
    """Blocks whose distances were written."""
    windows: list[Window] = []
    write = Scratch.write

    def noted(self: Scratch, values: np.ndarray, block: Window) -> None:
        write(self, values, block)
        windows.append(block)

    monkeypatch.setattr(Scratch, "write", noted)
    return windows


def request_in(folder: Path, **changed: Any) -> Request:
    folder.mkdir(exist_ok=True)
    outputs = {"output": folder / "m.tif", "score": folder / "s.tif", "polygons": folder / "p.parquet"}
    return replace(Request(BEFORE, AFTER, pair=PLAIN, choice=CLASSICAL, min_area=20, **outputs), **changed)


def broken_off(blocks: int, by: type[BaseException] = KeyboardInterrupt):
    """A track that ends a run after so many blocks."""

    def track(steps: Iterable, label: str, total: int) -> Iterator:
        for number, step in enumerate(steps):
            if label == "comparing" and number == blocks:
                raise by
            yield step

    return track


def stopped(request: Request, blocks: int = 3) -> Path:
    """What is left of a run that was stopped."""
    with pytest.raises(KeyboardInterrupt):
        detect(request, 0.0, broken_off(blocks))
    return request.output.with_name(".m.tif.rsseg-blocks")


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def assert_alike(one: Path, other: Path) -> None:
    """To the byte."""
    for name in ("m.tif", "s.tif", "m.qml", "p.parquet"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_a_run_goes_on_where_it_was_stopped(whole, tmp_path: Path, looked_at: list[Window], caplog) -> None:
    request = request_in(tmp_path)
    with caplog.at_level(logging.INFO):
        stopped(request)
    assert "finished are kept; --resume goes on" in caplog.text
    looked_at.clear()
    stopped(replace(request, resume=True), 6)
    again = detect(replace(request, resume=True), 0.0)
    assert len(set(looked_at)) == len(looked_at) <= BLOCKS - 3
    assert_alike(whole[0], tmp_path)
    for name in ("changed_pixels", "agreement_with_ir_mad", "warnings", "threshold"):
        assert again[name] == whole[1][name]
    assert hidden(tmp_path) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from rsseg_cli.change import comparison, detection
from rsseg_cli.change.detection import Request, detect
from rsseg_cli.change.methods import Choice
from rsseg_cli.change.pair import PairOptions
comparison.BLOCK_PX = detection.BLOCK_PX = 64

def track(steps, label, total):
    for number, step in enumerate(steps):
        if label == "comparing" and number == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        yield step

folder = Path(sys.argv[3])
outputs = {"output": folder / "m.tif", "score": folder / "s.tif", "polygons": folder / "p.parquet"}
pair, choice = PairOptions(align="grid"), Choice("classical")
detect(Request(*sys.argv[1:3], pair=pair, choice=choice, min_area=20, **outputs), 0.0, track)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are a thing of POSIX")
def test_a_killed_run_goes_on(whole, tmp_path: Path, looked_at: list[Window]) -> None:
    request = request_in(tmp_path)
    ended = subprocess.run([sys.executable, "-c", KILLED, BEFORE, AFTER, str(tmp_path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not request.output.exists()
    detect(replace(request, resume=True), 0.0)
    assert 0 < len(looked_at) <= BLOCKS - 4
    assert_alike(whole[0], tmp_path)
    assert hidden(tmp_path) == []


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"choice": Choice("cva")}, "method was classical, is cva"),
        ({"choice": Choice("classical", seed=3)}, "seed was 0, is 3"),
        ({"min_area": 30.0}, "min-area was 20, is 30.0"),
        (
            {"pair": PairOptions("1,2,3", "1,2,3", align="grid")},
            "before-bands was not given, is 1,2,3; after-bands was not given, is 1,2,3",
        ),
        ({"before": AFTER, "after": BEFORE}, f"before was {BEFORE}, is {AFTER}; after was {AFTER}, is {BEFORE}"),
    ],
)
def test_a_run_with_other_settings_is_refused_and_the_other_stays(tmp_path: Path, changed: Any, named: str) -> None:
    request = request_in(tmp_path)
    journal = stopped(request)
    kept = {path.name: path.read_bytes() for path in journal.iterdir()}
    with pytest.raises(RssegError, match=f"differs: {named}$"):
        detect(replace(request, resume=True, **changed), 0.0)
    assert {path.name: path.read_bytes() for path in journal.iterdir()} == kept


def test_inputs_that_were_written_anew_are_other_inputs(tmp_path: Path) -> None:
    before = shutil.copy(BEFORE, tmp_path / "before.tif")
    request = request_in(tmp_path, before=str(before))
    stopped(request)
    os.utime(before, ns=(0, 0))
    with pytest.raises(RssegError, match=r"differs: .*before\.tif has changed since$"):
        detect(replace(request, resume=True), 0.0)


def test_without_resume_all_begins_anew(tmp_path: Path, looked_at: list[Window]) -> None:
    request = request_in(tmp_path)
    stopped(request)
    looked_at.clear()
    detect(replace(request, choice=Choice("cva")), 0.0)
    assert len(looked_at) == len(set(looked_at)) == BLOCKS
    assert hidden(tmp_path) == []


def test_damaged_blocks_are_looked_at_anew(whole, tmp_path: Path, looked_at: list[Window]) -> None:
    request = request_in(tmp_path)
    journal = stopped(request)
    with (journal / "distances").open("r+b") as file:
        file.seek(BLOCK_PX * BLOCK_PX * 2 * 4 + 100)  # in the second block
        file.write(b"rubbish")
    with (journal / "distances.finished").open("ab") as file:
        file.write(b"cut")
    looked_at.clear()
    detect(replace(request, resume=True), 0.0)
    assert Window(BLOCK_PX, 0, BLOCK_PX, BLOCK_PX) in looked_at
    assert Window(0, 0, BLOCK_PX, BLOCK_PX) not in looked_at
    assert_alike(whole[0], tmp_path)


def test_what_another_fit_has_found_is_not_mixed_in(whole, tmp_path: Path, looked_at: list[Window], caplog) -> None:
    """As after --minutes, or on another machine."""
    request = request_in(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        found = _Walk._distances
        patch.setattr(_Walk, "_distances", lambda *given: found(*given) * np.float32(1.01))
        stopped(request)
    looked_at.clear()
    detect(replace(request, resume=True), 0.0)
    assert "did not come to the same" in caplog.text
    assert len(looked_at) == BLOCKS
    assert_alike(whole[0], tmp_path)


def test_a_run_that_finished_nothing_or_may_not_begin_leaves_nothing_and_takes_nothing(tmp_path: Path) -> None:
    request = request_in(tmp_path)

    def at_once(steps: Iterable, label: str, total: int) -> Iterator:
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        detect(request, 0.0, at_once)
    assert list(tmp_path.iterdir()) == []
    stopped(request)
    request.output.touch()
    with pytest.raises(RssegError, match="exists already"):
        detect(request, 0.0)
    assert hidden(tmp_path) == [".m.tif.rsseg-blocks"]


def test_arrays_go_on_by_their_content(tmp_path: Path) -> None:
    dates = [open_scene(path).read() for path in (BEFORE, AFTER)]
    with pytest.raises(KeyboardInterrupt):
        detect_change(*dates, tmp_path / "m.tif", method="classical", track=broken_off(3))
    with pytest.raises(RssegError, match=r"differs: before is another$"):
        detect_change(dates[0] + 1, dates[1], tmp_path / "m.tif", method="classical", resume=True)
    assert detect_change(*dates, tmp_path / "m.tif", method="classical", resume=True)["changed_pixels"] > 100
    with pytest.raises(RssegError, match="overwrite and resume are for files"):
        detect_change(*dates, resume=True)


def test_the_option(rsseg, tmp_path: Path) -> None:
    call = ("detect-change", BEFORE, AFTER, "-o", "m.tif", "--align", "grid", "--method", "classical")
    journal = tmp_path / ".m.tif.rsseg-blocks"
    journal.mkdir()
    (journal / "run.json").write_text('{"method": "another"}')
    ended = rsseg(*call, "--resume")
    assert ended.returncode == 1
    assert "differs: " in ended.stderr
    assert "start anew without --resume" in ended.stderr
    assert rsseg(*call).returncode == 0
    assert hidden(tmp_path) == []
    (tmp_path / "m.tif").unlink()
    (tmp_path / "m.qml").unlink()
    assert rsseg(*call, "--resume").returncode == 0  # nothing to go on with: it begins
