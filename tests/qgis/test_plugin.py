"""The plugin in QGIS, without a screen: what an analyst does in the toolbox.

Name QGIS's Python to run them: RSSEG_QGIS_PYTHON=/usr/bin/python3 pytest tests/qgis
"""

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import running
from PIL import Image

from rsseg_cli.qgis.commands import COMMANDS

ROOT = Path(__file__).parents[2]
SCENES = ROOT / "sample_scenes"
TOOLBOX = Path(__file__).with_name("toolbox.py")
KARST, CHANGE = SCENES / "target" / "karst_1.tif", SCENES / "change"
MEADOW, FIELDS = SCENES / "source" / "meadow_1_labels.tif", SCENES / "source" / "meadow_3_labels.gpkg"
CLASSES = {
    "road": "#6b6b6b",
    "building": "#d7301f",
    "tree": "#1b7837",
    "grass": "#a6d96a",
    "water": "#2b83ba",
    "bare ground": "#d8b365",
}
CANCELED_WITHIN_S = 3

Play = Callable[..., dict[str, Any]]
Process = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of plugins, with what `rsseg qgis-plugin` writes."""
    folder = tmp_path_factory.mktemp("plugins")
    packed = folder.parent / "rsseg.zip"
    call = [sys.executable, "-m", "rsseg_cli", "qgis-plugin", "-o", packed, "--overwrite"]
    subprocess.run(call, check=True, capture_output=True)
    with zipfile.ZipFile(packed) as plugin:
        plugin.extractall(folder)
    return folder


@pytest.fixture
def play(qgis_python: str, in_qgis: dict[str, str], plugins: Path, tmp_path: Path) -> Play:
    """Runs an algorithm as the windows of QGIS do."""

    def run(algorithm: str | None = None, path: str | None = None, **job: Any) -> dict[str, Any]:
        told = json.dumps({"plugins": plugins, "algorithm": f"rsseg:{algorithm}", **job}, default=str)
        environment = in_qgis | ({"PATH": path} if path else {})
        call = [qgis_python, TOOLBOX, told]
        ended = subprocess.run(
            call, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
        )
        assert ended.returncode == 0, ended.stderr
        found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
        return found

    return run


@pytest.fixture(scope="session")
def qgis_process(
    qgis_python: str, in_qgis: dict[str, str], plugins: Path, tmp_path_factory: pytest.TempPathFactory
) -> Process:
    """The program by which QGIS runs algorithms in a shell; Debian's wrapper of it may pass what it does not know."""
    program = shutil.which("qgis_process.bin") or shutil.which("qgis_process")
    if program is None:
        pytest.skip("no qgis_process here: apt-get install qgis")
    folder = tmp_path_factory.mktemp("process")

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        call = [program, *map(str, words)]
        environment = in_qgis | {"QGIS_PLUGINPATH": str(plugins)}
        return subprocess.run(call, env=environment, cwd=folder, capture_output=True, text=True, check=False)

    assert run("plugins", "enable", "rsseg").returncode == 0
    return run


