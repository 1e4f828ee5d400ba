"""Settings by name: who wins, of which type, and back again."""

import json
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from rsseg_cli.errors import RssegError
from rsseg_cli.settings import convert, fill, fill_known, gather, parse_settings, toml_of


@dataclass(frozen=True)
class Sample:
    rate: float = 0.5
    count: int = 3
    name: str = "a"
    is_on: bool = False


def test_a_file_gives_way_to_set_and_set_to_options(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text('rate = 1.0\ncount = 7\nname = "file"\n')
    assert gather(file, ["count=8", "name = set"], {"name": "option", "is_on": None}) == {
        "rate": 1.0,
        "count": "8",
        "name": "option",
    }


def test_values_get_the_type_of_their_field() -> None:
    assert fill(Sample, {"rate": "1e-3", "count": "4", "name": "5", "is_on": "True", "other": 1}) == Sample(
        0.001, 4, "5", True
    )
    assert fill(Sample, {"rate": 2, "count": 4.0, "is_on": True}) == Sample(2.0, 4, "a", True)


@pytest.mark.parametrize(
    ("value", "kind"),
    [("far", float), ("nan", float), ("inf", float), ("1.5", int), (True, int), (1, bool), ("yes", bool), (3, str)],
)
def test_other_values_are_refused(value: object, kind: type) -> None:
    with pytest.raises(RssegError, match=f"x = {value}: not "):
        convert("x", value, kind)


def test_unknown_names_are_refused_with_those_there_are() -> None:
    with pytest.raises(RssegError, match="no such setting: speed") as caught:
        fill_known(Sample, {"rate": 1.0, "speed": 2}, ("steps", "seed"))
    assert caught.value.hint == "there are: rate, count, name, is_on, steps, seed"


def test_what_is_printed_is_read_again(tmp_path: Path) -> None:
    sample = Sample(1e-5, 4, 'quoted "name"', True)
    (tmp_path / "s.toml").write_text("\n".join(toml_of(asdict(sample))))
    assert fill(Sample, gather(tmp_path / "s.toml", [], {})) == sample
    assert tomllib.loads("\n".join(toml_of(asdict(sample)))) == asdict(sample)
    (tmp_path / "s.json").write_text(json.dumps({"model": "m.safetensors", "settings": asdict(sample)}))
    assert fill(Sample, gather(tmp_path / "s.json", [], {})) == sample


def test_files_that_hold_no_settings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("rate 1")
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    for name, match in (
        ("none.toml", "no such file"),
        ("broken.toml", "cannot be read"),
        ("bytes.toml", "cannot be read"),
        ("list.json", "holds no settings"),
    ):
        with pytest.raises(RssegError, match=match):
            gather(tmp_path / name, [], {})


def test_pairs_have_a_name_and_a_value() -> None:
    assert parse_settings(["a=1", "b = x", "c=d=e"]) == {"a": "1", "b": "x", "c": "d=e"}
    with pytest.raises(RssegError, match="not of the form"):
        parse_settings(["learning_rate"])
