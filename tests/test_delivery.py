import errno
import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from broken import content, file_size_limit

from rsseg_cli import delivery
from rsseg_cli.delivery import deliver
from rsseg_cli.errors import RssegError

OLD, NEW = b"old", b"new and longer"


def check(path: Path) -> None:
    if path.read_bytes() != NEW:
        raise RssegError(f"{path}: damaged", "mend it")


def put(target: Path, content: bytes = NEW, **options: object) -> None:
    with deliver(target, check, **options) as folder:
        (folder / target.name).write_bytes(content)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "map.tif"


@pytest.fixture
def renaming_damages(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What gets the target's name is not what had another before."""
    really = Path.replace

    def replace(self: Path, to: Path) -> Path:
        really(self, to)
        if to == target and self.name == target.name:
            target.write_bytes(b"damaged")
        return to

    monkeypatch.setattr(Path, "replace", replace)


def test_a_finished_file_stands_alone_under_its_name(target: Path) -> None:
    put(target)
    assert target.read_bytes() == NEW
    assert names(target.parent) == ["map.tif"]


def test_it_is_not_there_before_the_block_ends(target: Path) -> None:
    target.write_bytes(OLD)
    with deliver(target, check, overwrite=True) as folder:
        (folder / target.name).write_bytes(NEW)
        assert target.read_bytes() == OLD
    assert target.read_bytes() == NEW


def test_whoever_reads_the_old_file_reads_it_to_its_end(target: Path) -> None:
    target.write_bytes(OLD)
    with target.open("rb") as held:
        put(target, overwrite=True)
        assert held.read() == OLD  # renamed over, never written into


def test_what_belonged_to_the_old_file_goes_and_sidecars_come(target: Path) -> None:
    for name in ("map.tif", "map.tif.aux.xml", "map.tif.ovr", "map.tif.msk", "map.qml", "map.txt", "other.tif.ovr"):
        target.with_name(name).write_bytes(OLD)
    with deliver(target, check, overwrite=True, sidecars=[target.with_suffix(".qml")]) as folder:
        for name in ("map.tif", "map.qml", "scratch.tif", "scratch.tif.aux.xml"):
            (folder / name).write_bytes(NEW)
    assert names(target.parent) == ["map.qml", "map.tif", "map.txt", "other.tif.ovr"]
    assert target.with_suffix(".qml").read_bytes() == NEW


def test_a_crs_that_gdal_puts_beside_the_file_comes_along(target: Path) -> None:
    with deliver(target, check) as folder:
        (folder / "map.tif").write_bytes(NEW)
        (folder / "map.tif.aux.xml").write_bytes(NEW)
    assert names(target.parent) == ["map.tif", "map.tif.aux.xml"]


class Stop(BaseException):
    pass


@pytest.mark.parametrize("error", [KeyboardInterrupt, Stop, ValueError, MemoryError, OSError])
@pytest.mark.parametrize("existed", [True, False])
def test_an_error_in_the_block_passes_unchanged_and_leaves_no_trace(
    target: Path, error: type[BaseException], existed: bool
) -> None:
    if existed:
        target.write_bytes(OLD)
    thrown = error("of the caller")

    def broken_off() -> None:
        with deliver(target, check, overwrite=True) as folder:
            (folder / target.name).write_bytes(NEW)
            raise thrown

    with pytest.raises(error) as caught:
        broken_off()
    assert caught.value is thrown  # an input's error must not be taken for the output's
    assert names(target.parent) == (["map.tif"] if existed else [])
    assert not existed or target.read_bytes() == OLD


def test_a_damaged_file_never_gets_its_name(target: Path) -> None:
    target.write_bytes(OLD)
    with pytest.raises(RssegError, match="damaged"):
        put(target, b"ne", overwrite=True)
    assert target.read_bytes() == OLD
    assert names(target.parent) == ["map.tif"]


@pytest.mark.parametrize("existed", [True, False])
@pytest.mark.parametrize("links", [True, False])
@pytest.mark.usefixtures("renaming_damages")
def test_a_file_damaged_by_its_last_step_is_taken_back(
    target: Path, monkeypatch: pytest.MonkeyPatch, existed: bool, links: bool
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no links here")

    if existed:
        target.write_bytes(OLD)
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(RssegError, match="damaged"):
        put(target, overwrite=True)
    assert names(target.parent) == (["map.tif"] if existed and links else [])
    assert not (existed and links) or target.read_bytes() == OLD


@pytest.mark.usefixtures("renaming_damages")
def test_what_belongs_to_the_old_file_comes_back_with_it(target: Path) -> None:
    style, statistics = target.with_suffix(".qml"), target.with_name("map.tif.aux.xml")
    for path in (target, style, statistics):
        path.write_bytes(OLD)

    def write() -> None:
        with deliver(target, check, overwrite=True, sidecars=[style]) as folder:
            for path in (target, style):
                (folder / path.name).write_bytes(NEW)

    with pytest.raises(RssegError, match="damaged"):
        write()
    assert {path.name: path.read_bytes() for path in target.parent.iterdir()} == dict.fromkeys(
        ("map.tif", "map.qml", "map.tif.aux.xml"), OLD
    )


def test_how_long_looking_took_is_told_to_who_asks(target: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "rsseg_cli")
    with deliver(target, lambda _: time.sleep(0.01)) as folder:
        (folder / target.name).write_bytes(NEW)
    (said,) = caplog.messages
    assert said.startswith(f"verified {target} in ")  # once: under its final name it is the same file
    assert 0.01 <= float(said.split()[-2]) < 1


def test_a_lock_that_cannot_be_released_spoils_no_delivery(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: delivery.FileLock, force: bool = False) -> None:
        raise OSError(errno.EIO, "closing failed")

    with monkeypatch.context() as patched:
        patched.setattr(delivery.FileLock, "release", broken)
        put(target)
    assert names(target.parent) == ["map.tif"]


@pytest.mark.usefixtures("renaming_damages")
def test_the_old_file_survives_an_interrupt_of_the_last_look(target: Path) -> None:
    target.write_bytes(OLD)

    def interrupted_in_place(path: Path) -> None:
        if path == target:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), deliver(target, interrupted_in_place, overwrite=True) as folder:
        (folder / target.name).write_bytes(NEW)
    assert target.read_bytes() == OLD


def refused(target: Path, message: str, **options: object) -> RssegError:
    """The writer never gets to its work, and the folder stays as it is."""
    before = {p: p.read_bytes() for p in target.parent.iterdir() if p.is_file()} if target.parent.is_dir() else {}
    worked = False
    with pytest.raises(RssegError, match=message) as caught, deliver(target, check, **options):
        worked = True
    assert not worked
    assert {p: p.read_bytes() for p in before} == before
    if target.parent.is_dir():
        assert not [p for p in target.parent.iterdir() if p.name.endswith(".rsseg")]
    assert caught.value.kind == "output"
    assert caught.value.hint
    return caught.value


def test_refuses_what_exists(target: Path) -> None:
    target.write_bytes(OLD)
    assert "--overwrite" in refused(target, r"map\.tif: exists already").hint


def test_refuses_a_sidecar_that_exists(target: Path) -> None:
    style = target.with_suffix(".qml")
    style.write_bytes(OLD)
    refused(target, r"map\.qml: exists already", sidecars=[style])


def test_refuses_a_link_to_nowhere(target: Path) -> None:
    target.symlink_to(target.parent / "nowhere")
    refused(target, "exists already")
    assert target.is_symlink()


def test_refuses_a_folder_even_with_overwrite(target: Path) -> None:
    target.mkdir()
    assert "NAME.tif" in refused(target, "is a folder", overwrite=True).hint
    style = target.with_name("b.qml")
    style.mkdir()
    refused(target.with_name("b.tif"), r"b\.qml: is a folder", overwrite=True, sidecars=[style])


def test_refuses_a_missing_parent(tmp_path: Path) -> None:
    assert "mkdir -p" in refused(tmp_path / "no" / "map.tif", "there is no folder").hint


def test_refuses_a_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(OLD)
    with pytest.raises(RssegError, match="there is no folder"):
        put(tmp_path / "file" / "map.tif")


@pytest.mark.parametrize("name", ["n" * 197 + ".tif", "n" * 250 + ".tif", "n" * 300 + ".tif", "\udcff.tif"])
def test_refuses_names_that_the_disk_or_gdal_cannot_take(tmp_path: Path, name: str) -> None:
    with pytest.raises(RssegError, match=r"too long|UTF-8"):
        put(tmp_path / name)
    assert names(tmp_path) == []


def test_takes_the_longest_name_it_allows(tmp_path: Path) -> None:
    put(tmp_path / ("n" * 196 + ".tif"))
    assert len(names(tmp_path)[0]) == 200


def test_refuses_an_input_by_any_of_its_names(target: Path) -> None:
    target.write_bytes(OLD)
    soft, hard = target.with_name("soft.tif"), target.with_name("hard.tif")
    soft.symlink_to(target)
    hard.hardlink_to(target)
    for name in (target, soft, hard, target.parent / ".." / target.parent.name / "map.tif"):
        refused(target, "is also an input", overwrite=True, inputs=[str(name)])
        refused(Path(name), "is also an input", overwrite=True, inputs=[str(target)])


def test_inputs_that_are_no_files_are_no_obstacle(target: Path) -> None:
    target.write_bytes(OLD)
    put(target, overwrite=True, inputs=iter(["/vsicurl/https://example.org/map.tif", "missing.tif", "n" * 300]))
    assert target.read_bytes() == NEW


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_refuses_a_database_that_is_open(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "map.gpkg").write_bytes(OLD)
    (tmp_path / f"map.gpkg{suffix}").write_bytes(OLD)
    assert f"map.gpkg{suffix}" in refused(tmp_path / "map.gpkg", "is open in another program", overwrite=True).hint


def test_refuses_a_database_opened_while_we_wrote(tmp_path: Path) -> None:
    target = tmp_path / "map.gpkg"
    target.write_bytes(OLD)

    def opened_meanwhile(finished: Path) -> None:
        check(finished)
        target.with_name("map.gpkg-wal").write_bytes(OLD)

    with pytest.raises(RssegError, match="is open"), deliver(target, opened_meanwhile, overwrite=True) as folder:
        (folder / target.name).write_bytes(NEW)
    assert names(tmp_path) == ["map.gpkg", "map.gpkg-wal"]
    assert target.read_bytes() == OLD


def test_takes_back_what_came_beside_a_database_opened_at_the_last_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, really = tmp_path / "map.gpkg", Path.replace
    target.write_bytes(OLD)

    def replace(self: Path, to: Path) -> Path:
        target.with_name("map.gpkg-wal").write_bytes(OLD)
        return really(self, to)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(RssegError, match="is open in another program"):
        put(target, overwrite=True)
    assert target.read_bytes() == OLD


def test_refuses_a_geopackage_that_sqlite_really_holds_in_wal_mode(tmp_path: Path) -> None:
    target = tmp_path / "map.gpkg"
    with closing(sqlite3.connect(target)) as held:
        held.execute("PRAGMA journal_mode=WAL")
        held.execute("CREATE TABLE t (x)")
        held.commit()
        refused(target, "is open in another program", overwrite=True)
        held.execute("INSERT INTO t VALUES (1)")
        held.commit()
    with closing(sqlite3.connect(target)) as again:
        assert again.execute("SELECT x FROM t").fetchall() == [(1,)]
    put(target, overwrite=True)


def test_refuses_a_second_writer_in_this_process(target: Path) -> None:
    with deliver(target, check) as folder:
        (folder / target.name).write_bytes(NEW)
        with pytest.raises(RssegError, match="another rsseg run"):
            put(target)
    assert target.read_bytes() == NEW


def test_refuses_a_second_writer_in_another_process(target: Path, processes) -> None:
    started, go = target.with_name("started"), target.with_name("go")
    processes.start(
        f"write_labels(Path({str(target)!r}), between=lambda row: "
        f"(Path({str(started)!r}).touch(), [time.sleep(0.01) for _ in range(1000) if not Path({str(go)!r}).exists()]))"
    )
    deadline = time.monotonic() + 10
    while not started.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    try:
        with pytest.raises(RssegError, match="another rsseg run"):
            put(target)
        with pytest.raises(RssegError, match="another rsseg run"):
            put(target, overwrite=True)
    finally:
        go.touch()
    assert processes.end() == 0
    put(target, overwrite=True)


def test_looks_again_once_it_is_alone(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = delivery._lock

    def slow(folder: Path, of: Path) -> object:
        lock = real(folder, of)
        target.write_bytes(OLD)  # by a run that ended just before ours had the lock
        return lock

    monkeypatch.setattr(delivery, "_lock", slow)
    with pytest.raises(RssegError, match="exists already"):
        put(target)
    assert target.read_bytes() == OLD


def test_a_staging_folder_that_vanishes_under_the_lock_is_another_run(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.mkdir

    def gone_at_once(self: Path, *args: object, **kwargs: object) -> None:
        real(self, *args, **kwargs)
        self.rmdir()

    monkeypatch.setattr(Path, "mkdir", gone_at_once)
    with pytest.raises(RssegError, match="another rsseg run"):
        put(target)


def test_cleans_up_after_a_killed_run(target: Path) -> None:
    staging = target.with_name(".map.tif.rsseg")
    (staging / "folder").mkdir(parents=True)
    for name in ("lock", "blocks.tif", "folder/file", "map.tif", "map.tif.aux.xml", "before"):
        (staging / name).write_bytes(OLD)
    put(target)
    assert names(target.parent) == ["map.tif"]
    assert target.read_bytes() == NEW


def test_does_not_follow_a_link_in_place_of_the_staging_folder(target: Path) -> None:
    precious = target.with_name("precious")
    precious.mkdir()
    (precious / "file").write_bytes(OLD)
    target.with_name(".map.tif.rsseg").symlink_to(precious)
    with pytest.raises(RssegError, match="is a link"):
        put(target)
    assert (precious / "file").read_bytes() == OLD


def test_a_file_in_place_of_the_staging_folder_is_said(target: Path) -> None:
    target.with_name(".map.tif.rsseg").write_bytes(OLD)
    with pytest.raises(RssegError, match=r"map\.tif: could not be written: File exists"):
        put(target)


def test_refuses_a_folder_without_rights(tmp_path: Path, processes) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    for parent in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        parent.chmod(0o755)
    drop = "os.setuid(65534); " if os.geteuid() == 0 else ""
    if processes.run(f"{drop}open(rasterio.__file__).close()") != 0:
        pytest.skip("root may write anywhere, and there is no other user to become who can read the libraries")
    assert processes.run(f"{drop}write_labels(Path({str(locked / 'map.tif')!r}), size=10)") == 1
    assert processes.run(f"{drop}write_squares(Path({str(locked / 'map.gpkg')!r}), count=3)") == 1
    assert names(locked) == []


def test_space_that_is_not_there_is_said_before_any_work(target: Path) -> None:
    free = shutil.disk_usage(target.parent).free
    worked = False
    with (
        pytest.raises(RssegError, match=r"map\.tif: .*needed, .*free") as caught,
        deliver(target, check, expected_bytes=free * 2),
    ):
        worked = True
    assert not worked
    assert caught.value.kind == "space"
    assert names(target.parent) == []


def test_a_disk_too_small_is_noticed_with_a_quota_too(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with file_size_limit(100_000), pytest.raises(RssegError, match="too large") as caught:
        put(target, expected_bytes=200_000)
    assert caught.value.kind == "space"
    assert names(target.parent) == []


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL])
def test_file_systems_that_cannot_reserve_are_written_without(
    target: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def unable(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", unable, raising=False)
    put(target, expected_bytes=1000)
    assert target.read_bytes() == NEW


@pytest.mark.parametrize("entries", [0, 1])
def test_a_disk_without_room_for_the_hidden_folder_or_its_lock(disk, entries: int) -> None:
    folder = disk(64, entries)
    with pytest.raises(RssegError, match=r"map\.tif: could not be written: No space left") as caught:
        put(folder / "map.tif")
    assert caught.value.kind == "space"
    assert names(folder) == []


ACTIONS = ("kill", "no space")
# Changes in a row that may fail without harm: the names by which what was there would come back.
HARMLESS = 4
FORMATS = {
    "map.tif": "write_labels(Path({path!r}), size=40, overwrite=True)",
    "map.gpkg": "write_squares(Path({path!r}), count=20, overwrite=True)",
}


@pytest.mark.parametrize("existed", [True, False])
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("action", ACTIONS)
def test_every_change_of_the_disk_may_be_the_last(
    tmp_path: Path, processes, action: str, name: str, existed: bool
) -> None:
    """Killed, or told that the disk is full, at the first change that Python makes, the second, and so on."""
    target, job = tmp_path / name, FORMATS[name].format(path=str(tmp_path / name))
    wanted = reference(tmp_path / "reference" / name, processes)
    ends = []
    for number in range(1, 100):
        for path in tmp_path.iterdir():
            if path.is_file():
                path.unlink()
        if existed:
            target.write_bytes(OLD)
            target.with_name(f"{name}.aux.xml").write_bytes(OLD)
        ends.append(processes.run(f"at_change({number}, {action!r}); {job}"))
        assert ends[-1] in {"kill": (0, -9), "no space": (0, 1)}[action], number
        is_old = (target.read_bytes() == OLD) if target.exists() else not existed
        assert (is_old and ends[-1] != 0) or content(target) == wanted
        if action == "no space":
            assert ends[-1] == 0 or is_old
        # The folder may stay only where its removal was what failed; the next run takes it away.
        assert processes.run(job) == 0
        assert content(target) == wanted
        assert {p.name for p in tmp_path.iterdir()} <= {name, "map.qml", "reference"}
        if ends[-HARMLESS:] == [0] * HARMLESS:
            break
    assert ends.count(0) < 2 * HARMLESS
    assert len(ends) > 10


def reference(path: Path, processes) -> object:
    path.parent.mkdir()
    assert processes.run(FORMATS[path.name].format(path=str(path))) == 0
    return content(path)


MOMENTS = 10
LONG = {
    "map.tif": "write_labels(Path({path!r}), size=1400, overwrite=True)",
    "map.gpkg": "write_squares(Path({path!r}), count=20000, overwrite=True)",
}


@pytest.mark.parametrize("existed", [True, False])
@pytest.mark.parametrize("name", LONG)
def test_killed_at_any_moment(tmp_path: Path, processes, name: str, existed: bool) -> None:
    target, job = tmp_path / name, LONG[name].format(path=str(tmp_path / name))
    assert processes.run(job) == 0
    wanted = content(target)
    started = time.monotonic()
    assert processes.run(job) == 0
    seconds = time.monotonic() - started
    moments = np.random.default_rng(7).uniform(0, seconds * 0.95, MOMENTS)
    killed = 0
    for moment in moments:
        target.unlink()
        if existed:
            target.write_bytes(OLD)
        end = processes.run(job, kill_after=moment)
        assert end in (0, -9)
        killed += end == -9
        is_old = (target.read_bytes() == OLD) if target.exists() else not existed
        assert (is_old and end != 0) or content(target) == wanted
        put_small(target, processes)
    assert killed >= MOMENTS // 2


def put_small(target: Path, processes) -> None:
    """The next run, as a short one; it cleans up."""
    assert processes.run(FORMATS[target.name].format(path=str(target))) == 0
    content(target)
    assert {p.name for p in target.parent.iterdir()} <= {target.name, "map.qml"}
