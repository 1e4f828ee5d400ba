"""segment as a function, the names of its maps, and what is refused before torch is imported."""

import json
import subprocess
import sys
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import xarray
from affine import Affine
from rasterio.crs import CRS
from untrained import BANDS, save_untrained

from rsseg_cli import open_scene, segment
from rsseg_cli.errors import RssegError
from rsseg_cli.job import Settings
from rsseg_cli.segmentation import Request, label_paths, plan, with_bands

SAMPLES = Path(__file__).parents[1] / "sample_scenes"
KARST = SAMPLES / "target" / "karst_1.tif"
DATES = SAMPLES / "series" / "target"
TILES = {"tile_px": 128, "overlap_px": 32}
# Without alpha, or GDAL takes the fourth of four bytes for it.
PLAIN = {"photometric": "minisblack", "alpha": "unspecified"}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_untrained(tmp_path_factory.mktemp("model") / "m.safetensors")


@pytest.fixture
def park(tmp_path: Path) -> Path:
    """A polygon in the middle of the scene, in another coordinate system."""
    west, south, east, north = open_scene(KARST).grid.bounds
    disc = shapely.Point((west + east) / 2, (south + north) / 2).buffer(40)
    path = tmp_path / "park.gpkg"
    geopandas.GeoDataFrame(geometry=[disc], crs=open_scene(KARST).grid.crs).to_crs(4326).to_file(path)
    return path


def test_arrays_give_what_the_command_writes(rsseg, model: Path, park: Path, tmp_path: Path) -> None:
    options = ("--tile-px", 128, "--overlap-px", 32)
    array = open_scene(KARST).read()
    for name, more, keywords in (("whole", (), {}), ("park", ("--aoi", park, "--tta"), {"aoi": park, "tta": True})):
        ended = rsseg("segment", KARST, "--model", model, "-o", f"{name}.tif", *options, *more)
        assert ended.returncode == 0, ended.stderr
        labels = segment(array, model, **TILES, **keywords)
        with rasterio.open(tmp_path / f"{name}.tif") as written:
            np.testing.assert_array_equal(labels.values, written.read(1))
            assert (labels.attrs["crs"], labels.attrs["transform"]) == (written.crs, written.transform)
            assert (labels.dtype, labels.dims, labels.attrs["nodata"]) == ("uint8", ("y", "x"), 255)
        assert labels.attrs["classes"] == {1: "road", 2: "tree", 3: "water"}
        assert len(np.unique(labels)) >= 3


