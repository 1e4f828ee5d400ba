"""Dates from tags and file names."""

import pytest

from rsseg_cli.raster.dates import date_of, day_of


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("town_2021-07-03.tif", "2021-07-03"),
        ("S2A_MSIL2A_20210703T101031_N0301.SAFE/B04.jp2", None),
        ("S2A_MSIL2A_20210703T101031_N0301.tif", "2021-07-03"),
        ("20210703.tif", "2021-07-03"),
        ("MOD13Q1.A2013257.h12v10.tif", "2013-09-14"),
        ("ndvi_2013-09.tif", "2013-09"),
        ("1985.tif", "1985"),
        ("town_2019_rgb.tif", "2019"),
        ("tile_2048.tif", None),
        ("tile_2000px.tif", None),
        ("20210231.tif", None),
        ("389225main_sw_1965_1024.jpg", "1965"),
        ("image.tif", None),
    ],
)
def test_from_names(name: str, found: str | None) -> None:
    assert date_of(name, {}) == found


def test_an_acquisition_tag_beats_the_name_and_the_name_beats_the_day_of_processing() -> None:
    assert date_of("x_20200101.tif", {"ACQUISITIONDATETIME": "2019-12-31T23:59:00"}) == "2019-12-31"
    assert date_of("x_20200101.tif", {"TIFFTAG_DATETIME": "2024:05:06 07:08:09"}) == "2020-01-01"
    assert date_of("x.tif", {"TIFFTAG_DATETIME": "2024:05:06 07:08:09"}) == "2024-05-06"


def test_what_is_not_known_of_a_date_is_its_middle() -> None:
    assert [day_of(text).isoformat() for text in ("1985", "1985-02", "1985-02-28")] == [
        "1985-07-02",
        "1985-02-15",
        "1985-02-28",
    ]
