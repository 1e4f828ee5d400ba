"""Keeps roads and rivers clear: takes away what the bends of the street net have pushed onto them."""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from rsseg_cli.samples.landscape import Building, Landscape, Line, Road

Array = NDArray[np.float64]

STEP_M = 1.0
"""Distance of the points by which a road is searched."""


def cleared(landscape: Landscape) -> Landscape:
    """Return the landscape without buildings on roads or pavements and without stems on carriageways."""
    streets = [road for road in landscape.roads if road.kind != "path"]
    buildings, trees = list(landscape.buildings), list(landscape.trees)
    outlines = np.array([_outline(building) for building in buildings]).reshape(-1, 2)
    touched = _on_road(outlines, streets, True).reshape(len(buildings), -1)
    built_on = [bool(points.any()) for points in touched]
    grown_on = _on_road(np.array([tree.centre for tree in trees]).reshape(-1, 2), streets, False)
    return replace(
        landscape,
        buildings=tuple(item for item, blocked in zip(buildings, built_on, strict=True) if not blocked),
        trees=tuple(item for item, blocked in zip(trees, grown_on, strict=True) if not blocked),
    )


def _outline(building: Building) -> Array:
    """Return points on the outline: corners and points between them."""
    share = np.linspace(-0.5, 0.5, 5)
    edge = np.full(5, 0.5)
    along = np.concatenate([share, share, edge, -edge]) * building.length_m
    across = np.concatenate([edge, -edge, share, share]) * building.width_m
    cosine, sine = math.cos(building.angle), math.sin(building.angle)
    east = building.centre[0] + cosine * along - sine * across
    return np.stack([east, building.centre[1] + sine * along + cosine * across], axis=1)


def _on_road(points: Array, roads: list[Road], with_verge: bool) -> NDArray[np.bool_]:
    blocked = np.zeros(len(points), bool)
    for kind in ("main", "street", "track"):
        ways = [road for road in roads if road.kind == kind]
        if ways and len(points):
            half_m = ways[0].width_m / 2 + (ways[0].verge_m if with_verge else 0.0)
            distance, _ = KDTree(np.concatenate([_dense(road.line) for road in ways])).query(points)
            blocked |= distance < half_m + 0.1
    return blocked


def _dense(line: Line) -> Array:
    corners = np.asarray(line)
    way_m = np.concatenate([[0.0], np.hypot(*np.diff(corners, axis=0).T).cumsum()])
    at_m = np.linspace(0.0, way_m[-1], max(2, math.ceil(way_m[-1] / STEP_M) + 1))
    return np.stack([np.interp(at_m, way_m, corners[:, axis]) for axis in (0, 1)], axis=1)
