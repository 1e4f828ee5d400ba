"""The documentation as a whole: every command and option stands in it, and every link leads somewhere."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from rsseg_cli.app import app
from rsseg_cli.commands.options import _CONSOLE_OPTIONS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", *sorted(DOCS.glob("*.md")))
LINK = re.compile(r"\]\((?P<to>[^)\s#]*)(#(?P<heading>[^)\s]+))?\)")
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]
# What the plugin of QGIS is for stands on a page of its own, docs/qgis.md.
WITH_A_PAGE = [name for name in COMMANDS if name != "qgis-plugin"]


def anchors(page: Path) -> set[str]:
    """What a heading is linked by, as GitHub makes it."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in LINK.finditer(text):
        if link["to"].startswith("http"):
            continue
        to = (page.parent / link["to"]).resolve() if link["to"] else page
        assert to.exists(), f"{page.name}: {link[0]}"
        assert not link["heading"] or link["heading"] in anchors(to), f"{page.name}: {link[0]}"


@pytest.mark.parametrize("command", WITH_A_PAGE)
def test_every_command_stands_in_readme_and_has_a_page_with_its_options_and_a_picture(command: str) -> None:
    assert f"`rsseg {command}`" in (ROOT / "README.md").read_text(encoding="utf-8")
    page = (DOCS / f"{command}.md").read_text(encoding="utf-8")
    assert re.search(r"^!\[.+\]\(.+\.png\)$", page, re.MULTILINE)
    everywhere = {f"--{'json' if name == 'as_json' else name}" for name in _CONSOLE_OPTIONS}
    own = {name for each in COMMANDS[command].params for name in each.opts if name.startswith("--")}
    assert [name for name in sorted(own - everywhere - {"--help"}) if name not in page] == []
    assert everywhere <= set(re.findall(r"--\w+", page)) | set(re.findall(r"--\w+", (DOCS / "info.md").read_text()))


def test_options_on_the_pages_exist() -> None:
    known = {name for command in COMMANDS.values() for each in command.params for name in each.opts}
    for command in WITH_A_PAGE:
        page = (DOCS / f"{command}.md").read_text(encoding="utf-8")
        typed = set(re.findall(rf"^rsseg {command} .*$", page, re.MULTILINE))
        options = {option for line in typed for option in re.findall(r"(?<=\s)--[a-z][a-z-]+", line)}
        assert options <= known, f"{command}: {options - known}"
