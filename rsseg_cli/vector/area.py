"""The part of a scene that a map is wanted of, drawn as polygons."""

import hashlib
from dataclasses import dataclass
from math import ceil, floor

from rasterio.windows import Window

from rsseg_cli.errors import RssegError
from rsseg_cli.raster.grid import Grid
from rsseg_cli.raster.labels import Ids
from rsseg_cli.raster.scene import Scene


@dataclass(frozen=True)
class Area:
    """A window of a scene, and which of the scene's pixels have their centre inside the polygons."""

    window: Window  # the bounds of the polygons, as far as the scene reaches
    inside: Ids  # 1 inside, 0 outside, by windows of the scene
    digest: str  # of the outlines

    def grown(self, margin_px: int, grid: Grid) -> Window:
        """The window and its surroundings, as far as the scene reaches."""
        top, left = max(0, self.window.row_off - margin_px), max(0, self.window.col_off - margin_px)
        bottom = min(grid.height, self.window.row_off + self.window.height + margin_px)
        right = min(grid.width, self.window.col_off + self.window.width + margin_px)
        return Window(left, top, right - left, bottom - top)


def open_area(text: str, scene: Scene) -> Area:
    """The polygons of `FILE[:LAYER]` on a scene."""
    # geopandas takes long to import, and most maps are made without it.
    import numpy as np
    import shapely

    from rsseg_cli.vector.labels import PolygonIds, polygons_among
    from rsseg_cli.vector.placing import in_pixels
    from rsseg_cli.vector.reading import read_polygons

    frame = read_polygons(text)
    frame = frame[polygons_among(frame)]
    if len(frame) == 0:
        raise RssegError(f"{text}: holds no polygon", "check the layer; lines and points enclose nothing", file=text)
    outlines = in_pixels(text, frame, scene.grid, scene.path)
    height, width = scene.grid.shape
    left, top, right, bottom = shapely.total_bounds(shapely.clip_by_rect(outlines, 0, 0, width, height))
    left, top = min(floor(left), width - 1), min(floor(top), height - 1)
    window = Window(left, top, max(1, ceil(right) - left), max(1, ceil(bottom) - top))
    digest = hashlib.sha256(b"".join(shapely.to_wkb(outlines))).hexdigest()
    return Area(window, PolygonIds(outlines, np.ones(len(outlines), np.uint8), fill=0), digest)
