"""What differs between a run and one to go on with, in words."""

import os
from pathlib import Path

import pytest

from rsseg_cli.sameness import FILES, differences, stamps

RUN = {"method": "ktda", "settings": {"batch": 8, "clip": 1.0}, "model": ["3f"], "aoi": None, FILES: {"a.tif": [5, 7]}}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, ""),
        ({"method": "da-stc"}, "method was ktda, is da-stc"),
        ({"settings": {"batch": 4, "clip": 1.0}}, "batch was 8, is 4"),
        ({"settings": {"batch": 8}}, "clip was 1.0, is not given"),
        ({"model": ["4a"]}, "model is another"),
        ({"aoi": ["4a"]}, "aoi is another"),
        ({FILES: {"a.tif": [5, 8]}}, "a.tif has changed since"),
        ({FILES: {}}, "a.tif is not among the inputs any more"),
        ({FILES: {"a.tif": [5, 7], "b.tif": [1, 1]}}, "b.tif was not among the inputs"),
        ({"method": "da-stc", FILES: {"a.tif": [6, 7]}}, "a.tif has changed since; method was ktda, is da-stc"),
    ],
)
def test_each_difference_is_named(changed: dict[str, object], told: str) -> None:
    assert differences(RUN, RUN | changed) == told


def test_of_many_some_are_named() -> None:
    before = {FILES: {f"{number}.tif": [1, 1] for number in range(9)}}
    after = {FILES: {f"{number}.tif": [2, 1] for number in range(9)}}
    assert differences(before, after).endswith("5.tif has changed since; and 3 more")


def test_what_cannot_be_told_from_json_is_the_same() -> None:
    assert differences({"bands": ["red"], FILES: {}}, {"bands": ("red",), FILES: {}}) == ""


def test_a_stamp_tells_that_a_file_was_written_anew(tmp_path: Path) -> None:
    file = tmp_path / "a.tif"
    file.write_bytes(b"one")
    before = stamps([str(file), "/vsicurl/http://somewhere/b.tif", str(tmp_path / "none.tif")])
    assert list(before) == [str(file)]
    assert stamps([str(file)]) == before
    os.utime(file, ns=(1, 1))
    assert differences({FILES: before}, {FILES: stamps([str(file)])}) == f"{file} has changed since"