def test_files_give_what_json_says(model: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = segment(KARST, model, **TILES)
    (entry,) = found["outputs"]
    assert entry["labels"] == "karst_1_labels.tif"
    assert sum(c["pixels"] for c in entry["classes"].values()) == 256 * 256
    assert found["megapixels_per_second"] == pytest.approx(256 * 256 / 1e6 / found["seconds"])
    with pytest.raises(RssegError, match="exists already"):
        segment([KARST], str(model))


def test_arrays_as_rioxarray_gives_them(make_raster, model: Path, tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(1, 4000, (4, 90, 110), dtype=np.int16)
    values[:, 20:50, 30:60] = -9999
    path = make_raster("scene.tif", values, nodata=-9999)
    segment(path, model, output=tmp_path / "map.tif", **TILES)
    t = open_scene(path).grid.transform
    array = xarray.DataArray(
        values,
        dims=("band", "y", "x"),
        coords={
            "band": [1, 2, 3, 4],
            "x": t.c + t.a * (np.arange(110) + 0.5),
            "y": t.f + t.e * (np.arange(90) + 0.5),
            "spatial_ref": ((), 0, {"crs_wkt": CRS.from_epsg(32633).to_wkt()}),
        },
        attrs={"_FillValue": -9999},
    )
    with rasterio.open(tmp_path / "map.tif") as written:
        expected = written.read(1)
    assert (expected == 255).sum() == 900
    for given in (array, array.transpose("y", "x", "band")):
        labels = segment(given, model, **TILES)
        np.testing.assert_array_equal(labels.values, expected)
        np.testing.assert_array_equal(labels.x, array.x)
        assert labels.spatial_ref.attrs["crs_wkt"] == array.spatial_ref.attrs["crs_wkt"]


def test_what_is_for_files_is_refused_for_arrays(model: Path) -> None:
    with pytest.raises(RssegError, match="are for files"):
        segment(open_scene(KARST).read(), model, output="m.tif")


@pytest.mark.parametrize(
    ("groups", "output", "names"),
    [
        ([["a/town.tif"]], None, ["town_labels.tif"]),
        ([["a/town.tif"]], "m.tif", ["m.tif"]),
        ([["a/town.tif"]], "maps", ["maps/town_labels.tif"]),
        ([["a/t.tif"], ["b/t.tif"], ["b/u.tif"]], None, ["a_t_labels.tif", "b_t_labels.tif", "u_labels.tif"]),
        ([["t.tif"], ["b/t.tif"]], None, ["t_labels.tif", "b_t_labels.tif"]),
        ([["b/t.tif"], ["c/b/t.jp2"]], None, ["b_t_labels.tif", "b_t_2_labels.tif"]),
        ([["a/Town.tif"], ["b/town.tif"]], None, ["a_Town_labels.tif", "b_town_labels.tif"]),
        ([["a/one.tif", "b/two.tif"]], "maps", ["maps/one_mosaic_labels.tif"]),
        ([["a/one.tif", "b/two.tif"]], "m.tif", ["m.tif"]),
        ([["red=x/B04.tif,nir=x/B08.tif"]], None, ["B04_labels.tif"]),
        ([["dir=1/town.tif"]], None, ["town_labels.tif"]),
        (
            [["/vsizip/z.zip/town.tif"], ["https://example.org/town2.tif"]],
            "m.v1",
            ["m.v1/town_labels.tif", "m.v1/town2_labels.tif"],
        ),
    ],
)
def test_maps_have_names_that_say_what_they_are(
    groups: list, output: str | None, names: list[str], tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dir=1").mkdir()
    (tmp_path / "dir=1" / "town.tif").touch()
    assert [path.as_posix() for path in label_paths(groups, Path(output) if output else None)] == names


def test_one_file_for_several_maps_is_refused() -> None:
    with pytest.raises(RssegError, match=r"-o m\.tif: names one file, and there are 2 scenes"):
        label_paths([["a.tif"], ["b.tif"]], Path("m.tif"))


def request(model: Path, *scenes: object, **options: object) -> Request:
    return Request(tuple(map(str, scenes)), str(model), **options)


def test_no_input_is_replaced(make_raster, model: Path, tmp_path: Path) -> None:
    values = np.ones((4, 20, 20), np.uint8)
    town, labels = (make_raster(name, values, **PLAIN) for name in ("town.tif", "town_labels.tif"))
    single = [make_raster(f"B{n}.tif", values[0]) for n in range(4)]
    stacked = ",".join(f"{name}={path}" for name, path in zip(BANDS, single, strict=True))
    vrt = tmp_path / "town.vrt"
    subprocess.run(
        [sys.executable, "-c", "import sys, rasterio.shutil as s; s.copy(*sys.argv[1:], driver='VRT')", town, vrt],
        check=True,
    )
    for scenes, output, mosaic in (
        ((town,), town, False),
        ((town, labels), tmp_path, False),  # the first one's map would replace the second
        ((stacked,), single[2], False),
        ((town, labels), labels, True),
        ((vrt,), town, False),
    ):
        asked = request(model, *scenes, output=output, mosaic=mosaic, overwrite=True)
        with pytest.raises(RssegError, match="is also an input"):
            plan(asked)


def test_two_outputs_need_two_names(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.tif"
    with pytest.raises(RssegError, match="two outputs have one name"):
        plan(request(model, KARST, output=path, probabilities=path))


def test_pixels_far_from_those_that_the_model_knows(make_raster, model: Path, tmp_path: Path) -> None:
    coarse = make_raster("landsat.tif", np.ones((4, 9, 9), np.uint8), transform=Affine.scale(30, -30), **PLAIN)
    with pytest.raises(RssegError, match=r"pixels of 30 m, and is to be mapped at 0\.5 m") as refused:
        plan(request(model, coarse, output=tmp_path / "m.tif"))
    assert "--gsd 30" in refused.value.hint
    assert plan(request(model, coarse, output=tmp_path / "m.tif", settings=Settings(gsd_m=30)))


def test_bands_by_name_by_order_and_by_number(make_raster, caplog) -> None:
    many = open_scene(make_raster("many.tif", np.arange(14, dtype=np.float32).reshape(14, 1, 1)))
    assert with_bands(many.select("nir=4,red=3"), ("red", "NIR")).values().ravel().tolist() == [2, 3]
    assert caplog.text == ""
    with caplog.at_level("INFO"):
        assert with_bands(many.select("a=4,b=3"), ("red", "nir")).values().ravel().tolist() == [3, 2]
    assert "a, b are taken as the model's red, nir, in this order" in caplog.text
    # Numbers are no names: band 3 of fourteen is not band 3 of seven.
    with pytest.raises(
        RssegError, match=r"has 14 bands: 1, 2, .* 12 and 2 more; the model needs 3: 1, 2, 3"
    ) as refused:
        with_bands(many, ("1", "2", "3"))
    assert refused.value.hint == "say which is which: --bands 1=1,2=2,3=3"
    assert with_bands(many.select("1=5,2=4,3=6"), ("1", "2", "3")).values().ravel().tolist() == [4, 3, 5]
    # One name in common: the order of the others would be a guess, and red would be taken for nir.
    with pytest.raises(RssegError, match="has 2 bands: red, other; the model needs 2: nir, red"):
        with_bands(many.select("red=3,other=4"), ("nir", "red"))


@pytest.mark.parametrize("wrong", [{"gsd_m": 0.0}, {"gsd_m": float("nan")}, {"device": "gpu"}, {"precision": "int8"}])
def test_settings_that_make_no_sense(wrong: dict) -> None:
    with pytest.raises(RssegError, match="not "):
        Settings(**wrong)


def loaded_after(*arguments: object, folder: Path) -> tuple[str, set[str]]:
    """What a command that ends with 1 says, and which modules it has imported by then."""
    code = (
        "import sys\nfrom rsseg_cli.app import app\n"
        f"try:\n    app({[str(a) for a in arguments]!r})\nexcept SystemExit as end:\n    assert end.code == 1\n"
        "print(*sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    return ended.stderr, set(ended.stdout.split())


@pytest.fixture
def wrong(make_raster, model: Path, tmp_path: Path) -> dict[str, tuple]:
    """Calls that fail, by what they say."""
    rgb = make_raster("rgb.tif", np.ones((3, 40, 40), np.uint8))
    (tmp_path / "text.safetensors").write_text("hello")
    (tmp_path / "cut.safetensors").write_bytes(model.read_bytes()[:-1000])
    (tmp_path / "exists.tif").touch()
    return {
        "none.tif: no such file": ("none.tif", "--model", model),
        "none.safetensors: no such file": (KARST, "--model", "none.safetensors"),
        "text.safetensors: is no rsseg model, or is damaged": (KARST, "--model", "text.safetensors"),
        "cut.safetensors: is no rsseg model, or is damaged": (KARST, "--model", "cut.safetensors"),
        "rgb.tif has 3 bands": (rgb, "--model", model),
        "exists.tif: exists already": (KARST, "--model", model, "-o", "exists.tif"),
        "no/m.tif: there is no folder no": (KARST, "--model", model, "-o", "no/m.tif"),
        "m.png: rasters are written as GeoTIFF": (KARST, "--model", model, "-o", "m.png"),
        "--device gpu": (KARST, "--model", model, "--device", "gpu"),
        "--gsd 0": (KARST, "--model", model, "--gsd", 0),
        "has no band 'x'": (KARST, "--model", model, "--bands", "x"),
        "--co A: not of the form": (KARST, "--model", model, "--co", "A"),
    }


def test_what_can_be_refused_is_refused_before_anything_slow_is_imported(wrong: dict, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    for words, arguments in wrong.items():
        said, loaded = loaded_after("segment", *arguments, folder=tmp_path)
        assert words in said
        assert "hint: " in said
        assert not loaded & {"torch", "xarray", "geopandas", "pyogrio", "scipy", "transformers"}, words
    assert set(tmp_path.iterdir()) == before


def test_importing_rsseg_is_cheap() -> None:
    code = "import sys, rsseg_cli; from rsseg_cli import segment, open_scene; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & {"torch", "xarray", "geopandas", "scipy"}
    code = "import sys, rsseg_cli; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & {"numpy", "rasterio"}


@pytest.fixture(scope="module")
def of_any_size(tmp_path_factory) -> Path:
    return save_untrained(tmp_path_factory.mktemp("model") / "m.safetensors", gsd_m=None)


def read(path: str | Path) -> np.ndarray:
    with rasterio.open(path) as written:
        return written.read(1)


def test_each_date_of_a_series_is_mapped_and_helped_by_the_others(of_any_size: Path, tmp_path: Path) -> None:
    found = segment(DATES, of_any_size, output=tmp_path / "fused", series="dates", tile_px=192)["outputs"]
    alone = segment(DATES, of_any_size, output=tmp_path / "alone", tile_px=192)["outputs"]
    assert [entry["date"] for entry in found] == [path.stem[-10:] for path in sorted(DATES.glob("*[0-9].tif"))]
    fused, single = (np.stack([read(entry["labels"]) for entry in entries]) for entries in (found, alone))
    seen = single != 255
    assert 0.5 < seen.mean() < 0.8
    # A model that has learned nothing of dates leaves them as they are; where one shows nothing the others speak.
    np.testing.assert_array_equal(fused[seen], single[seen])
    ever = seen.any(axis=0)
    np.testing.assert_array_equal(fused != 255, np.broadcast_to(ever, fused.shape))
    assert Path(found[0]["labels"]) == tmp_path / "fused" / f"{Path(found[0]['scene']).stem}_labels.tif"
    pixels = sum(c["pixels"] for c in found[2]["classes"].values())
    assert pixels == ever.sum()
    flipped, compared, last = 0, 0, single[0]
    for now in single[1:]:
        both = (now != 255) & (last != 255)
        flipped, compared = flipped + (both & (now != last)).sum(), compared + both.sum()
        last = np.where(now == 255, last, now)
    share = pytest.approx(flipped / compared)
    assert all(e["consistency"] == {"flips": share, "flips_before_fusion": share, "compared": compared} for e in found)


def test_a_series_makes_one_map_of_the_place(of_any_size: Path, rsseg, tmp_path: Path) -> None:
    options = ("--series", "place", "--confidence", "c.tif", "--json", "--quiet")
    ended = rsseg("segment", *sorted(DATES.glob("*.tif")), "--model", of_any_size, *options)
    assert ended.returncode == 0, ended.stderr
    (entry,) = json.loads(ended.stdout)["outputs"]
    assert len(entry["dates"]) == 6
    assert entry["labels"] == "target_labels.tif"
    labels, confidence = (read(tmp_path / name) for name in ("target_labels.tif", "c.tif"))
    assert (labels != 255).mean() > 0.99
    np.testing.assert_array_equal(labels == 255, confidence == 255)
    assert 0 < entry["consistency"]["flips"] < 1


def test_a_place_is_called_after_its_folder() -> None:
    assert label_paths([[str(DATES)]], None) == [Path("target_labels.tif")]
    assert label_paths([[f"{DATES / 'a_2020.tif'} and 5 more"]], None) == [Path("a_2020_labels.tif")]


@pytest.mark.parametrize(
    ("scenes", "more", "match"),
    [
        (DATES, {"settings": Settings(series="dates"), "confidence": Path("c.tif")}, "there are 6 maps to write"),
        (DATES, {"settings": Settings(series="place"), "mosaic": True}, "--mosaic and --series"),
        (KARST.parent, {"settings": Settings(series="place")}, "no two dates of one place among 3 scenes"),
    ],
)
def test_what_a_series_cannot_give_is_refused(of_any_size: Path, scenes: Path, more: dict, match: str) -> None:
    with pytest.raises(RssegError, match=match):
        plan(Request((str(scenes),), str(of_any_size), **more))


def test_ways_to_take_a_series_that_are_not_known_are_refused() -> None:
    with pytest.raises(RssegError, match="--series all: not known"):
        Settings(series="all")


def test_scenes_without_another_date_are_mapped_by_themselves(make_raster, of_any_size, tmp_path, caplog) -> None:
    values = np.ones((4, 40, 40), np.uint8)
    for name in ("2020-01-01", "2020-02-01", "elsewhere"):
        place = Affine(0.5, 0, 500_000 + 1000 * (name == "elsewhere"), 0, -0.5, 5_000_000)
        make_raster(f"p/{name}.tif", values, transform=place, **PLAIN)
    with caplog.at_level("INFO"):
        jobs = plan(Request((str(tmp_path / "p"),), str(of_any_size), tmp_path, settings=Settings(series="place")))
    assert [len(job.maps) for job in jobs] == [1, 1]
    assert "mapped by themselves" in caplog.text


def test_the_more_dates_the_smaller_the_tiles() -> None:
    sides = [Settings().tiling_for("tiny", "cpu", dates).tile_px for dates in (1, 4, 6, 24, 200)]
    assert sides == [544, 544, 416, 192, 192]
