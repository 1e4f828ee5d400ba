"""When a scene was taken, as far as its file says."""

import re
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import PurePosixPath

# Acquisition tags first; TIFFTAG_DATETIME comes after the file name, since many programs
# write the day of processing into it.
ACQUISITION_TAGS = (
    "ACQUISITIONDATETIME",
    "DATE_ACQUIRED",
    "SENSING_TIME",
    "DATATAKE_1_DATATAKE_SENSING_START",
    "PRODUCT_START_TIME",
    "ACQUISITION_DATE",
    "start_time",
    "datetime",
)
YEAR = r"(?P<year>19[5-9]\d|20\d\d)"
IN_NAMES = (
    rf"(?<!\d){YEAR}(?P<gap>[-_.]?)(?P<month>0[1-9]|1[0-2])(?P=gap)(?P<day>0[1-9]|[12]\d|3[01])(?!\d)",
    rf"(?<![A-Za-z0-9])[A-Z]{YEAR}(?P<day_of_year>\d{{3}})(?!\d)",
    rf"(?<!\d){YEAR}[-_.](?P<month>0[1-9]|1[0-2])(?!\d)",
    rf"(?<![A-Za-z0-9]){YEAR}(?![A-Za-z0-9])",
)
IN_TAGS = re.compile(rf"^\s*{YEAR}[-:/](?P<month>\d\d)[-:/](?P<day>\d\d)")


def date_of(path: str, tags: Mapping[str, str]) -> str | None:
    """ISO date to the precision known: 2021-07-03, 2021-07 or 2021; None if nothing tells."""
    acquired = next((tags[name] for name in ACQUISITION_TAGS if name in tags), "")
    return _from_tag(acquired) or _from_name(path) or _from_tag(tags.get("TIFFTAG_DATETIME", ""))


def day_of(iso: str) -> date:
    """The day of a date; the middle of the month or the year where no more is known."""
    year, *rest = (int(part) for part in iso.split("-"))
    if not rest:
        return date(year, 7, 2)
    return date(year, rest[0], rest[1] if len(rest) > 1 else 15)


def _from_tag(text: str) -> str | None:
    match = IN_TAGS.match(text)
    return _iso(match.groupdict()) if match else None


def _from_name(path: str) -> str | None:
    name = PurePosixPath(path.replace("\\", "/")).stem
    for pattern in IN_NAMES:
        match = re.search(pattern, name)
        if match and (found := _iso(match.groupdict())):
            return found
    return None


def _iso(parts: dict[str, str]) -> str | None:
    year = int(parts["year"])
    if year > date.today().year:
        return None  # a size, such as tile_2048
    try:
        if "day_of_year" in parts:
            return (date(year, 1, 1) + timedelta(int(parts["day_of_year"]) - 1)).isoformat()
        if "day" in parts:
            return date(year, int(parts["month"]), int(parts["day"])).isoformat()
    except ValueError:
        return None  # digits that look like a date and are none, such as 20210231
    return f"{year}-{parts['month']}" if "month" in parts else str(year)
