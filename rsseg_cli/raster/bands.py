"""Which band of one scene is which band of another, or of a model: one rule for all commands."""

import logging
from collections.abc import Sequence

from rsseg_cli.raster.scene import Scene

logger = logging.getLogger(__name__)


def shared_names(scene: Scene, wanted: Sequence[str]) -> list[str]:
    """Those of the wanted bands that the scene has by name.

    Numbers are no names: band 3 of seven and band 3 of twelve have nothing in common.
    """
    own = {name.casefold() for name in scene.names}
    return [name for name in wanted if name.casefold() in own and not name.isdigit()]


def matched(scene: Scene, wanted: Sequence[str], called: str) -> Scene | None:
    """The scene with the bands wanted: by name, or by order where as many bands have no name in common; else None.

    `called` is what the wanted bands are called in the note on the order.
    """
    own = [name.casefold() for name in scene.names]
    if own == [name.casefold() for name in wanted]:
        return scene
    shared = shared_names(scene, wanted)
    if len(shared) == len(wanted):
        return scene.select(",".join(wanted))
    if shared or len(own) != len(wanted):
        return None
    logger.info(
        "%s: its bands %s are taken as %s, in this order",
        scene.path,
        listed(scene.names),
        called,
        extra={"topic": f"by order: {own}"},
    )
    return scene


def listed(names: Sequence[str], most: int = 12) -> str:
    """Band names in one line, however many there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
