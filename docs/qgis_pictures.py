"""Draws docs/qgis_*.png: the toolbox and a window of QGIS, and what comes out. Run by QGIS's own Python:

QT_QPA_PLATFORM=offscreen PATH=/usr/bin:/bin /usr/bin/python3 docs/qgis_pictures.py MAPS

MAPS is a folder that `rsseg demo` wrote.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from qgis.core import (
    QgsApplication,
    QgsLayout,
    QgsLayoutExporter,
    QgsLayoutItemLegend,
    QgsLayoutItemMap,
    QgsLayoutPoint,
    QgsLayoutSize,
    QgsMapLayerLegendUtils,
    QgsProject,
    QgsRasterLayer,
    QgsUnitTypes,
    QgsVectorLayer,
)
from qgis.gui import QgsProcessingToolboxTreeView
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QImage
from qgis.PyQt.QtWidgets import QWidget

HERE = Path(__file__).parent
PLUGIN = HERE.parent / "rsseg_cli" / "qgis"
PREFIX = "/usr"
SIDE_MM, LEGEND_MM, GAP_MM, DPI = 60, 38, 3, 100


def main(maps: Path) -> None:
    application = QgsApplication([], True)
    application.setPrefixPath(PREFIX, True)
    application.initQgis()
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(PLUGIN, Path(folder) / "rsseg")
        sys.path[:0] = [f"{PREFIX}/share/qgis/python/plugins", folder]
        draw_windows()
    draw_results(maps)
    for path in HERE.glob("qgis_*.png"):  # as small as they get without loss
        QImage(str(path)).convertToFormat(QImage.Format_RGB888).save(str(path), "PNG", 0)
    application.exitQgis()


def draw_windows() -> None:
    from processing.core.Processing import Processing
    from processing.gui.AlgorithmDialog import AlgorithmDialog

    Processing.initialize()
    import rsseg

    plugin = rsseg.classFactory(None)
    plugin.initProcessing()
    registry = QgsApplication.processingRegistry()
    tree = QgsProcessingToolboxTreeView(None, registry)
    tree.setFilterString("rsseg")
    tree.expandAll()
    tree.setHeaderHidden(True)
    save(tree, QSize(330, 150), "toolbox")
    save(AlgorithmDialog(registry.createAlgorithmById("rsseg:segment")), QSize(760, 560), "window")
    plugin.unload()


def save(widget: QWidget, size: QSize, name: str) -> None:
    widget.resize(size)
    widget.show()
    for _ in range(5):
        QgsApplication.processEvents()
    widget.grab().save(str(HERE / f"qgis_{name}.png"))
    widget.close()


def draw_results(maps: Path) -> None:
    """A map and its polygons, each with its legend."""
    layers = [
        QgsRasterLayer(str(maps / "maps" / "source" / "meadow_3_labels.tif"), "Map"),
        QgsVectorLayer(str(maps / "meadow_3.gpkg"), "Polygons"),
    ]
    QgsProject.instance().addMapLayers(layers)
    layout = QgsLayout(QgsProject.instance())
    layout.initializeDefaults()
    step = SIDE_MM + LEGEND_MM + 2 * GAP_MM
    layout.pageCollection().page(0).setPageSize(QgsLayoutSize(len(layers) * step, SIDE_MM))
    for place, layer in enumerate(layers):
        shown = QgsLayoutItemMap(layout)
        shown.setLayers([layer])
        shown.attemptMove(QgsLayoutPoint(place * step, 0))
        shown.attemptResize(QgsLayoutSize(SIDE_MM, SIDE_MM, QgsUnitTypes.LayoutMillimeters))
        shown.setCrs(layer.crs())
        shown.setExtent(layer.extent())
        legend = QgsLayoutItemLegend(layout)
        legend.setAutoUpdateModel(False)
        legend.model().rootGroup().clear()
        entry = legend.model().rootGroup().addLayer(layer)
        if isinstance(layer, QgsRasterLayer):  # its first line is the name of the band
            QgsMapLayerLegendUtils.setLegendNodeOrder(entry, range(1, 1 + len(layer.renderer().classes())))
            legend.model().refreshLayerLegend(entry)
        legend.attemptMove(QgsLayoutPoint(place * step + SIDE_MM + GAP_MM, 0))
        layout.addLayoutItem(shown)
        layout.addLayoutItem(legend)
    settings = QgsLayoutExporter.ImageExportSettings()
    settings.dpi = DPI
    settings.exportMetadata = False  # which GDAL would have to write into the picture
    QgsLayoutExporter(layout).exportToImage(str(HERE / "qgis_results.png"), settings)
    QgsProject.instance().clear()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
