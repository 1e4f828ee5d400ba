"""The land-cover classes of the sample scenes."""

ROAD, BUILDING, TREE, GRASS, WATER, BARE = range(6)

UNLABELLED = 255

CLASSES: tuple[tuple[int, str, str], ...] = (
    (ROAD, "road", "#6b6b6b"),
    (BUILDING, "building", "#d7301f"),
    (TREE, "tree", "#1b7837"),
    (GRASS, "grass", "#a6d96a"),
    (WATER, "water", "#2b83ba"),
    (BARE, "bare ground", "#d8b365"),
)
