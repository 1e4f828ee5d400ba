"""Writers of polygons on disks that are too small, and under limits on the size of files."""

import sqlite3
from contextlib import closing
from pathlib import Path

import broken
import numpy as np
import pyogrio
import pytest
from broken import SCHEME, content, outcome, write_squares

from rsseg_cli import delivery
from rsseg_cli.classes import UNLABELLED
from rsseg_cli.errors import RssegError
from rsseg_cli.vector import write as module
from rsseg_cli.vector.formats import FORMATS, GEOPACKAGE, Format
from rsseg_cli.vector.table import Features
from rsseg_cli.vector.write import write_features

COUNT = 3000
MASK = np.random.default_rng(1).choice(np.array([1, 2, 3, UNLABELLED], np.uint8), (60, 80))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "map.gpkg"


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, object]:
    path = tmp_path_factory.mktemp("reference") / "map.gpkg"
    write_squares(path, COUNT)
    return path, content(path)


def is_damaged(path: Path, wanted: object) -> bool:
    try:
        return content(path) != wanted or not has_index(path)
    except Exception:  # each broken file has its own
        return True


def has_index(path: Path) -> bool:
    """Without one a reader finds the same, slowly."""
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT count(*) FROM rtree_squares_geom_rowid").fetchone() == (COUNT,)


def check_promise(path: Path, error: RssegError | None, before: bytes | None, wanted: object) -> None:
    if error is None:
        assert not is_damaged(path, wanted)
    else:
        assert (path.read_bytes() if path.exists() else None) == before
    assert names(path.parent) in ([], ["map.gpkg"])


def disk_sizes(file: Path) -> list[int]:
    needed = file.stat().st_size // 1024
    return [16, *(needed * n // 10 for n in range(2, 25, 2)), 8192]


@pytest.mark.parametrize("reserve", [True, False])
def test_disks_of_all_sizes(disk, reference, monkeypatch: pytest.MonkeyPatch, reserve: bool) -> None:
    file, wanted = reference
    if not reserve:
        monkeypatch.setattr(delivery, "_reserve", lambda *_: None)
    ends = []
    for kib in disk_sizes(file):
        path = disk(kib) / "map.gpkg"
        error = outcome(write_squares, path, count=COUNT)
        check_promise(path, error, None, wanted)
        assert error is None or error.kind == "space"
        ends.append(error is None)
    assert ends[-1]
    assert sum(not end for end in ends) >= 4


@pytest.mark.parametrize("reserve", [True, False])
def test_file_size_limits_at_an_old_file(path: Path, reference, monkeypatch: pytest.MonkeyPatch, reserve: bool) -> None:
    file, wanted = reference
    write_squares(path, count=10)
    old = path.read_bytes()
    if not reserve:
        monkeypatch.setattr(delivery, "_reserve", lambda *_: None)
    size = file.stat().st_size
    failed = 0
    for limit in (0, 1024, *(size * n // 9 for n in range(1, 9)), size - 1, size * 4):
        with broken.file_size_limit(limit):
            error = outcome(write_squares, path, count=COUNT, overwrite=True)
        check_promise(path, error, old, wanted)
        failed += error is not None
        if error is None:
            path.write_bytes(old)
    assert 8 <= failed <= 11


def test_without_verification_damage_would_be_silent(disk, reference, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shows that the disks above are broken enough for their tests to fail."""
    file, wanted = reference
    monkeypatch.setattr(delivery, "_reserve", lambda *_: None)
    monkeypatch.setattr(module, "_verify", lambda *_: None)
    silent = 0
    for kib in range(file.stat().st_size // 1024 // 2, file.stat().st_size // 1024 * 2, 32):
        path = disk(kib) / "map.gpkg"
        silent += outcome(write_squares, path, count=COUNT) is None and is_damaged(path, wanted)
    assert silent


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
@pytest.mark.parametrize("reserve", [True, False])
def test_each_format_on_disks_of_all_sizes(
    disk, tmp_path: Path, form: Format, make_features, monkeypatch: pytest.MonkeyPatch, reserve: bool
) -> None:
    name, features = f"map{form.suffixes[0]}", make_features(MASK)
    write_features(tmp_path / name, features, SCHEME, "classes")
    if not reserve:
        monkeypatch.setattr(delivery, "_reserve", lambda *_: None)
    ends = []
    for kib in disk_sizes(tmp_path / name):
        target = disk(kib) / name
        error = outcome(write_features, target, features=features, scheme=SCHEME, layer="classes")
        assert names(target.parent) == ([] if error else [name])
        assert error.kind == "space" if error else is_whole(form, target, features)
        ends.append(error is None)
    assert ends[-1]
    assert sum(not end for end in ends) >= 3


def is_whole(form: Format, path: Path, features: Features) -> bool:
    has_style = form is not GEOPACKAGE or len(pyogrio.read_dataframe(path, layer="layer_styles")) == 1
    return form.count(path, "classes")[:2] == (features.rows, features.rows) and has_style


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_each_format_at_an_old_file_under_file_size_limits(
    tmp_path: Path, form: Format, make_features, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, features = tmp_path / f"map{form.suffixes[0]}", make_features(MASK)
    options = {"features": features, "scheme": SCHEME, "layer": "classes"}
    write_features(path, **options)
    size = path.stat().st_size
    path.write_bytes(b"old")
    monkeypatch.setattr(delivery, "_reserve", lambda *_: None)
    for limit in (0, 1024, *(size * n // 7 for n in range(1, 7)), size - 1):
        with broken.file_size_limit(limit):
            assert outcome(write_features, path, overwrite=True, **options) is not None
        assert path.read_bytes() == b"old"
        assert names(path.parent) == [path.name]


def test_adding_to_a_file_on_disks_of_all_sizes(disk, tmp_path: Path, make_features) -> None:
    features = make_features(MASK)
    options = {"features": features, "scheme": SCHEME, "layer": "classes"}
    write_features(tmp_path / "map.gpkg", **options)
    before = (tmp_path / "map.gpkg").read_bytes()
    ends = []
    for share in (1.2, 2.1, 2.6, 3, 8):
        target = disk(int(len(before) * share) // 1024) / "map.gpkg"
        target.write_bytes(before)
        error = outcome(write_features, target, append=True, **options)
        assert names(target.parent) == ["map.gpkg"]
        assert (target.read_bytes() == before) == (error is not None)
        ends.append(error is None)
    assert not ends[0]
    assert ends[-1]
