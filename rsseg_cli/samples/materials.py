"""What surfaces are made of: their class, reflectance and texture."""

from dataclasses import dataclass

from rsseg_cli.samples.classes import BARE, BUILDING, GRASS, ROAD, TREE, WATER


@dataclass(frozen=True)
class Material:
    """A surface as the light sees it."""

    name: str
    """The name by which elements refer to it."""
    class_id: int
    """The class it is labelled as."""
    reflectance: tuple[float, float, float, float]
    """Red, green, blue and near infrared reflectance, 0 to 1."""
    fine: float
    """Relative deviation of the texture below 2 m."""
    medium: float
    """Relative deviation of the texture of 2 m to 15 m."""
    broad: float
    """Relative deviation of the texture of 15 m to 80 m."""
    drying: float = 0.0
    """Share that turns to straw when the season is fully dry, 0 to 1."""


STRAW = (0.25, 0.205, 0.13, 0.33)

MATERIALS: tuple[Material, ...] = (
    Material("asphalt", ROAD, (0.145, 0.145, 0.145, 0.165), 0.05, 0.05, 0.05),
    Material("worn asphalt", ROAD, (0.205, 0.20, 0.19, 0.225), 0.06, 0.06, 0.05),
    Material("paving", ROAD, (0.255, 0.24, 0.22, 0.275), 0.06, 0.05, 0.05),
    Material("paint", ROAD, (0.46, 0.46, 0.44, 0.47), 0.05, 0.05, 0.0),
    Material("white car", ROAD, (0.55, 0.56, 0.56, 0.52), 0.0, 0.0, 0.0),
    Material("dark car", ROAD, (0.06, 0.06, 0.07, 0.08), 0.0, 0.0, 0.0),
    Material("red car", ROAD, (0.33, 0.07, 0.06, 0.33), 0.0, 0.0, 0.0),
    Material("blue car", ROAD, (0.08, 0.12, 0.27, 0.20), 0.0, 0.0, 0.0),
    Material("lawn", GRASS, (0.085, 0.125, 0.06, 0.39), 0.12, 0.11, 0.08, 0.75),
    Material("meadow", GRASS, (0.11, 0.135, 0.075, 0.36), 0.16, 0.15, 0.11, 0.85),
    Material("crop", GRASS, (0.07, 0.115, 0.05, 0.44), 0.10, 0.08, 0.07, 0.8),
    Material("dry grass", GRASS, (0.205, 0.18, 0.115, 0.315), 0.12, 0.12, 0.08, 0.8),
    Material("weeds", GRASS, (0.16, 0.155, 0.095, 0.30), 0.18, 0.16, 0.08, 0.9),
    Material("soil", BARE, (0.205, 0.165, 0.115, 0.265), 0.10, 0.11, 0.08),
    Material("ploughed", BARE, (0.15, 0.115, 0.08, 0.195), 0.10, 0.09, 0.08),
    Material("gravel", BARE, (0.235, 0.222, 0.198, 0.255), 0.12, 0.10, 0.07),
    Material("sand", BARE, (0.33, 0.28, 0.20, 0.38), 0.08, 0.10, 0.08),
    Material("stubble", BARE, (0.255, 0.21, 0.14, 0.31), 0.10, 0.09, 0.07),
    Material("water", WATER, (0.055, 0.07, 0.063, 0.045), 0.04, 0.08, 0.14),
    Material("turbid water", WATER, (0.085, 0.097, 0.075, 0.06), 0.04, 0.08, 0.14),
    Material("leaves", TREE, (0.085, 0.13, 0.065, 0.46), 0.20, 0.10, 0.08, 0.15),
    Material("light leaves", TREE, (0.12, 0.165, 0.08, 0.50), 0.18, 0.10, 0.08, 0.2),
    Material("needles", TREE, (0.06, 0.09, 0.056, 0.30), 0.20, 0.10, 0.06),
    Material("olive leaves", TREE, (0.135, 0.15, 0.105, 0.34), 0.20, 0.10, 0.06, 0.1),
    Material("autumn leaves", TREE, (0.16, 0.115, 0.05, 0.36), 0.20, 0.10, 0.08, 0.1),
    Material("hedge", TREE, (0.075, 0.12, 0.06, 0.42), 0.18, 0.10, 0.06, 0.1),
    Material("red tiles", BUILDING, (0.26, 0.135, 0.095, 0.30), 0.06, 0.05, 0.03),
    Material("brown tiles", BUILDING, (0.19, 0.145, 0.105, 0.245), 0.07, 0.06, 0.03),
    Material("slate", BUILDING, (0.115, 0.117, 0.122, 0.135), 0.06, 0.05, 0.03),
    Material("bitumen", BUILDING, (0.185, 0.182, 0.178, 0.205), 0.05, 0.07, 0.04),
    Material("membrane", BUILDING, (0.44, 0.44, 0.42, 0.44), 0.03, 0.05, 0.03),
    Material("planted roof", BUILDING, (0.12, 0.135, 0.075, 0.33), 0.10, 0.12, 0.04, 0.5),
    Material("mossy tiles", BUILDING, (0.125, 0.125, 0.08, 0.265), 0.10, 0.12, 0.04),
    Material("green metal", BUILDING, (0.085, 0.135, 0.085, 0.22), 0.03, 0.03, 0.03),
    Material("clay tiles", BUILDING, (0.29, 0.205, 0.14, 0.345), 0.08, 0.06, 0.03),
    Material("gravel roof", BUILDING, (0.25, 0.235, 0.205, 0.28), 0.08, 0.08, 0.03),
    Material("concrete", BUILDING, (0.29, 0.28, 0.26, 0.31), 0.05, 0.06, 0.04),
    Material("roof fitting", BUILDING, (0.36, 0.36, 0.36, 0.38), 0.0, 0.0, 0.0),
    # For series. At the end, so that the others keep their numbers.
    Material("bare crowns", TREE, (0.145, 0.12, 0.095, 0.215), 0.22, 0.10, 0.06),
    Material("young crop", GRASS, (0.165, 0.15, 0.095, 0.275), 0.12, 0.11, 0.08, 0.3),
    Material("ripe crop", GRASS, (0.27, 0.215, 0.125, 0.34), 0.08, 0.07, 0.06),
)

NUMBERS: dict[str, int] = {material.name: number for number, material in enumerate(MATERIALS)}
