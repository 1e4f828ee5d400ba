from pathlib import Path

import pytest

from rsseg_cli.errors import RssegError
from rsseg_cli.vector.formats import FORMATS, format_of

SUFFIXES = {
    "GPKG": [".gpkg", ".GPKG"],
    "FlatGeobuf": [".fgb"],
    "Parquet": [".parquet", ".geoparquet"],
    "GeoJSON": [".geojson", ".json"],
    "GeoJSONSeq": [".geojsonl", ".geojsons"],
}


@pytest.mark.parametrize(("name", "suffix"), [(name, suffix) for name in SUFFIXES for suffix in SUFFIXES[name]])
def test_the_suffix_says_the_format(name: str, suffix: str) -> None:
    assert format_of(Path(f"map{suffix}")).name == name
    assert format_of(Path(f"map{suffix}"), name.upper()).name == name


@pytest.mark.parametrize("name", SUFFIXES)
@pytest.mark.parametrize("path", ["map", "map.v2", ".gpkg"])
def test_the_format_is_said_where_the_suffix_says_nothing(name: str, path: str) -> None:
    assert format_of(Path(path), name.lower()).name == name


@pytest.mark.parametrize("path", ["map", "map.tif", "map.gpkg.zip"])
def test_an_unknown_suffix_is_refused_with_all_there_are(path: str) -> None:
    with pytest.raises(RssegError, match=path) as refused:
        format_of(Path(path))
    for form in FORMATS:
        assert form.name in refused.value.hint
        assert all(suffix in refused.value.hint for suffix in form.suffixes)


def test_a_shapefile_is_refused_with_what_to_take_instead() -> None:
    with pytest.raises(RssegError, match=r"map\.shp") as refused:
        format_of(Path("map.shp"))
    assert ".gpkg" in refused.value.hint


def test_an_unknown_format_is_refused_with_all_there_are() -> None:
    with pytest.raises(RssegError, match="KML") as refused:
        format_of(Path("map.gpkg"), "KML")
    assert all(form.name in refused.value.hint for form in FORMATS)


def test_a_suffix_and_a_format_that_disagree_are_refused() -> None:
    with pytest.raises(RssegError, match="GPKG, --format says Parquet") as refused:
        format_of(Path("map.gpkg"), "parquet")
    assert ".parquet" in refused.value.hint


def test_only_a_geopackage_can_be_added_to() -> None:
    assert format_of(Path("map.gpkg"), append=True).name == "GPKG"
    for suffix in (".fgb", ".parquet", ".json", ".geojsonl"):
        with pytest.raises(RssegError, match="cannot be added to"):
            format_of(Path(f"map{suffix}"), append=True)
