"""Draws what stands up: roofs and crowns."""

import math

import numpy as np

from rsseg_cli.samples.canvas import Canvas, Floats, Mask, Window
from rsseg_cli.samples.landscape import Building, Tree
from rsseg_cli.samples.materials import NUMBERS


def draw_building(canvas: Canvas, building: Building) -> None:
    """Put a roof on the canvas, where nothing higher stands."""
    half_length, half_width = building.length_m / 2, building.width_m / 2
    window, along, across = canvas.rectangle(building.centre, building.length_m, building.width_m, building.angle)
    inset = np.asarray(half_width - np.abs(across), np.float32)
    end = np.asarray(half_length - np.abs(along), np.float32)
    mask = (inset >= 0) & (end >= 0)
    pitch = building.rise_m / half_width
    at_end = (end < inset) if building.shape == "hip" else np.zeros_like(mask)
    height = building.eaves_m + pitch * np.where(at_end, end, inset)
    mask &= height > canvas.height[window]
    canvas.paint(window, mask, NUMBERS[building.material], _roof_tint(building, inset, end))
    canvas.height[window][mask] = height[mask]
    slope = np.stack([-pitch * np.sign(along) * at_end, -pitch * np.sign(across) * ~at_end]).astype(np.float32)
    _tilt(canvas, building.angle, (window, mask), slope)
    _fit_out(canvas, building)


def _roof_tint(building: Building, inset: Floats, end: Floats) -> Floats:
    tint = np.full(inset.shape, building.tint, np.float32)
    if building.shape == "flat":
        # A parapet runs round a flat roof, a little brighter than its inside.
        tint[np.minimum(inset, end) < 0.35] *= 1.25
    else:
        tint *= (1 + 0.05 * np.sin(inset * (2 * math.pi / 0.9))).astype(np.float32)
        tint[np.abs(inset - building.width_m / 2) < 0.2] *= 1.12
    return tint


def _tilt(canvas: Canvas, angle: float, part: tuple[Window, Mask], slope: Floats) -> None:
    """Write the slope of a roof, given along and across its ridge."""
    (window, mask), (along, across) = part, slope
    canvas.slope[0][window][mask] = (math.cos(angle) * along - math.sin(angle) * across)[mask]
    canvas.slope[1][window][mask] = (math.sin(angle) * along + math.cos(angle) * across)[mask]


def _fit_out(canvas: Canvas, building: Building) -> None:
    cosine, sine = math.cos(building.angle), math.sin(building.angle)
    size_m = 0.8 if building.shape != "flat" else 1.6
    for share_along, share_across in building.fittings:
        along, across = share_along * building.length_m, share_across * building.width_m
        centre = (building.centre[0] + cosine * along - sine * across,
                  building.centre[1] + sine * along + cosine * across)  # fmt: skip
        window, near, wide = canvas.rectangle(centre, size_m, size_m, building.angle)
        mask = (np.abs(near) <= size_m / 2) & (np.abs(wide) <= size_m / 2)
        canvas.paint(window, mask, NUMBERS["roof fitting"], 0.8)
        canvas.height[window][mask] = building.eaves_m + building.rise_m + 0.7
        canvas.slope[(slice(None), *window)][:, mask] = 0


def draw_tree(canvas: Canvas, tree: Tree, clumps: Floats) -> None:
    """Put a crown on the canvas, its edge and top made uneven by a field of clumps."""
    reach_m = tree.radius_m * 1.25
    x, y = tree.centre
    window = canvas.window(x - reach_m, x + reach_m, y - reach_m, y + reach_m)
    east, north = canvas.places(window)
    if not (east.size and north.size):
        return
    east, north = (east - x) / tree.radius_m, (north - y) / tree.radius_m
    uneven = clumps[window]
    distance = east**2 + north**2 + 0.13 * uneven
    dome = np.sqrt(np.clip(1 - distance, 0.0, 1.0))
    base_m = tree.height_m * 0.45
    height = (base_m + (tree.height_m - base_m) * dome).astype(np.float32)
    mask = (distance < 1.0) & (height > canvas.height[window])
    canvas.paint(window, mask, NUMBERS[tree.material], (tree.tint * (1 + 0.1 * uneven)).astype(np.float32))
    canvas.height[window][mask] = height[mask]
    steep = (tree.height_m - base_m) / tree.radius_m / np.maximum(dome, 0.55)
    canvas.slope[0][window][mask] = (-east * steep)[mask]
    canvas.slope[1][window][mask] = (-north * steep)[mask]
