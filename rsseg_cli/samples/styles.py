"""Town styles: how a landscape is laid out and built."""

from dataclasses import dataclass

Weights = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Style:
    """The habits of a town."""

    name: str
    """Short name, used in scene names."""
    block_m: tuple[float, float]
    """Mean size of a block along and across the long streets."""
    warp_m: float
    """How far streets bend away from straight."""
    stagger_m: float
    """How far side streets of neighbouring rows are offset."""
    turn: float
    """Direction of the long streets, radians from east."""
    uses: tuple[str, ...]
    """Land uses dealt out to each group of blocks two rows deep."""
    countryside: tuple[str, ...]
    """Land uses between towns, dealt out in the same way."""
    ground: str
    """Cover where nothing else is drawn."""
    lawns: Weights
    """Covers of gardens."""
    fields: Weights
    """Covers of fields."""
    bare: Weights
    """Covers of bare ground."""
    streets: Weights
    """Surfaces of streets."""
    houses: Weights
    """Roofing of houses."""
    halls: Weights
    """Roofing of large flat buildings."""
    foliage: Weights
    """Kinds of trees."""
    flat_share: float
    """Share of houses with a flat roof."""
    green_garden: float
    """Trees per 100 square metres of garden."""
    river_m: float
    """Mean width of the river."""
    meander_m: float
    """How far the river swings inside its corridor."""
    river_rows: int
    """Number of block rows from one river to the next."""
    water: str
    """Kind of water."""


MEADOW = Style(
    name="meadow",
    block_m=(64.0, 54.0),
    warp_m=17.0,
    stagger_m=22.0,
    turn=0.35,
    uses=("houses", "houses", "field", "yard", "houses", "park", "houses", "lot", "houses", "grove", "houses", "field"),
    countryside=("field", "field", "grove", "field", "field", "grove", "field", "park", "houses", "field"),
    ground="meadow",
    lawns=(("lawn", 0.5), ("meadow", 0.3), ("dry grass", 0.14), ("weeds", 0.06)),
    fields=(("crop", 0.25), ("meadow", 0.25), ("ploughed", 0.2), ("stubble", 0.2), ("dry grass", 0.1)),
    bare=(("soil", 0.5), ("gravel", 0.3), ("sand", 0.2)),
    streets=(("asphalt", 0.6), ("worn asphalt", 0.4)),
    houses=(("red tiles", 0.24), ("brown tiles", 0.2), ("slate", 0.22), ("mossy tiles", 0.17), ("bitumen", 0.17)),
    halls=(("bitumen", 0.35), ("gravel roof", 0.2), ("planted roof", 0.2), ("green metal", 0.15), ("membrane", 0.1)),
    foliage=(("leaves", 0.5), ("light leaves", 0.3), ("needles", 0.2)),
    flat_share=0.12,
    green_garden=0.75,
    river_m=11.0,
    meander_m=4.0,
    river_rows=4,
    water="water",
)

KARST = Style(
    name="karst",
    block_m=(58.0, 46.0),
    warp_m=2.5,
    stagger_m=3.0,
    turn=-0.21,
    uses=("rows", "rows", "lot", "yard", "rows", "orchard", "rows", "field", "site", "rows", "park", "houses"),
    countryside=("field", "orchard", "lot", "field", "grove", "field", "orchard", "houses"),
    ground="dry grass",
    lawns=(("dry grass", 0.4), ("weeds", 0.3), ("soil", 0.15), ("lawn", 0.15)),
    fields=(("stubble", 0.35), ("dry grass", 0.35), ("ploughed", 0.15), ("crop", 0.15)),
    bare=(("gravel", 0.4), ("sand", 0.35), ("soil", 0.25)),
    streets=(("worn asphalt", 0.6), ("asphalt", 0.25), ("paving", 0.15)),
    houses=(("clay tiles", 0.45), ("gravel roof", 0.15), ("membrane", 0.1), ("concrete", 0.2), ("brown tiles", 0.1)),
    halls=(("membrane", 0.25), ("concrete", 0.3), ("gravel roof", 0.25), ("bitumen", 0.1), ("green metal", 0.1)),
    foliage=(("leaves", 0.28), ("olive leaves", 0.37), ("needles", 0.25), ("autumn leaves", 0.1)),
    flat_share=0.4,
    green_garden=0.5,
    river_m=15.0,
    meander_m=2.0,
    river_rows=5,
    water="turbid water",
)
