"""Turns a landscape into reflectance and labels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rsseg_cli.samples.canvas import Canvas, Floats
from rsseg_cli.samples.classes import WATER
from rsseg_cli.samples.landscape import Landscape
from rsseg_cli.samples.light import SKY, Season, facing, lit
from rsseg_cli.samples.materials import MATERIALS, NUMBERS, STRAW
from rsseg_cli.samples.noise import band_noise
from rsseg_cli.samples.solids import draw_building, draw_tree
from rsseg_cli.samples.streams import Kind, stream
from rsseg_cli.samples.strokes import draw_car, draw_patch, draw_roads

CLASS_OF = np.array([material.class_id for material in MATERIALS], np.uint8)


@dataclass(frozen=True)
class Picture:
    """What reaches a perfect sensor, and what is seen."""

    reflectance: Floats
    """Red, green, blue and near infrared, (4, y, x)."""
    labels: NDArray[np.uint8]
    """Class of the surface on top, whether lit or in shadow."""


@dataclass(frozen=True)
class Textures:
    """Fields of mean 0 and deviation 1 at three scales."""

    fine: Floats
    """Waves of 0.5 m to 2 m."""
    medium: Floats
    """Waves of 2 m to 15 m."""
    broad: Floats
    """Waves of 15 m to 80 m."""

    @classmethod
    def of(cls, seed: int, side_px: int, resolution_m: float) -> "Textures":
        """Draw the fields of a landscape."""
        rng = stream(seed, Kind.TEXTURE)
        bands_m = ((0.5, 2.0), (2.0, 15.0), (15.0, 80.0))
        return cls(*(band_noise((side_px, side_px), resolution_m, *band_m, rng) for band_m in bands_m))


def render(landscape: Landscape, season: Season, side_px: int, resolution_m: float) -> Picture:
    """Draw the square of a landscape around (0, 0)."""
    textures = Textures.of(landscape.seed, side_px, resolution_m)
    canvas = draw(landscape, side_px, resolution_m, textures)
    reflectance = _albedo(canvas, textures, season)
    direct = facing(canvas, season) * ndimage.gaussian_filter(lit(canvas, season), 0.15 / resolution_m)
    water = CLASS_OF[canvas.material] == WATER
    ripples = np.maximum(textures.fine + textures.broad - 0.6, 0) * water * direct * np.float32(season.glint)
    for band in range(4):
        sky = SKY[band] * np.float32(season.sky)
        reflectance[band] *= sky + (1 - sky) * direct
        reflectance[band] += ripples
    return Picture(reflectance, CLASS_OF[canvas.material])


def draw(landscape: Landscape, side_px: int, resolution_m: float, textures: Textures) -> Canvas:
    """Draw all elements, the lowest first."""
    canvas = Canvas.blank(side_px, resolution_m, NUMBERS[landscape.ground])
    for patch in (*landscape.patches, *landscape.waters):
        draw_patch(canvas, patch)
    _roughen(canvas, stream(landscape.seed, Kind.BORDERS))
    draw_roads(canvas, landscape.roads)
    for patch in landscape.sealed:
        draw_patch(canvas, patch)
    for car in landscape.cars:
        draw_car(canvas, car)
    for building in landscape.buildings:
        draw_building(canvas, building)
    for tree in landscape.trees:
        draw_tree(canvas, tree, textures.fine)
    return canvas


def _roughen(canvas: Canvas, rng: np.random.Generator) -> None:
    """Bend the borders of soft ground by about half a metre."""
    reach_px, shape = 0.5 / canvas.resolution_m, canvas.material.shape
    index = np.arange(canvas.side_px)
    shift, slide = (band_noise(shape, canvas.resolution_m, 4.0, 16.0, rng) * reach_px for _ in range(2))
    rows = index[:, None] + np.rint(shift).astype(np.int32)
    columns = index[None, :] + np.rint(slide).astype(np.int32)
    np.clip(rows, 0, canvas.side_px - 1, out=rows)
    np.clip(columns, 0, canvas.side_px - 1, out=columns)
    canvas.material[:] = canvas.material[rows, columns]
    canvas.tint[:] = canvas.tint[rows, columns]


def _albedo(canvas: Canvas, textures: Textures, season: Season) -> Floats:
    def per_pixel(values: list[float]) -> Floats:
        return np.array(values, np.float32)[canvas.material]

    texture = per_pixel([m.fine for m in MATERIALS]) * textures.fine
    texture += per_pixel([m.medium for m in MATERIALS]) * textures.medium
    texture += per_pixel([m.broad for m in MATERIALS]) * textures.broad
    texture = np.clip(1 + texture, 0.3, 2.0) * canvas.tint
    # Grass dries in spots: where the ground is high or thin, in waves of metres.
    straw = np.clip(season.dryness + 0.16 * textures.medium[::-1] + 0.1 * textures.broad[:, ::-1], 0, 1)
    straw *= per_pixel([m.drying for m in MATERIALS])
    reflectance = np.empty((4, *canvas.material.shape), np.float32)
    for band in range(4):
        base = per_pixel([m.reflectance[band] for m in MATERIALS])
        reflectance[band] = (base + straw * (np.float32(STRAW[band]) - base)) * texture
    return reflectance
