"""rsseg: map land cover and find change in imagery nobody has labelled."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# The verbs as functions; imported when first used, so that `rsseg --help` stays quick.
_VERBS = {
    "open_scene": "rsseg_cli.raster.sources",
    "evaluate": "rsseg_cli.evaluation",
}
__all__ = ["__version__", "evaluate", "open_scene"]


def __getattr__(name: str) -> Any:
    if name in _VERBS:
        return getattr(import_module(_VERBS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
