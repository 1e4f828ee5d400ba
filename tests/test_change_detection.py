"""`detect_change` as a function."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from rsseg_cli import detect_change, open_scene, vectorize
from rsseg_cli.errors import RssegError
from rsseg_cli.raster.arrays import array_of

PLACE = Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)


@pytest.fixture
def dates(make_raster) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    before = np.kron(rng.integers(400, 1400, (3, 12, 15)), np.ones((10, 10))) + 40 * rng.standard_normal((3, 120, 150))
    after = before + 20 * rng.standard_normal(before.shape)
    after[:, 40:60, 50:80] += 900
    return make_raster("before.tif", before.astype(np.uint16)), make_raster("after.tif", after.astype(np.uint16))


def test_files_give_files_and_a_report(dates: tuple[Path, Path], tmp_path: Path) -> None:
    output, polygons = tmp_path / "m.tif", tmp_path / "p.parquet"
    report = detect_change(*dates, output, polygons=polygons, min_area=20)
    assert (report["change"], report["polygons"]) == (str(output), str(polygons))
    assert polygons.is_file()
    with rasterio.open(output) as dataset:
        mask = dataset.read(1)
    assert report["changed_pixels"] == (mask == 1).sum() > 300
    with pytest.raises(RssegError, match="exists already"):
        detect_change(*dates, output)


@pytest.mark.parametrize("held", [False, True])
def test_without_an_output_the_mask_is_what_the_file_holds(
    dates: tuple[Path, Path], tmp_path: Path, held: bool
) -> None:
    detect_change(*dates, tmp_path / "m.tif", probability=tmp_path / "s.tif", min_area=20)
    before, after = (open_scene(date).read() for date in dates) if held else dates
    mask = detect_change(before, after, min_area=20)
    with rasterio.open(tmp_path / "m.tif") as dataset, rasterio.open(tmp_path / "s.tif") as scores:
        np.testing.assert_array_equal(mask.values, dataset.read(1))
        np.testing.assert_array_equal(mask.score.values, scores.read(1))
        assert (mask.attrs["crs"], mask.attrs["transform"]) == (dataset.crs, dataset.transform)
        theirs = vectorize(tmp_path / "m.tif", classes="changed", exact=True)
    assert mask.attrs["report"]["changed_pixels"] == (mask == 1).sum()
    assert mask.attrs["report"]["warnings"] == []
    mine = vectorize(mask, classes="changed", exact=True)
    assert mine.geometry.to_wkb().tolist() == theirs.geometry.to_wkb().tolist()


def test_arrays_that_cover_different_ground(dates: tuple[Path, Path]) -> None:
    before, after = (open_scene(date).read() for date in dates)
    mask = detect_change(before[:, 20:, 10:], after[:, :100, :], align="grid")
    assert mask.shape == (80, 140)
    assert mask.attrs["transform"] == PLACE @ Affine.translation(10, 20)
    assert (mask[20:40, 40:70] == 1).mean() > 0.9
    np.testing.assert_allclose(mask.x[:2], [500_005.25, 500_005.75])


def test_an_array_and_a_file(dates: tuple[Path, Path], tmp_path: Path) -> None:
    before = open_scene(dates[0])
    moved = array_of(before.values() + 5, before.names, before.grid, "earlier")
    report = detect_change(moved, dates[1], tmp_path / "m.tif", polygons=tmp_path / "p.gpkg")
    assert report["changed_pixels"] > 300


def test_the_example_runs(dates: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [line.strip() for line in (detect_change.__doc__ or "").splitlines() if line.startswith(" " * 8)]
    names: dict[str, object] = {}
    exec("\n".join(lines), names)
    assert Path("change.gpkg").is_file()
    assert len(names["patches"]) == 1


def test_what_is_for_files_is_refused_for_arrays(dates: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(RssegError, match="are for files"):
        detect_change(*dates, polygons=tmp_path / "p.gpkg")
    with pytest.raises(RssegError, match="--method best"):
        detect_change(*dates, method="best")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["after.tif", "before.tif"]
