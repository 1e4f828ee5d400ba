"""Layout: what a raster that is written will hold, apart from its grid."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rsseg_cli.classes import ClassScheme


@dataclass(frozen=True)
class Layout:
    """What a raster holds, apart from its grid."""

    bands: tuple[str, ...]
    dtype: str
    nodata: float | None
    overviews: str = "AVERAGE"  # how zoomed-out levels are made
    tags: Mapping[str, str] = field(default_factory=dict)
    scheme: ClassScheme | None = None  # of a label map: colour table and style
    scale: float = 1.0  # stored value times this is the measurement
