"""The documentation as tests: what README and docs/ tell people to type is typed, and prints what they say."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from textwrap import dedent

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the blocks are for a shell of POSIX")

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
FENCE = re.compile(r"^ *```(?P<kind>\w*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)
# Languages of a fence that are run. What another shell, an installation or a GPU is needed for has another one.
RUN = ("sh", "python", "makefile", "console")
SLOW = "RSSEG_SLOW_DOCS"  # set, what takes minutes (console) is run too, and the demo that all pages go on from
# Programs that may not be there; rsseg does without them.
TOOLS = ("jq", "parallel", "ogr2ogr", "ogrinfo", "gdalwarp", "gdal_translate", "gdalbuildvrt", "make", "xargs", "flock")
LIMIT_S = {"console": 1800}
DEFAULT_LIMIT_S = 180  # none takes a minute on a core of its own
# Quick enough to be made for every run of the tests; what is printed of their maps, no page may promise.
LITTLE = ("--crop-px", "64", "--batch", "2", "--steps")


@dataclass(frozen=True)
class Block:
    """What stands between two fences, and what it prints if the next fence says so."""

    page: Path
    line: int
    kind: str
    text: str
    printed: str | None

    @property
    def obstacle(self) -> str | None:
        missing = [tool for tool in TOOLS if re.search(rf"\b{tool}\b", self.text) and shutil.which(tool) is None]
        if missing:
            return f"{', '.join(missing)} is not installed"
        return f"takes minutes; {SLOW} is not set" if self.kind == "console" and not os.environ.get(SLOW) else None

    @property
    def fails(self) -> bool:
        return self.printed is not None and re.search(r"^error: ", self.printed, re.MULTILINE) is not None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    whole = page.read_text(encoding="utf-8")
    fences = list(FENCE.finditer(whole))
    for fence, after in zip_longest(fences, fences[1:]):
        if fence["kind"] in RUN:
            follows = after and after["kind"] == "text" and not whole[fence.end() : after.start()].strip()
            line = whole.count("\n", 0, fence.start()) + 1
            printed = dedent(after["text"]) if after and follows else None
            yield Block(page, line, fence["kind"], dedent(fence["text"]), printed)


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `rsseg demo` leaves behind, from models of a few steps."""
    folder = tmp_path_factory.mktemp("sample") / "rsseg_demo"
    if os.environ.get(SLOW):
        subprocess.run([sys.executable, "-m", "rsseg_cli", "demo", folder], check=True)
        return folder
    shutil.copytree(ROOT / "sample_scenes", folder, ignore=shutil.ignore_patterns("*.py", "*.md", "*.png"))
    adapting = ("--target", "target/karst_1.tif", "--init", "meadow.safetensors", "--match", "none")
    before, after = "change/before.tif", "change/after.tif"
    for call in (
        ("adapt", "--source", "source", *LITTLE, "30", "-o", "meadow.safetensors"),
        ("adapt", "--source", "source", *adapting, *LITTLE, "4", "-o", "karst.safetensors"),
        ("segment", "source/meadow_3.tif", "--model", "meadow.safetensors", "-o", "maps/source/"),
        ("segment", "target", "--model", "karst.safetensors", "-o", "maps/adapted"),
        ("vectorize", "maps/source/meadow_3_labels.tif", "-o", "meadow_3.gpkg"),
        ("detect-change", before, after, "--method", "classical", "--polygons", "change.gpkg"),
    ):
        subprocess.run([sys.executable, "-m", "rsseg_cli", *call, "--quiet"], cwd=folder, check=True)
    return folder


@dataclass
class Reader:
    """Somebody who types in a folder of their own what a page says, from its top to its bottom."""

    folder: Path
    typed: list[Block] = field(default_factory=list)
    failed: Block | None = None

    def read_to(self, block: Block) -> str:
        """Types everything up to a block, and gives what that one printed."""
        ahead = [each for each in BLOCKS if each.page == block.page and each.line <= block.line]
        printed = ""
        for each in ahead[len(self.typed) :]:
            if self.failed:
                pytest.skip(f"the block at {self.failed} failed before")
            self.typed.append(each)
            if not each.obstacle:
                self.failed = each
                printed = self.type(each)
                self.failed = None
        return printed

    def type(self, block: Block) -> str:
        if block.kind == "makefile":
            (self.folder / "Makefile").write_text(block.text, encoding="utf-8")
            return ""
        process = [sys.executable, "-c"] if block.kind == "python" else ["bash", "-euo", "pipefail", "-c"]
        bin_first = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        ended = subprocess.run(
            [*process, block.text],
            cwd=self.folder,
            env={**os.environ, "PATH": bin_first, "COLUMNS": "120"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S.get(block.kind, DEFAULT_LIMIT_S),
            check=False,
        )
        assert ended.returncode == (1 if block.fails else 0), f"{block}\n{block.text}\n{ended.stdout}"
        return ended.stdout


@pytest.fixture(scope="module")
def readers(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Reader]:
    return {page: Reader(_room(sample, tmp_path_factory.mktemp(page.stem))) for page in PAGES}


def _room(sample: Path, folder: Path) -> Path:
    # Links will do: rsseg replaces files, and never writes in them.
    shutil.copytree(sample, folder / "rsseg_demo", copy_function=os.link)
    return folder


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_what_stands_there_runs_and_prints_what_is_said(block: Block, readers: dict[Path, Reader]) -> None:
    if block.obstacle:
        pytest.skip(block.obstacle)
    printed = readers[block.page].read_to(block)
    if block.printed is not None:
        assert re.search(_pattern(block.printed), printed, re.DOTALL), f"{block} says\n{block.printed}\nbut\n{printed}"


def _pattern(said: str) -> str:
    """The lines as they stand; `...` is anything."""
    return re.escape(said.strip()).replace(re.escape("..."), ".*?")
