"""The plugin, and its provider of algorithms."""

from __future__ import annotations

from qgis.core import QgsApplication, QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from . import settings
from .algorithms import ICON, Algorithm
from .commands import COMMANDS


class Provider(QgsProcessingProvider):
    def id(self) -> str:
        return "rsseg"

    def name(self) -> str:
        return "rsseg"

    def icon(self) -> QIcon:
        return QIcon(str(ICON))

    def load(self) -> bool:
        settings.register(self.icon())
        self.refreshAlgorithms()
        return True

    def unload(self) -> None:
        settings.unregister()

    def loadAlgorithms(self) -> None:  # noqa: N802 - this and the like are called by QGIS
        for command in COMMANDS:
            self.addAlgorithm(Algorithm(command))

    def supportedOutputRasterLayerExtensions(self) -> list[str]:  # noqa: N802
        return ["tif"]

    def supportedOutputVectorLayerExtensions(self) -> list[str]:  # noqa: N802
        return ["gpkg", "fgb", "geojson"]

    def supportsNonFileBasedOutput(self) -> bool:  # noqa: N802
        return False


class Plugin:
    def __init__(self) -> None:
        self.provider: Provider | None = None

    def initProcessing(self) -> None:  # noqa: N802
        self.provider = Provider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self) -> None:  # noqa: N802
        self.initProcessing()

    def unload(self) -> None:
        if self.provider is not None:
            QgsApplication.processingRegistry().removeProvider(self.provider)
            self.provider = None
