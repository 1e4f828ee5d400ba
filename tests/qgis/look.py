"""What QGIS makes of a file, as JSON. Run by QGIS's own Python, of version 3.22 or newer: look.py FILE PICTURES."""

import json
import sys
from pathlib import Path
from typing import Any

from qgis.core import (
    NULL,
    QgsApplication,
    QgsMapLayer,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsProject,
    QgsProviderRegistry,
    QgsProviderSublayerDetails,
    QgsRasterLayer,
    QgsRenderContext,
    QgsVectorLayer,
    QgsWkbTypes,
)
from qgis.PyQt.QtCore import QSize

WIDTH_PX, HEIGHT_PX = 320, 240


def look(file: str, pictures: Path) -> dict[str, Any]:
    """What is known of each layer that QGIS offers when a person opens the file."""
    options = QgsProviderSublayerDetails.LayerOptions(QgsProject.instance().transformContext())
    layers = [offered.toLayer(options) for offered in QgsProviderRegistry.instance().querySublayers(file)]
    return {layer.name(): describe(layer, pictures / f"{place}.png") for place, layer in enumerate(layers)}


def describe(layer: QgsMapLayer, picture: Path) -> dict[str, Any]:
    if not layer.isSpatial():
        names = [field.name() for field in layer.fields()]
        rows = [[None if value == NULL else value for value in row.attributes()] for row in layer.getFeatures()]
        return {"valid": layer.isValid(), "rows": [dict(zip(names, row, strict=True)) for row in rows]}
    known = {
        "valid": layer.isValid(),
        "crs": layer.crs().authid(),
        "crs_name": layer.crs().description(),
        "renderer": layer.renderer().type(),
        "picture": draw(layer, picture),
    }
    extent = layer.extent()
    if not extent.isEmpty():
        known["extent"] = [extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum()]
    if known["renderer"] not in ("paletted", "categorizedSymbol"):
        return known
    if isinstance(layer, QgsRasterLayer):
        return known | {"classes": [[c.value, c.label, c.color.name()] for c in layer.renderer().classes()]}
    return known | describe_polygons(layer)


def describe_polygons(layer: QgsVectorLayer) -> dict[str, Any]:
    renderer = layer.renderer()
    return {
        "features": layer.featureCount(),
        "geometry": QgsWkbTypes.displayString(layer.wkbType()),
        "fields": [field.name() for field in layer.fields()],
        "attribute": renderer.classAttribute(),
        "classes": [[int(c.value()), c.label(), c.symbol().color().name()] for c in renderer.categories()],
        "legend": legend_entries(layer),
    }


def legend_entries(layer: QgsVectorLayer) -> list[list[Any]]:
    """(class_name, the entries of the legend under which QGIS draws it) of each polygon."""
    context, renderer = QgsRenderContext(), layer.renderer().clone()
    renderer.startRender(context, layer.fields())
    labels = {item.ruleKey(): item.label() for item in renderer.legendSymbolItems()}
    found = []
    for feature in layer.getFeatures():
        context.expressionContext().setFeature(feature)
        keys = renderer.legendKeysForFeature(feature, context)
        found.append([feature["class_name"], [labels[key] for key in keys]])
    renderer.stopRender(context)
    return found


def draw(layer: QgsMapLayer, picture: Path) -> str | None:
    """The whole layer, filling the picture; nothing of an empty one."""
    if layer.extent().isEmpty():
        return None
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setDestinationCrs(layer.crs())
    settings.setExtent(layer.extent())
    settings.setOutputSize(QSize(WIDTH_PX, HEIGHT_PX))
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    job.renderedImage().save(str(picture))
    return str(picture)


if __name__ == "__main__":
    application = QgsApplication([], False)
    application.initQgis()
    # Layers end with the function: those that outlive the application crash it.
    print(json.dumps(look(sys.argv[1], Path(sys.argv[2]))))
    application.exitQgis()
