"""What a command asks for, as parameters of Processing; and what a person gave, as words for the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingException,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterCrs,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFeatureSink,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterField,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterMapLayer,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorDestination,
    QgsRasterLayer,
)

from .commands import Option

# Vector files that both QGIS and rsseg read; other layers, filtered ones and selections are copied into the first.
VECTOR_ENDINGS = ("gpkg", "shp", "geojson", "fgb")
LABEL_TYPES = [QgsProcessing.TypeRaster, QgsProcessing.TypeVectorPolygon]

Make = Callable[[Option], QgsProcessingParameterDefinition]


@dataclass(frozen=True)
class Given:
    """What a person gave, and who can make sense of it."""

    algorithm: QgsProcessingAlgorithm
    values: dict[str, Any]
    context: Any
    feedback: Any

    def ask(self, method: str, name: str, *how: Any) -> Any:
        """Any of the `parameterAs...` that QGIS has."""
        return getattr(self.algorithm, method)(self.values, name, self.context, *how)


Read = Callable[[Given, Option], "list[str]"]


def _of(kind: Callable[..., Any], **fixed: Any) -> Make:
    """Makes parameters of one kind; a function among `fixed` is asked about the option."""

    def make(option: Option) -> QgsProcessingParameterDefinition:
        has_default = option.default is not None
        own = {name: value(option) if callable(value) else value for name, value in fixed.items()}
        given = (
            {"createByDefault": option.needed} if option.kind.startswith("new ") else {"defaultValue": option.default}
        )
        parameter = kind(option.name, option.text, optional=not (option.needed or has_default), **given, **own)
        parameter.setHelp(option.help)
        if option.advanced:
            parameter.setFlags(parameter.flags() | QgsProcessingParameterDefinition.FlagAdvanced)
        return parameter

    return make


def _least(option: Option) -> float:
    return -sys.float_info.max if option.least is None else option.least


PARAMETERS: dict[str, Make] = {
    "raster": _of(QgsProcessingParameterRasterLayer),
    "mask": _of(QgsProcessingParameterRasterLayer),
    "values": _of(QgsProcessingParameterString),
    "rasters": _of(QgsProcessingParameterMultipleLayers, layerType=QgsProcessing.TypeRaster),
    "polygons": _of(QgsProcessingParameterFeatureSource, types=[QgsProcessing.TypeVectorPolygon]),
    "labels": _of(QgsProcessingParameterMapLayer, types=LABEL_TYPES),
    "field": _of(QgsProcessingParameterField, parentLayerParameterName=lambda option: option.parent),
    "file": _of(QgsProcessingParameterFile, extension=lambda option: option.ending),
    "folder": _of(QgsProcessingParameterFile, behavior=QgsProcessingParameterFile.Folder),
    "choice": _of(QgsProcessingParameterEnum, options=lambda option: option.choices, usesStaticStrings=True),
    "number": _of(QgsProcessingParameterNumber, type=QgsProcessingParameterNumber.Double, minValue=_least),
    "whole number": _of(QgsProcessingParameterNumber, type=QgsProcessingParameterNumber.Integer, minValue=_least),
    "text": _of(QgsProcessingParameterString),
    "list": _of(QgsProcessingParameterString),
    "lines": _of(QgsProcessingParameterString, multiLine=True),
    "switch": _of(QgsProcessingParameterBoolean),
    "crs": _of(QgsProcessingParameterCrs),
    "new raster": _of(QgsProcessingParameterRasterDestination),
    "new polygons": _of(QgsProcessingParameterVectorDestination, type=QgsProcessing.TypeVectorPolygon),
    "new file": _of(QgsProcessingParameterFileDestination, fileFilter=lambda o: f"{o.text} (*.{o.ending})"),
    "new table": _of(QgsProcessingParameterFeatureSink, type=QgsProcessing.TypeVector),
}


def _text(method: str) -> Read:
    """For what can be said as QGIS has it."""

    def read(given: Given, option: Option) -> list[str]:
        if given.values.get(option.name, option.default) is None:
            return []
        value = given.ask(method, option.name)
        return [] if value in ("", option.default) else [str(value)]

    return read


def _raster(given: Given, option: Option) -> list[str]:
    layer = given.ask("parameterAsRasterLayer", option.name)
    return [_file_of(layer)] if _is_there(layer, given, option) else []


def _mask(given: Given, option: Option) -> list[str]:
    values = given.ask("parameterAsString", f"{option.name}_VALUES")
    return [f"{file}:{values}" if values else file for file in _raster(given, option)]


def _rasters(given: Given, option: Option) -> list[str]:
    return [_file_of(layer) for layer in given.ask("parameterAsLayerList", option.name)]


def _polygons(given: Given, option: Option) -> list[str]:
    # Without somebody to tell, QGIS 3.22 crashes where it has to copy.
    how = (VECTOR_ENDINGS, VECTOR_ENDINGS[0], given.feedback)
    path, layer = given.ask("parameterAsCompatibleSourceLayerPathAndLayerName", option.name, *how)
    return [f"{path}:{layer}" if layer else path] if _is_there(path, given, option) else []


def _labels(given: Given, option: Option) -> list[str]:
    layer = given.ask("parameterAsLayer", option.name)
    return [_file_of(layer)] if isinstance(layer, QgsRasterLayer) else _polygons(given, option)


def _is_there(found: Any, given: Given, option: Option) -> bool:
    if not found and given.values.get(option.name):
        raise QgsProcessingException(f"{option.text}: {given.values[option.name]} could not be opened")
    return bool(found)


def _file_of(layer: QgsRasterLayer) -> str:
    if layer.providerType() != "gdal":
        raise QgsProcessingException(
            f"{layer.name()}: does not come from a file that GDAL reads\nHint: save it first: Layer > Save As"
        )
    return str(layer.source())


def _switch(given: Given, option: Option) -> list[str]:
    return [""] if given.ask("parameterAsBool", option.name) else []


def _crs(given: Given, option: Option) -> list[str]:
    crs = given.ask("parameterAsCrs", option.name)
    return [crs.authid() or crs.toWkt()] if crs.isValid() else []


def _several(separator: str) -> Read:
    def read(given: Given, option: Option) -> list[str]:
        parts = given.ask("parameterAsString", option.name).split(separator)
        return [part.strip() for part in parts if part.strip()]

    return read


def _nothing(given: Given, option: Option) -> list[str]:
    """For what is no word of the command line."""
    return []


# What a person gave for an option: a word for each time that it is said; an empty one where it is only named.
READERS: dict[str, Read] = {
    "raster": _raster,
    "mask": _mask,
    "values": _nothing,
    "rasters": _rasters,
    "polygons": _polygons,
    "labels": _labels,
    "field": _text("parameterAsString"),
    "file": _text("parameterAsFile"),
    "folder": _text("parameterAsFile"),
    "choice": _text("parameterAsEnumString"),
    "number": _text("parameterAsDouble"),
    "whole number": _text("parameterAsInt"),
    "text": _text("parameterAsString"),
    "list": _several(","),
    "lines": _several("\n"),
    "switch": _switch,
    "crs": _crs,
    "new raster": _text("parameterAsOutputLayer"),
    "new polygons": _text("parameterAsOutputLayer"),
    "new file": _text("parameterAsFileOutput"),
    "new table": _nothing,
}
