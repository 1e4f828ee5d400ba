"""What leads through it all: whatever blocks are looked at, all outputs say the same, or there are none."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.transform import array_bounds
from rasterio.warp import calculate_default_transform, reproject
from rasterio.windows import Window
from scipy import ndimage

from rsseg_cli.change import comparison, detection
from rsseg_cli.change.detection import Request, detect
from rsseg_cli.change.methods import Choice
from rsseg_cli.change.pair import PairOptions
from rsseg_cli.errors import RssegError

SAMPLE = Path(__file__).parents[2] / "sample_scenes" / "change"
BEFORE, AFTER, TRUTH = (str(SAMPLE / f"{name}.tif") for name in ("before", "after", "truth"))
# What is tested here is alike for all methods; this one takes no time.
asked = partial(Request, choice=Choice("classical"))


def pixels(path: Path | str) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return np.asarray(dataset.read(1))


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def scores(mask: np.ndarray, truth: np.ndarray) -> float:
    """F1 where both say something."""
    held = (mask != 255) & (truth != 255)
    changed, true = (mask == 1) & held, (truth == 1) & held
    return float(2 * (changed & true).sum() / (changed.sum() + true.sum()))


def test_the_same_again_and_blocks_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for number, block_px in enumerate((512, 512, 96)):
        monkeypatch.setattr(comparison, "BLOCK_PX", block_px)
        monkeypatch.setattr(detection, "BLOCK_PX", block_px)
        score, polygons = tmp_path / f"s{number}.tif", tmp_path / f"p{number}.parquet"
        request = asked(BEFORE, AFTER, tmp_path / f"m{number}.tif", score=score, polygons=polygons, min_area=30)
        report = detect(request, 0.0)
        found.append((pixels(score), pixels(request.output), geopandas.read_parquet(polygons), report))
    for again, atol in ((found[1], 0), (found[2], 1e-5)):
        np.testing.assert_allclose(again[0], found[0][0], atol=atol)
        np.testing.assert_array_equal(again[1], found[0][1])
        assert (
            again[2]
            .drop(columns=["score_mean", "magnitude"])
            .equals(found[0][2].drop(columns=["score_mean", "magnitude"]))
        )
        np.testing.assert_allclose(again[2]["magnitude"], found[0][2]["magnitude"], atol=0.002)
        assert again[3]["changed_pixels"] == found[0][3]["changed_pixels"]


def test_small_patches_are_in_no_output(tmp_path: Path) -> None:
    whole = asked(BEFORE, AFTER, tmp_path / "w.tif", score=tmp_path / "ws.tif")
    sieved = asked(
        BEFORE, AFTER, tmp_path / "m.tif", polygons=tmp_path / "p.fgb", score=tmp_path / "s.tif", min_area=60
    )
    reports = detect(whole, 0.0), detect(sieved, 0.0)
    before, after = pixels(whole.output), pixels(sieved.output)
    parts, _ = ndimage.label(before == 1)
    is_small = np.bincount(parts.ravel()) * 0.64 < 60
    is_small[0] = False
    assert is_small.any()
    np.testing.assert_array_equal(after, np.where(is_small[parts], 0, before))
    assert reports[1]["changed_pixels"] == (after == 1).sum() < reports[0]["changed_pixels"]
    polygons = geopandas.read_file(tmp_path / "p.fgb")
    assert len(polygons) == ndimage.label(after == 1)[1]
    np.testing.assert_array_equal(pixels(tmp_path / "ws.tif"), pixels(tmp_path / "s.tif"))
    assert reports[1]["agreement_with_ir_mad"] == reports[0]["agreement_with_ir_mad"]


def test_agreement_is_that_of_two_masks(tmp_path: Path) -> None:
    one = asked(BEFORE, AFTER, tmp_path / "c.tif", threshold="otsu")
    other = asked(BEFORE, AFTER, tmp_path / "i.tif", choice=Choice("ir-mad"))
    reports = detect(one, 0.0), detect(other, 0.0)
    assert reports[0]["agreement_with_ir_mad"] == pytest.approx(
        iou(pixels(one.output) == 1, pixels(other.output) == 1), abs=1e-12
    )
    assert reports[1]["agreement_with_ir_mad"] == 1
    assert reports[0]["threshold"] == {"rule": "otsu", "value": 0.5}


@pytest.mark.parametrize("threshold", ["null", "0.3"])
def test_the_mask_is_the_score_cut_where_the_report_says(tmp_path: Path, threshold: str) -> None:
    request = asked(BEFORE, AFTER, tmp_path / "m.tif", score=tmp_path / "s.tif", threshold=threshold)
    found = detect(request, 0.0)["threshold"]
    assert found == {"rule": "null", "value": 0.5} if threshold == "null" else {"rule": "given", "value": 0.3}
    score, mask = pixels(tmp_path / "s.tif"), pixels(tmp_path / "m.tif")
    np.testing.assert_array_equal(mask == 1, np.nan_to_num(score) > found["value"])
    assert (mask == 1).any()


def test_the_mask_comes_last_and_not_at_all_if_polygons_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = asked(
        BEFORE, AFTER, tmp_path / "m.tif", score=tmp_path / "s.tif", polygons=tmp_path / "p.gpkg", overwrite=True
    )
    (tmp_path / "m.tif").write_text("an older one")

    def fail(path: Path, *_: Any, **__: Any) -> None:
        assert (tmp_path / "m.tif").read_text() == "an older one"
        assert not (tmp_path / "s.tif").exists()
        raise RssegError(f"{path}: no space", "free some", kind="space")

    monkeypatch.setattr("rsseg_cli.vector.write.write_features", fail)
    with pytest.raises(RssegError, match=r"p\.gpkg: no space"):
        detect(request, 0.0)
    assert [path.name for path in tmp_path.iterdir()] == ["m.tif"]
    assert (tmp_path / "m.tif").read_text() == "an older one"


@pytest.mark.parametrize("kib", [300, 640])
def test_a_disk_that_fills_up_is_said_and_left_as_it_was(disk: Callable[..., Path], kib: int) -> None:
    """Before all is compared, or when polygons are written."""
    folder = disk(kib)
    request = asked(BEFORE, AFTER, folder / "m.tif", polygons=folder / "p.gpkg", threshold=0.3)
    with pytest.raises(RssegError) as error:
        detect(request, 0.0)
    assert error.value.kind == "space"
    assert error.value.file in (str(folder / "m.tif"), str(folder / "p.gpkg"))
    assert list(folder.iterdir()) == []


def test_what_is_warned_of_is_in_the_report(make_raster, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    one, other = (ndimage.gaussian_filter(rng.standard_normal((3, 128, 128)), (0, 2, 2)) for _ in range(2))
    before, after = (str(make_raster(f"{n}.tif", v.astype(np.float32))) for n, v in (("one", one), ("other", other)))
    warnings = detect(asked(before, after, tmp_path / "m.tif"), 0.0)["warnings"]
    assert any("cannot be told" in text for text in warnings)
    assert any("hardly resemble" in text for text in warnings)
    everything = detect(asked(BEFORE, AFTER, tmp_path / "all.tif", threshold=0.01), 0.0)["warnings"]
    assert ["100%" in text for text in everything] == [True]
    nothing = detect(asked(BEFORE, AFTER, tmp_path / "no.tif", min_area=1e6), 0.0)["warnings"]
    assert ["--min-area" in text for text in nothing] == [True]


def awkward(path: str, target: Path, crs: int, scale: float, part: Window) -> str:
    """A raster in another coordinate system, with other pixels, cut and with a hole of nothing in it."""
    with rasterio.open(path) as dataset:
        bounds = array_bounds(*dataset.shape, dataset.transform)
        place, width, height = calculate_default_transform(
            dataset.crs, CRS.from_epsg(crs), dataset.width, dataset.height, *bounds
        )
        place, width, height = place @ Affine.scale(scale), round(width / scale), round(height / scale)
        values, nodata = dataset.read().astype(np.float32), -1.0
        values[:, (values == (dataset.nodata or 0)).all(axis=0)] = nodata
        brought = np.full((dataset.count, height, width), nodata, np.float32)
        reproject(
            values,
            brought,
            src_transform=dataset.transform,
            src_crs=dataset.crs,
            src_nodata=nodata,
            dst_transform=place,
            dst_crs=CRS.from_epsg(crs),
            dst_nodata=nodata,
            resampling=Resampling.cubic if scale <= 1 else Resampling.average,
        )
        names = dataset.descriptions
    rows, cols = part.toslices()
    brought = brought[:, rows, cols]
    brought[:, 20:30, 20:30] = nodata
    profile = {"driver": "GTiff", "count": len(brought), "height": brought.shape[1], "width": brought.shape[2]}
    place = place @ Affine.translation(part.col_off, part.row_off)
    with rasterio.open(target, "w", dtype="float32", crs=crs, transform=place, nodata=nodata, **profile) as dataset:
        dataset.write(brought)
        dataset.descriptions = names
    return str(target)


def test_an_awkward_pair(tmp_path: Path) -> None:
    """Two coordinate systems, two sizes of pixels, half an overlap, nodata in both."""
    later = awkward(AFTER, tmp_path / "later.tif", 3035, 1.4, Window(60, 0, 110, 190))
    report = detect(asked(BEFORE, later, tmp_path / "m.tif", polygons=tmp_path / "p.gpkg"), 0.0)
    with rasterio.open(tmp_path / "m.tif") as mask, rasterio.open(later) as after, rasterio.open(TRUTH) as dataset:
        # The coarser date gives the pixels.
        assert (mask.crs, mask.transform, mask.shape) == (after.crs, after.transform, after.shape)
        labels, truth = mask.read(1), np.full(mask.shape, 255, np.uint8)
        reproject(
            dataset.read(1), truth, src_transform=dataset.transform, src_crs=dataset.crs, src_nodata=255,
            dst_transform=mask.transform, dst_crs=mask.crs, dst_nodata=255, resampling=Resampling.nearest,
        )  # fmt: skip
        assert (labels[(after.read() == -1).any(axis=0)] == 255).all()
    assert (labels[20:30, 20:30] == 255).all()
    assert scores(labels, truth) > 0.5
    assert report["changed_area_m2"] == pytest.approx((labels == 1).sum() * 1.12**2, rel=0.02)
    assert geopandas.read_file(tmp_path / "p.gpkg", layer="p").crs == CRS.from_epsg(3035)


def test_a_real_awkward_pair(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "change" / "landsat_taizhou"
    # The earlier date in degrees, with pixels a third smaller, and but a half of it.
    earlier = awkward(str(folder / "t1.tif"), tmp_path / "t1.tif", 4326, 0.7, Window(0, 0, 300, 560))
    straight = asked(str(folder / "t1.tif"), str(folder / "t2.tif"), tmp_path / "straight.tif")
    bent = asked(earlier, str(folder / "t2.tif"), tmp_path / "bent.tif", PairOptions(), min_area=1800)
    detect(straight, 0.0)
    report = detect(bent, 0.0)
    with rasterio.open(bent.output) as mask, rasterio.open(folder / "t2.tif") as after:
        assert mask.crs == after.crs
        assert mask.transform.a == 30
        place = after.window(*mask.bounds).round_offsets().round_lengths()
        labels = mask.read(1)
        as_straight = pixels(straight.output)[place.toslices()]
    held = labels != 255
    assert 0.3 * 400 * 400 < held.sum() < 0.6 * 400 * 400
    assert (labels == as_straight)[held].mean() > 0.95
    assert report["changed_area_m2"] == pytest.approx((labels == 1).sum() * 900)
