import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.shutil import copy
from untrained import save_untrained

from rsseg_cli import segment
from rsseg_cli.errors import RssegError
from rsseg_cli.raster.dataset import open_raster
from rsseg_cli.raster.files import refuse_changed, stamps_of
from rsseg_cli.raster.labels import open_label_raster
from rsseg_cli.raster.scene import open_file


@pytest.fixture
def path(make_raster) -> Path:
    return make_raster("scene.tif", np.ones((4, 64, 64), "uint8"), photometric="minisblack")


def touch(path: Path) -> None:
    """As if it were written anew with the same bytes."""
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1000))


def test_a_scene_that_changes_is_read_no_further(path: Path) -> None:
    scene = open_file(str(path))
    scene.values()
    touch(path)
    with pytest.raises(RssegError, match=r"scene\.tif: was changed or removed while it was read"):
        scene.values()
    open_file(str(path)).values()


def test_so_is_a_label_map(make_raster) -> None:
    path = make_raster("mask.tif", np.ones((8, 8), "uint8"))
    labels = open_label_raster(str(path))
    labels.read()
    touch(path)
    with pytest.raises(RssegError, match="was changed"):
        labels.read()


def test_so_is_a_vrt_when_a_file_that_it_lists_changes(path: Path) -> None:
    copy(path, path.with_suffix(".vrt"), driver="VRT")
    scene = open_file(str(path.with_suffix(".vrt")))
    scene.values()
    touch(path)
    with pytest.raises(RssegError, match=r"scene\.tif: was changed"):
        scene.values()


def test_what_other_programs_write_beside_a_raster_changes_nothing(path: Path) -> None:
    aux = Path(f"{path}.aux.xml")
    aux.write_text("<PAMDataset></PAMDataset>")
    scene = open_file(str(path))
    touch(aux)
    assert scene.values().shape == (4, 64, 64)


def test_what_is_removed_has_changed(path: Path) -> None:
    stamps = stamps_of([str(path), "/vsicurl/http://somewhere/x.tif"])
    refuse_changed(stamps)
    path.unlink()
    with pytest.raises(RssegError, match="removed"):
        refuse_changed(stamps)


def test_no_map_is_delivered_of_a_scene_that_changed(make_raster, tmp_path: Path) -> None:
    path = make_raster("large.tif", np.ones((4, 300, 300), "uint8"), photometric="minisblack")
    model = save_untrained(tmp_path / "model.safetensors")

    def track(steps, label: str, total: int):
        for step in steps:
            touch(path)
            yield step

    with pytest.raises(RssegError, match=r"large\.tif: was changed"):
        segment(path, model, output=tmp_path / "map.tif", bands="red=1,green=2,blue=3,nir=4", tile_px=64, track=track)
    assert sorted(each.name for each in tmp_path.iterdir() if "map" in each.name and each.is_file()) == []


def test_a_link_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "circle.tif").symlink_to(tmp_path / "circle.tif")
    with (
        pytest.raises(RssegError, match=r"circle\.tif: is a link that leads nowhere"),
        open_raster(str(tmp_path / "circle.tif")),
    ):
        pass


def test_a_format_that_is_not_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "cube.nc").write_bytes(b"CDF\x01" + bytes(100))
    with pytest.raises(RssegError) as raised, open_raster(str(tmp_path / "cube.nc")):
        pass
    assert "by its name it is netCDF: make a GeoTIFF of it with gdal_translate" in raised.value.hint


def test_a_window_that_memory_does_not_hold(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rsseg_cli.raster.dataset.free_memory", lambda: 100 << 20)
    monkeypatch.setattr("rsseg_cli.raster.dataset.SMALL_BYTES", 1000)
    scene = open_file(str(path))
    scene.values()
    monkeypatch.setattr("rsseg_cli.raster.dataset.free_memory", lambda: 100_000)
    with pytest.raises(
        RssegError, match="0 MiB of memory are needed for 64 x 64 pixels of 4 bands, and 0 MiB are free"
    ):
        scene.values()


def test_a_block_that_memory_does_not_hold(make_raster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rsseg_cli.raster.dataset.SMALL_BYTES", 1000)
    monkeypatch.setattr("rsseg_cli.raster.dataset.free_memory", lambda: 1 << 20)
    path = make_raster("strip.tif", np.ones((2048, 2048), "uint8"), tiled=True, blockxsize=2048, blockysize=2048)
    with pytest.raises(RssegError) as raised:
        open_file(str(path))
    assert "stored in blocks of 2048 x 2048 pixels, of 4 MiB each" in raised.value.problem
    assert "gdal_translate -co TILED=YES" in raised.value.hint
    with rasterio.open(path) as dataset:  # not the file's fault
        assert dataset.read().all()
