"""What is different on Windows, as far as it can be played here: nobody has tried rsseg there yet."""

import errno
import io
import signal
import sys
from pathlib import Path, PureWindowsPath

import numpy as np
import pytest

from rsseg_cli import app, delivery, environment, stops
from rsseg_cli.change.mask import split_values
from rsseg_cli.commands import demo
from rsseg_cli.console import Console
from rsseg_cli.delivery import deliver
from rsseg_cli.environment import to_a_reader
from rsseg_cli.errors import RssegError
from rsseg_cli.labels import is_vector, split_layer
from rsseg_cli.raster.files import is_local
from rsseg_cli.raster.sources import is_band_files, list_scenes
from rsseg_cli.vector.districts import _split_field


def nothing_to_check(path: Path) -> None:
    assert path.exists()


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not os.name itself: pathlib asks it."""
    for module in (delivery, environment, demo):
        monkeypatch.setattr(module, "WINDOWS", True)


@pytest.fixture
def held(windows: None, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of files that another program has open: Windows neither renames nor replaces them."""
    names: set[str] = set()

    def refusing(change: str):
        really = getattr(Path, change)

        def changed(self: Path, to: Path) -> Path:
            if {self.name, Path(to).name} & names:
                raise PermissionError(errno.EACCES, "The process cannot access the file")
            return really(self, to)

        return changed

    for change in ("rename", "replace"):
        monkeypatch.setattr(Path, change, refusing(change))
    return names


@pytest.mark.parametrize("name", ["map.tif", "map.qml"])
def test_an_output_that_qgis_has_open_is_refused_before_any_work(tmp_path: Path, held: set[str], name: str) -> None:
    (tmp_path / name).write_text("old")
    held.add(name)
    with (
        pytest.raises(RssegError, match=f"{name}: cannot be replaced: The process cannot") as caught,
        deliver(tmp_path / "map.tif", nothing_to_check, overwrite=True, sidecars=[tmp_path / "map.qml"]),
    ):
        pytest.fail("work began")
    assert "close it in QGIS" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_output_opened_while_we_worked_keeps_all_that_belongs_to_it(tmp_path: Path, held: set[str]) -> None:
    target, style, statistics = (tmp_path / name for name in ("map.tif", "map.qml", "map.tif.aux.xml"))
    for path in (target, style, statistics):
        path.write_text("old")

    def write() -> None:
        with deliver(target, nothing_to_check, overwrite=True, sidecars=[style]) as folder:
            for path in (target, style):
                (folder / path.name).write_text("new")
            held.add(target.name)

    with pytest.raises(RssegError, match=r"map\.tif: cannot be replaced"):
        write()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(
        ("map.tif", "map.qml", "map.tif.aux.xml"), "old"
    )


def test_a_free_output_is_replaced(tmp_path: Path, held: set[str]) -> None:
    (tmp_path / "map.tif").write_text("old")
    with deliver(tmp_path / "map.tif", nothing_to_check, overwrite=True) as folder:
        (folder / "map.tif").write_text("new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["new"]


def test_without_calls_of_posix_outputs_are_delivered_all_the_same(
    tmp_path: Path, windows: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("os.posix_fallocate")
    monkeypatch.delattr("os.link")
    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSYS, "no links")), raising=False)
    with deliver(tmp_path / "map.tif", nothing_to_check, expected_bytes=1000) as folder:
        (folder / "map.tif").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["map.tif"]


def test_the_hint_for_a_missing_folder_is_one_that_cmd_takes(tmp_path: Path, windows: None) -> None:
    with pytest.raises(RssegError) as caught, deliver(tmp_path / "no" / "map.tif", nothing_to_check):
        pytest.fail("work began")
    assert caught.value.hint == f"make it first: mkdir {tmp_path / 'no'}"


def test_a_drive_is_no_layer_no_url_and_no_list_of_values() -> None:
    assert split_layer(r"C:\towns\a.gpkg") == (r"C:\towns\a.gpkg", None)
    assert split_layer(r"C:\towns\a.gpkg:land cover") == (r"C:\towns\a.gpkg", "land cover")
    assert split_layer("C:/towns/a.shp") == ("C:/towns/a.shp", None)
    assert is_vector(r"\\server\share\a.fgb:x")
    assert split_values(r"C:\clouds.tif") == (r"C:\clouds.tif", ())
    assert split_values(r"C:\clouds.tif:3,8-10") == (r"C:\clouds.tif", ((3, 3), (8, 10)))
    assert _split_field(r"C:\d.gpkg:name") == (r"C:\d.gpkg", "name")
    assert _split_field(r"C:\d.gpkg:layer:name") == (r"C:\d.gpkg:layer", "name")
    with pytest.raises(RssegError, match="does not say which field"):
        _split_field(r"C:\d.gpkg")
    assert all(is_local(path) for path in (r"C:\a.tif", "c:/a.tif", r"\\server\share\a.tif"))
    assert not is_local("https://example.org/a.tif")


def test_bands_may_lie_on_drives() -> None:
    text = r"red=C:\2024\B04.tif,green=D:/2024/B03.tif,nir=\\server\share\B08.tif"
    assert is_band_files(text)
    assert list_scenes([text, r"C:\a.tif"]) == [text, r"C:\a.tif"]


def test_a_reader_that_has_gone_is_a_broken_pipe(windows: None) -> None:
    with pytest.raises(BrokenPipeError), to_a_reader():
        raise OSError(errno.EINVAL, "Invalid argument")
    with pytest.raises(OSError, match="full"), to_a_reader():
        raise OSError(errno.ENOSPC, "full")


def test_elsewhere_an_invalid_argument_is_no_broken_pipe() -> None:
    with pytest.raises(OSError, match="Invalid") as caught, to_a_reader():
        raise OSError(errno.EINVAL, "Invalid argument")
    assert not isinstance(caught.value, BrokenPipeError)


def test_json_goes_through_any_code_page(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), "cp850")
    monkeypatch.setattr(sys, "stdout", out)
    Console(as_json=True).report({"output": "Łódź.gpkg"}, [])
    assert out.buffer.getvalue().strip() == rb'{"output": "\u0141\u00f3d\u017a.gpkg"}'


def test_a_name_beyond_the_code_page_ends_no_run(rsseg, make_raster) -> None:
    path = make_raster("Łódź.tif", np.ones((4, 4), np.uint8))
    ended = rsseg("info", path.name, PYTHONIOENCODING="ascii")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(r"\u0141\xf3d\u017a.tif")


def test_the_demo_shows_commands_that_cmd_takes(windows: None) -> None:
    folder = PureWindowsPath("my demo") / "source"
    assert demo._typed(["info", str(folder)]) == r'info "my demo\source"'


def test_patterns_reach_rsseg_and_a_closed_window_ends_it_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    calls: list[tuple[object, object]] = []
    monkeypatch.setattr(app, "app", lambda **options: given.append(options))
    for of_this_process in ("collect_seldom", "collect_no_more"):
        monkeypatch.setattr(app, of_this_process, lambda: None)
    monkeypatch.setattr(stops, "STOPS", [signal.SIGINT, signal.SIGTERM, 21])  # the third is there on Windows alone
    monkeypatch.setattr(signal, "signal", lambda *call: calls.append(call))
    app.main()
    assert given == [{"prog_name": "rsseg", "windows_expand_args": False}]
    assert calls == [(signal.SIGINT, stops.interrupt), (signal.SIGTERM, stops.terminate), (21, stops.terminate)]
