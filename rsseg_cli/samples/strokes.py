"""Draws patches, roads and cars."""

import math
from collections.abc import Iterator

import numpy as np

from rsseg_cli.samples.canvas import Canvas, Floats, Window
from rsseg_cli.samples.landscape import Car, Patch, Road
from rsseg_cli.samples.materials import NUMBERS

DASH_M, GAP_M = 3.0, 4.0


def draw_patch(canvas: Canvas, patch: Patch) -> None:
    """Lay a ground cover, with its rows."""
    window, mask = canvas.inside(patch.outline)
    tint: float | Floats = patch.tint
    if patch.row_spacing_m:
        east, north = canvas.places(window)
        across = north * math.cos(patch.row_angle) - east * math.sin(patch.row_angle)
        swing = np.sin(across * (2 * math.pi / patch.row_spacing_m)) * patch.row_depth
        tint = (patch.tint * (1 + swing)).astype(np.float32)
    canvas.paint(window, mask, NUMBERS[patch.material], tint)


def draw_roads(canvas: Canvas, roads: tuple[Road, ...]) -> None:
    """Lay tracks, then pavements, then carriageways, then markings, so that crossings stay open."""
    for road in roads:
        if road.verge_m:
            _stroke(canvas, road, road.width_m / 2 + road.verge_m, "paving")
    for kind in ("path", "track", "street", "main"):
        for road in roads:
            if road.kind == kind:
                _stroke(canvas, road, road.width_m / 2, road.material)
    for road in roads:
        if road.kind == "main":
            _mark(canvas, road)


def _pieces(canvas: Canvas, road: Road, radius_m: float) -> Iterator[tuple[Window, Floats, Floats]]:
    """Yield a window per straight piece, with the distance from it and the way along the road."""
    way_m = 0.0
    for (x0, y0), (x1, y1) in zip(road.line, road.line[1:], strict=False):
        length_m = math.dist((x0, y0), (x1, y1))
        window = canvas.window(
            min(x0, x1) - radius_m, max(x0, x1) + radius_m, min(y0, y1) - radius_m, max(y0, y1) + radius_m
        )
        east, north = canvas.places(window)
        if east.size and north.size and length_m:
            cosine, sine = (x1 - x0) / length_m, (y1 - y0) / length_m
            along = (east - x0) * cosine + (north - y0) * sine
            near = np.clip(along, 0, length_m)
            distance = np.hypot(east - x0 - near * cosine, north - y0 - near * sine)
            # Before and after the piece the way is not a number: nothing is marked there.
            way = np.where(np.abs(along - length_m / 2) <= length_m / 2 + 0.05, along + way_m, np.nan)
            yield window, distance.astype(np.float32), way.astype(np.float32)
        way_m += length_m


def _stroke(canvas: Canvas, road: Road, half_m: float, material: str) -> None:
    for window, distance, _ in _pieces(canvas, road, half_m):
        # Wheels darken or polish the middle of each lane.
        wear = road.tint * (1 + 0.05 * np.cos(distance * (2 * math.pi / (road.width_m / 2))))
        canvas.paint(window, distance <= half_m, NUMBERS[material], wear.astype(np.float32))


def _mark(canvas: Canvas, road: Road) -> None:
    for window, distance, way in _pieces(canvas, road, road.width_m / 2):
        dash = (distance < 0.15) & (way % (DASH_M + GAP_M) < DASH_M)
        edge = (np.abs(distance - (road.width_m / 2 - 0.25)) < 0.13) & ~np.isnan(way)
        canvas.paint(window, dash, NUMBERS["paint"], 1.0)
        canvas.paint(window, edge, NUMBERS["paint"], 0.6)


def draw_car(canvas: Canvas, car: Car) -> None:
    """Put a car on what is below."""
    window, along, across = canvas.rectangle(car.centre, 4.3, 1.8, car.angle)
    body = (np.abs(along) <= 2.15) & (np.abs(across) <= 0.9)
    glass = np.abs(along - 0.75) < 0.35
    canvas.paint(window, body, NUMBERS[car.material], np.where(glass, 0.5, 1.0).astype(np.float32) + 0 * across)
    canvas.height[window][body] = 1.4
