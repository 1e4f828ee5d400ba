"""rsseg qgis-plugin, and what of the plugin can be checked without QGIS."""

import ast
import configparser
import inspect
import json
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import running
from PIL import Image

from rsseg_cli import __version__
from rsseg_cli.commands.adapt import adapt
from rsseg_cli.commands.detect_change import detect_change
from rsseg_cli.commands.evaluate import evaluate
from rsseg_cli.commands.segment import segment
from rsseg_cli.commands.vectorize import vectorize
from rsseg_cli.qgis import program
from rsseg_cli.qgis.commands import COMMANDS, Command
from rsseg_cli.qgis.program import CanceledError, NotFoundError

PLUGIN = Path(program.__file__).parent
# What QGIS brings along.
OF_QGIS = {"qgis", "processing"}
CANCELED_WITHIN_S = 3


def test_it_writes_a_zip_that_qgis_installs(rsseg, tmp_path: Path) -> None:
    ended = rsseg("qgis-plugin", "-o", "rsseg.zip", "--json")
    assert ended.returncode == 0, ended.stderr
    assert "Install from ZIP" in ended.stderr
    found = json.loads(ended.stdout)
    assert (found["plugin"], found["version"]) == ("rsseg.zip", __version__)
    with zipfile.ZipFile(tmp_path / "rsseg.zip") as plugin:
        assert sorted(plugin.namelist()) == found["files"]
        assert {"rsseg/__init__.py", "rsseg/metadata.txt", "rsseg/icon.png", "rsseg/LICENSE"} < set(plugin.namelist())
        assert all(plugin.read(name) == (PLUGIN / Path(name).name).read_bytes() for name in plugin.namelist())


def test_the_same_version_is_the_same_zip(rsseg, tmp_path: Path) -> None:
    rsseg("qgis-plugin")
    before = (tmp_path / "rsseg.zip").read_bytes()
    assert rsseg("qgis-plugin").returncode == 1
    assert rsseg("qgis-plugin", "--overwrite").returncode == 0
    assert (tmp_path / "rsseg.zip").read_bytes() == before


def test_it_writes_nothing_but_a_zip(rsseg, tmp_path: Path) -> None:
    ended = rsseg("qgis-plugin", "-o", "plugin")
    assert ended.returncode == 1
    assert "-o plugin.zip" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_metadata() -> None:
    parser = configparser.ConfigParser()
    parser.read(PLUGIN / "metadata.txt", encoding="utf-8")
    told = dict(parser["general"])
    assert (told["name"], told["version"], told["author"]) == ("rsseg", __version__, "rsseg developers")
    assert (told["qgisminimumversion"], told["hasprocessingprovider"]) == ("3.22", "yes")
    assert all(told.values())
    with Image.open(PLUGIN / told["icon"]) as icon:
        assert icon.size == (64, 64)
    assert (PLUGIN / "LICENSE").read_bytes() == (PLUGIN.parents[1] / "LICENSE").read_bytes()


@pytest.mark.parametrize("path", sorted(PLUGIN.glob("*.py")), ids=lambda path: path.name)
def test_it_needs_nothing_but_python_3_9_and_qgis(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [] if node.level == 1 else [str(node.module)]
        assert {name.partition(".")[0] for name in names} <= OF_QGIS | sys.stdlib_module_names


@dataclass(frozen=True)
class Known:
    """What the command line says of an option."""

    default: Any
    choices: set[str]
    least: float | None
    is_switch: bool


def known_of(command: Command) -> dict[str, Known]:
    """By flag."""
    functions = {"adapt": adapt, "segment": segment, "detect-change": detect_change, "vectorize": vectorize}
    function = {**functions, "evaluate": evaluate}[command.name]
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        kind, *told = get_args(parameter.annotation)
        words = (told[0].default, *(told[0].param_decls or ()))  # typer takes the first name for a default
        flags = [word for word in words if str(word).startswith("--")] or ["--" + name.replace("_", "-")]
        literals = [each for each in (kind, *get_args(kind)) if get_origin(each) is Literal]
        choices = {word for each in literals for word in get_args(each)}
        known = Known(parameter.default, choices, told[0].min, kind is bool)
        found.update(dict.fromkeys(flags, known))
    return found


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_what_it_asks_for_rsseg_understands(command: Command) -> None:
    """Flags, choices, defaults and limits are those of the command line."""
    all_known = known_of(command)
    for option in (option for option in command.options if option.flag):
        known = all_known[option.flag]
        # A default that rsseg does not know leaves the choice to it.
        own = {option.default} if known.default is None else set()
        assert option.kind != "choice" or known.choices == set(option.choices) - (own - known.choices), option.flag
        assert (option.kind == "switch") == known.is_switch, option.flag
        assert option.default == known.default or None in (option.default, known.default), option.flag
        assert option.least is None or known.least in (None, option.least), option.flag


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_names_are_fit_for_models(command: Command) -> None:
    names = [option.name for option in command.options]
    assert len(set(names)) == len(names)
    assert all(name.replace("_", "").isalnum() and name == name.upper() for name in names)
    assert all(option.parent in {"", *names} for option in command.options)


def a_program(folder: Path, name: str, code: str = "") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable}\n{code}")
    path.chmod(0o755)
    return path