@pytest.fixture(scope="session")
def model(qgis_process: Process, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that QGIS has had learned. It maps badly, after a few steps."""
    file = tmp_path_factory.mktemp("model") / "few steps.safetensors"
    few = ("--STEPS=30", "--CROP_PX=64", "--BATCH=4", "--SEED=0")
    ended = qgis_process("run", "rsseg:adapt", f"--SOURCE={SCENES / 'source'}", f"--OUTPUT={file}", *few)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "SCORE:" in ended.stdout
    assert "100 - done." in ended.stdout, "no progress was shown"
    return file


@pytest.fixture
def stubborn(tmp_path: Path) -> Path:
    """An rsseg that says nothing, does not mind being asked to end, leaves things lying about and has a child."""
    program = tmp_path / "stubborn" / "rsseg"
    program.parent.mkdir()
    program.write_text(
        f"""#!{sys.executable}
import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
output = pathlib.Path(sys.argv[sys.argv.index("--output") + 1])
for name in ("", "-rows"):
    folder = output.with_name("." + output.name + ".rsseg" + name)
    folder.mkdir()
    (folder / "piece").write_text("")
child = subprocess.Popen(["sleep", "600"])
(pathlib.Path(__file__).parent / "processes").write_text(str(child.pid))
print('{{"event": "note", "text": "under way"}}', file=sys.stderr, flush=True)
time.sleep(600)
"""
    )
    program.chmod(0o755)
    return program


def words_of(found: dict[str, Any], kind: str) -> list[str]:
    return [text for each, text in found["said"] if each == kind]


def colors_of(picture: str) -> set[str]:
    """Those that cover a part of the picture that one can see."""
    with Image.open(picture) as image:
        pixels = image.convert("RGB")
        found = pixels.getcolors(pixels.width * pixels.height)
    return {"#{:02x}{:02x}{:02x}".format(*color) for count, color in found if count > 50}


def test_the_toolbox_lists_what_there_is(qgis_process: Process) -> None:
    listed = qgis_process("list").stdout
    for name in ("adapt", "segment", "detectchange", "vectorize", "evaluate"):
        assert f"rsseg:{name}\t" in listed


def test_every_window_opens_with_all_options(play: Play) -> None:
    found = play(windows=True)
    for command in COMMANDS:
        assert found[command.name.replace("-", "")] == sorted(option.name for option in command.options)


def test_layers_are_learned_from_with_their_labels(play: Play, rsseg: Process, tmp_path: Path) -> None:
    layers = {"SOURCE_LAYERS": [SCENES / "source" / "meadow_3.tif"], "LABELS": f"{FIELDS}|layername={layer_of(rsseg)}"}
    few = {"CLASS_FIELD": "class", "STEPS": 2, "CROP_PX": 64, "METHOD": "source-only", "SETTINGS": "batch=2\nseed=1"}
    model = tmp_path / "m.safetensors"
    assert "One of these is needed: Labelled scenes" in play("adapt", parameters={**few, "OUTPUT": model})["refused"]
    found = play("adapt", parameters={**layers, **few, "OUTPUT": model})
    assert found["ok"], found["said"]
    assert [path for path in tmp_path.iterdir() if path.suffix == ".safetensors"] == [model]
    assert 0 <= found["results"]["SCORE"] < 1


def test_a_scene_is_mapped_in_names_and_colors(play: Play, model: Path, tmp_path: Path) -> None:
    outputs = {"OUTPUT": "load:TEMPORARY_OUTPUT", "CONFIDENCE": f"load:{tmp_path / 'sure.tif'}"}
    found = play("segment", parameters={"INPUT": KARST, "MODEL": model, **outputs}, pictures=tmp_path)
    assert found["ok"], found["said"]
    assert sorted(found["layers"]) == ["Confidence", "Map"]
    layer = found["layers"]["Map"]
    assert (layer["crs"], layer["renderer"]) == ("EPSG:32633", "paletted")
    assert [tuple(each[1:]) for each in layer["classes"]] == list(CLASSES.items())
    assert colors_of(layer["picture"]) - {"#ffffff"} <= set(CLASSES.values())
    assert words_of(found, "progress")[-1] == "100"
    assert any(line.startswith("tree: pixels ") for line in words_of(found, "info"))


def test_change_is_found_between_two_dates(play: Play, tmp_path: Path) -> None:
    outputs = dict.fromkeys(("OUTPUT", "POLYGONS", "PROBABILITY"), "load:TEMPORARY_OUTPUT")
    options = {"METHOD": "classical", "MIN_AREA": 20}
    dates = {"BEFORE": CHANGE / "before.tif", "AFTER": CHANGE / "after.tif"}
    found = play("detectchange", parameters={**dates, **options, **outputs}, pictures=tmp_path)
    assert found["ok"], found["said"]
    mask, polygons = found["layers"]["Change"], found["layers"]["Changed polygons"]
    assert [each[1] for each in mask["classes"]] == ["unchanged", "changed"]
    assert polygons["features"] > 3
    assert all(legend == ["changed"] for _, legend in polygons["legend"])
    assert 0 < found["results"]["CHANGED_SHARE"] < 0.2
    assert found["layers"]["Change score"]["valid"]


def test_a_map_becomes_polygons_in_names_and_colors(play: Play, tmp_path: Path) -> None:
    options = {"MIN_AREA": "10,building=6", "REGULARIZE": "building", "CRS": "EPSG:4326"}
    parameters = {"INPUT": MEADOW, "OUTPUT": "load:TEMPORARY_OUTPUT", **options}
    found = play("vectorize", parameters=parameters, pictures=tmp_path)
    assert found["ok"], found["said"]
    layer = found["layers"]["Polygons"]
    assert (layer["crs"], layer["renderer"]) == ("EPSG:4326", "categorizedSymbol")
    assert [tuple(each[1:]) for each in layer["classes"]] == list(CLASSES.items())
    assert layer["features"] == found["results"]["POLYGONS"]
    assert all(entries == [name] for name, entries in layer["legend"])
    assert set(CLASSES.values()) <= colors_of(layer["picture"])


def test_a_map_is_scored_into_a_table(play: Play, rsseg: Process, tmp_path: Path) -> None:
    truth = {"TRUTH": f"{FIELDS}|layername={layer_of(rsseg)}", "CLASS_FIELD": "class", "BOUNDARY": 1, "IGNORE": "water"}
    prediction = SCENES / "source" / "meadow_3.tif"
    parameters = {"PREDICTION": shifted(prediction, tmp_path), "OUTPUT": "load:TEMPORARY_OUTPUT", **truth}
    found = play("evaluate", parameters=parameters, pictures=tmp_path)
    assert found["ok"], found["said"]
    call = ("evaluate", parameters["PREDICTION"], FIELDS, "--class-field", "class", "--boundary", 1)
    known = json.loads(rsseg(*call, "--ignore", "water", "--json").stdout)
    assert found["results"]["MIOU"] == known["miou"]
    rows = {row.pop("class"): row for row in found["layers"]["Figures of the classes"]["rows"]}
    assert {name: {key: row[key] for key in known["classes"][name]} for name, row in rows.items()} == known["classes"]


def layer_of(rsseg: Process) -> str:
    return json.loads(rsseg("info", FIELDS, "--json").stdout)["files"][0]["layers"][0]["name"]


def shifted(scene: Path, folder: Path) -> Path:
    """A map of the scene's ground that is wrong in an interesting way."""
    with rasterio.open(scene) as dataset:
        profile = dataset.profile | {"count": 1, "dtype": "uint8", "nodata": 255}
        bright = dataset.read(1) > np.median(dataset.read(1))
    path = folder / "wrong.tif"
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(np.where(bright, 1, 3).astype(np.uint8), 1)
    shutil.copy(MEADOW.with_suffix(".qml"), path.with_suffix(".qml"))
    return path


def test_what_rsseg_complains_of_is_the_error(qgis_process: Process, play: Play, tmp_path: Path) -> None:
    junk = tmp_path / "junk.safetensors"
    junk.write_text("no model")
    parameters = {"INPUT": KARST, "MODEL": junk, "OUTPUT": tmp_path / "map.tif"}
    (error,) = words_of(play("segment", parameters=parameters), "error")
    problem, hint = error.split("\nHint: ")
    assert problem.startswith(f"{junk}: ")
    assert hint
    ended = qgis_process("run", "rsseg:segment", *(f"--{name}={value}" for name, value in parameters.items()))
    assert ended.returncode != 0
    assert problem in ended.stdout + ended.stderr
    assert hint in ended.stdout + ended.stderr
    assert sorted(tmp_path.iterdir()) == [junk]


@pytest.mark.parametrize("word", ["rsseg adapt", "source-only"])
def test_cancelling_ends_rsseg_and_leaves_nothing(play: Play, tmp_path: Path, word: str) -> None:
    """Right after the start, and amid of learning."""
    output = tmp_path / "out" / "never.safetensors"
    output.parent.mkdir()
    found = play("adapt", parameters={"SOURCE": SCENES / "source", "STEPS": 100_000, "OUTPUT": output}, cancel=word)
    assert not found["ok"]
    print(f"cancelled in {found['cancel_s']:.2f} s")
    assert found["cancel_s"] < CANCELED_WITHIN_S
    assert list(output.parent.iterdir()) == []
    assert not any(str(output) in command for command in running.commands())


def test_cancelling_ends_a_silent_program_and_its_child(play: Play, stubborn: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    before = folder / ".other.tif.rsseg"
    before.mkdir()
    parameters = {"BEFORE": CHANGE / "before.tif", "AFTER": CHANGE / "after.tif", "OUTPUT": folder / "c.tif"}
    found = play("detectchange", parameters=parameters, cancel="under way", settings={"RSSEG_PROGRAM": stubborn})
    print(f"cancelled in {found['cancel_s']:.2f} s")
    assert found["cancel_s"] < CANCELED_WITHIN_S
    assert list(folder.iterdir()) == [before]
    assert running.has_ended(int((stubborn.parent / "processes").read_text()))


def test_without_rsseg_it_says_what_to_do(play: Play, tmp_path: Path) -> None:
    parameters = {"INPUT": MEADOW, "OUTPUT": tmp_path / "x.gpkg"}
    found = play("vectorize", path="/usr/bin:/bin", parameters=parameters)
    assert not found["ok"]
    (error,) = words_of(found, "error")
    assert "the program rsseg was not found" in error
    assert "Settings > Options > Processing > Providers > rsseg" in error


def test_rsseg_is_found_in_a_chosen_environment(play: Play, tmp_path: Path) -> None:
    parameters = {"INPUT": MEADOW, "OUTPUT": tmp_path / "x.gpkg"}
    chosen = {"RSSEG_ENVIRONMENT": Path(sys.executable).parents[1]}
    assert play("vectorize", path="/usr/bin:/bin", parameters=parameters, settings=chosen)["ok"]
    wrong = play("vectorize", parameters=parameters, settings={"RSSEG_ENVIRONMENT": tmp_path})
    assert f"there is no rsseg in the environment {tmp_path}" in words_of(wrong, "error")[0]


def test_spaces_and_umlauts(play: Play, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "Größe & Höhe, 100 %" / "Wälder (neu)"
    folder.mkdir(parents=True)
    for source, name in ((KARST, "Träger 1.tif"), (model, "Mödell.safetensors"), (FIELDS, "Fläche;.gpkg")):
        shutil.copy(source, folder / name)
    own = {"INPUT": folder / "Träger 1.tif", "MODEL": folder / "Mödell.safetensors"}
    mapped = play("segment", parameters={**own, "OUTPUT": f"load:{folder / 'Kärte.tif'}"}, pictures=folder)
    assert mapped["ok"], mapped["said"]
    assert [each[1] for each in mapped["layers"]["Map"]["classes"]] == list(CLASSES)
    polygons = {"INPUT": folder / "Kärte.tif", "OUTPUT": f"load:{folder / 'Flächen neu.gpkg'}"}
    made = play("vectorize", parameters=polygons, pictures=folder)
    assert made["ok"], made["said"]
    assert made["layers"]["Polygons"]["features"] > 0
    scored = {"PREDICTION": folder / "Kärte.tif", "TRUTH": folder / "Kärte.tif", "OUTPUT": "TEMPORARY_OUTPUT"}
    assert play("evaluate", parameters=scored)["results"]["ACCURACY"] == 1


def test_a_geopackage_that_is_open_in_qgis(play: Play, tmp_path: Path) -> None:
    """A layer that is looked at is replaced; one that is being edited is not touched."""
    target = tmp_path / "open.gpkg"
    parameters = {"INPUT": MEADOW, "OUTPUT": target}
    assert play("vectorize", parameters=parameters)["ok"]
    before = geopandas.read_file(target, layer="open").to_wkb().to_csv()
    edited = play("vectorize", parameters={**parameters, "SIMPLIFY": 2}, open=[target], edit=True)
    assert not edited["ok"]
    assert "is open in another program\nHint: close it in QGIS" in words_of(edited, "error")[0]
    assert geopandas.read_file(target, layer="open").to_wkb().to_csv() == before
    looked_at = play("vectorize", parameters={**parameters, "SIMPLIFY": 2}, open=[target])
    assert looked_at["ok"], looked_at["said"]
    assert geopandas.read_file(target, layer="open").to_wkb().to_csv() != before
    assert looked_at["open"][0] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["open.gpkg"]


def test_a_model_of_processing_leads_from_scene_to_polygons(
    play: Play, qgis_process: Process, model: Path, tmp_path: Path
) -> None:
    chain = tmp_path / "chain.model3"
    assert play(chain=chain)["ok"]
    outputs = {"map:map": "load:TEMPORARY_OUTPUT", "polygons:polygons": f"load:{tmp_path / 'a.gpkg'}"}
    found = play(model=chain, parameters={"scene": KARST, "network": model, **outputs}, pictures=tmp_path)
    assert found["ok"], found["said"]
    for name in ("map", "polygons"):
        assert [each[1] for each in found["layers"][name]["classes"]] == list(CLASSES)
    words = {"scene": KARST, "network": model, "map:map": tmp_path / "b.tif", "polygons:polygons": tmp_path / "b.gpkg"}
    ended = qgis_process("run", chain, *(f"--{name}={value}" for name, value in words.items()))
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "b.gpkg").is_file()


def test_a_batch_goes_on_after_a_bad_file(play: Play, tmp_path: Path) -> None:
    inputs = (MEADOW, tmp_path / "none.tif", MEADOW.with_name("meadow_2_labels.tif"))
    rows = [{"INPUT": path, "OUTPUT": tmp_path / f"{number}.gpkg"} for number, path in enumerate(inputs)]
    found = play("vectorize", parameters=rows)
    assert [Path(each["OUTPUT"]).name for each in found["results"]] == ["0.gpkg", "2.gpkg"]
    assert [len(errors) for errors in found["errors"]] == [1]
    assert "none.tif could not be opened" in found["errors"][0][0]


def test_a_batch_is_cancelled(play: Play, stubborn: Path, tmp_path: Path) -> None:
    """In QGIS 3.22 it runs in the thread of the window, which has to see the click all the same."""
    folder = tmp_path / "out"
    folder.mkdir()
    rows = [{"INPUT": MEADOW, "OUTPUT": folder / f"{number}.gpkg"} for number in range(2)]
    sign = stubborn.parent / "processes"
    found = play("vectorize", parameters=rows, cancel=sign, settings={"RSSEG_PROGRAM": stubborn})
    print(f"cancelled in {found['cancel_s']:.2f} s")
    assert found["cancel_s"] < CANCELED_WITHIN_S
    assert list(folder.iterdir()) == []
    assert running.has_ended(int(sign.read_text()))


def test_a_filtered_layer_counts_as_filtered(play: Play, rsseg: Process, model: Path, tmp_path: Path) -> None:
    """What QGIS hides of a layer is hidden from rsseg too."""
    polygons = f"{FIELDS}|layername={layer_of(rsseg)}|subset=\"class\" = 'building'"
    scene = SCENES / "source" / "meadow_3.tif"
    parameters = {"INPUT": scene, "MODEL": model, "AOI": polygons, "OUTPUT": tmp_path / "map.tif"}
    found = play("segment", parameters=parameters)
    assert found["ok"], found["said"]
    with rasterio.open(tmp_path / "map.tif") as dataset:
        share = (dataset.read(1) != 255).mean()
    assert 0.01 < share < 0.4
