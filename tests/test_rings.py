"""The architecture, checked: imports point inwards, and the inner rings stay light."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OUTER = ("rsseg_cli.app", "rsseg_cli.commands", "rsseg_cli.console")
# The modules that may know both files and tensors: three bridges, the verb that trains and its parts, and the methods
# of detect-change that optimise a network.
BRIDGES = (
    *("bundle.py", "patches.py", "predict.py", "fusing.py"),
    *("adaptation.py", "beginning.py", "methods.py", "work.py", "training.py", "checkpoint.py", "selection.py"),
    *("calibration.py", "teachers.py", "memory.py"),
    *("features.py", "levels.py", "optimised.py", "tuning.py", "paper.py"),
)


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # The plugin lies in a package of another name when QGIS imports it.
            assert node.level == 0 or path.parent.name == "qgis", f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def offenders(files: list[Path], *forbidden: str) -> list[str]:
    assert files
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imports_of(path)
        if any(name == banned or name.startswith(banned + ".") for banned in forbidden)
    ]


def test_tensors_know_no_files() -> None:
    files = list((ROOT / "models" / "rsseg_models").rglob("*.py"))
    assert (
        offenders(files, "rsseg_cli", "rasterio", "geopandas", "pyogrio", "xarray", "shapely", "pyproj", "typer") == []
    )


def test_files_know_no_commands() -> None:
    outer = ("app.py", "console.py", "__main__.py")
    files = [p for p in (ROOT / "rsseg_cli").rglob("*.py") if p.name not in outer and p.parent.name != "commands"]
    assert offenders(files, *OUTER, "typer", "rich") == []


@pytest.mark.parametrize("folder", ["raster", "vector", "samples"])
def test_rasters_and_vectors_know_no_torch(folder: str) -> None:
    assert offenders(list((ROOT / "rsseg_cli" / folder).rglob("*.py")), "torch", "rsseg_models", "transformers") == []


def test_only_bridges_know_files_and_tensors() -> None:
    files = [p for p in (ROOT / "rsseg_cli").rglob("*.py") if p.name not in BRIDGES and p.parent.name != "commands"]
    assert offenders(files, "torch", "rsseg_models") == []


def test_raster_does_not_lean_on_vector() -> None:
    assert offenders(list((ROOT / "rsseg_cli" / "raster").rglob("*.py")), "rsseg_cli.vector", "geopandas") == []


def test_nobody_imports_the_folder_models() -> None:
    everything = [p for part in ("rsseg_cli", "models", "tests") for p in (ROOT / part).rglob("*.py")]
    assert offenders(everything, "models") == []
