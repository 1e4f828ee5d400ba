"""rsseg: map land cover and find change in imagery nobody has labelled."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rsseg_cli.environment import prepare

if TYPE_CHECKING:
    from rsseg_cli.change_detection import detect_change
    from rsseg_cli.evaluation import evaluate
    from rsseg_cli.raster.sources import open_scene
    from rsseg_cli.segmentation import segment
    from rsseg_cli.vectorization import vectorize

__version__ = "0.1.0"

# The verbs as functions; imported when first used, so that `rsseg --help` stays quick.
_VERBS = {
    "open_scene": "rsseg_cli.raster.sources",
    "detect_change": "rsseg_cli.change_detection",
    "evaluate": "rsseg_cli.evaluation",
    "segment": "rsseg_cli.segmentation",
    "vectorize": "rsseg_cli.vectorization",
}
__all__ = ["__version__", "detect_change", "evaluate", "open_scene", "segment", "vectorize"]


def __getattr__(name: str) -> Any:
    if name in _VERBS:
        prepare()  # before anything imports GDAL
        return getattr(import_module(_VERBS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