def test_the_program_is_where_the_person_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path, elsewhere = a_program(tmp_path, "p/rsseg"), a_program(tmp_path, "q/other")
    environment = a_program(tmp_path, "env/bin/rsseg")
    monkeypatch.setenv("PATH", str(tmp_path / "p"))
    assert program.find_program("", "") == str(on_path)
    assert program.find_program("", str(tmp_path / "env")) == str(environment)
    assert program.find_program(str(elsewhere), str(tmp_path / "env")) == str(elsewhere)


def test_a_program_that_is_not_there_is_not_looked_for_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_program(tmp_path, "p/rsseg")
    monkeypatch.setenv("PATH", str(tmp_path / "p"))
    for program_, environment in ((str(tmp_path / "none"), ""), ("", str(tmp_path))):
        with pytest.raises(NotFoundError, match=r"settings name.*say where"):
            program.find_program(program_, environment)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotFoundError, match="the program rsseg was not found; if it is installed"):
        program.find_program("", "")


def test_it_runs_without_what_qgis_sets_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PROJ_LIB", "GDAL_DATA", "PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP"):
        monkeypatch.setenv(name, "of QGIS")
    monkeypatch.setenv("GDAL_HTTP_PROXY", "of the person")
    told = a_program(tmp_path, "tell", "import json, os; print(json.dumps(dict(os.environ)))")
    code, output = program.run([str(told)], pytest.fail, lambda: False)
    environment = json.loads(output)
    assert code == 0
    assert "of QGIS" not in environment.values()
    assert environment["GDAL_HTTP_PROXY"] == "of the person"


def test_lines_come_in_order_and_the_result_apart(tmp_path: Path) -> None:
    code = "import sys\nfor n in range(2000): print(f'ä {n}', file=sys.stderr); print('x' * 99)\nsys.exit(3)"
    said: list[str] = []
    ended, output = program.run([str(a_program(tmp_path, "p", code))], said.append, lambda: False)
    assert ended == 3
    assert said == [f"ä {number}" for number in range(2000)]
    assert output.split() == ["x" * 99] * 2000


@pytest.mark.skipif(not running.ALL.exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("is_deaf", [False, True])
def test_cancelling_ends_all_of_a_silent_program(tmp_path: Path, is_deaf: bool) -> None:
    code = f"""
import signal, subprocess, sys, time
if {is_deaf}: signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "600"])
print(child.pid, file=sys.stderr, flush=True)
time.sleep(600)
"""
    heard: list[tuple[float, str]] = []
    call = [str(a_program(tmp_path, "p", code))]
    with pytest.raises(CanceledError):
        program.run(call, lambda line: heard.append((time.monotonic(), line)), lambda: bool(heard))
    canceled_at, child = heard[0]
    assert time.monotonic() - canceled_at < CANCELED_WITHIN_S
    assert running.has_ended(int(child))


def test_what_is_unfinished_beside_outputs(tmp_path: Path) -> None:
    for name in (".a.tif.rsseg", ".a.tif.rsseg-rows", ".b.tif.rsseg", "a.tif"):
        (tmp_path / name / "piece").mkdir(parents=True)
    found = program.unfinished_of([str(tmp_path / "a.tif"), str(tmp_path / "none" / "b.tif")])
    assert {path.name for path in found} == {".a.tif.rsseg", ".a.tif.rsseg-rows"}
    assert program.remove(found) == set()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".b.tif.rsseg", "a.tif"]
