"""The commands of rsseg as algorithms of Processing."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from qgis.core import (
    QgsFeature,
    QgsField,
    QgsFields,
    QgsProcessingAlgorithm,
    QgsProcessingException,
    QgsProcessingLayerPostProcessorInterface,
    QgsProcessingOutputNumber,
)
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QCoreApplication, QThread, QVariant
from qgis.PyQt.QtGui import QIcon

from .commands import Command
from .parameters import PARAMETERS, READERS, Given
from .program import CanceledError, NotFoundError, remove, run, unfinished_of
from .settings import rsseg_program

ICON = Path(__file__).parent / "icon.png"
FOR_PROGRAMS = ("--json", "--progress", "json")


class Algorithm(QgsProcessingAlgorithm):
    """A command, run as a program of its own."""

    def __init__(self, command: Command) -> None:
        super().__init__()
        self.command = command

    def createInstance(self) -> Algorithm:  # noqa: N802 - this and the like are called by QGIS
        return Algorithm(self.command)

    def name(self) -> str:
        return self.command.name.replace("-", "")

    def displayName(self) -> str:  # noqa: N802
        return self.command.title

    def shortHelpString(self) -> str:  # noqa: N802
        return self.command.about

    def icon(self) -> QIcon:
        return QIcon(str(ICON))

    def canExecute(self) -> tuple[bool, str]:  # noqa: N802
        try:
            rsseg_program()
        except NotFoundError as problem:
            return False, str(problem)
        return True, ""

    def initAlgorithm(self, config: Any = None) -> None:  # noqa: N802
        for option in self.command.options:
            self.addParameter(PARAMETERS[option.kind](option))
        for name, _, text in self.command.figures:
            self.addOutput(QgsProcessingOutputNumber(name, text))

    def checkParameterValues(self, parameters: dict[str, Any], context: Any) -> tuple[bool, str]:  # noqa: N802
        names = self.command.one_of
        if names and not any(parameters.get(name) for name in names):
            words = (self.parameterDefinition(name).description() for name in names)
            return False, "One of these is needed: " + "; ".join(words)
        found: tuple[bool, str] = super().checkParameterValues(parameters, context)
        return found

    def processAlgorithm(self, parameters: dict[str, Any], context: Any, feedback: Any) -> dict[str, Any]:  # noqa: N802
        given = Given(self, parameters, context, feedback)
        values = {option.name: READERS[option.kind](given, option) for option in self.command.options}
        outputs = {o.name: values[o.name][0] for o in self.command.outputs if values[o.name]}
        report = _report(self._call(values), list(outputs.values()), feedback)
        if report is None:
            return {}
        for line in lines_of(report):
            feedback.pushInfo(line)
        for path in filter(context.willLoadLayerOnCompletion, outputs.values()):
            ClassColors.await_layer(context.layerToLoadOnCompletionDetails(path))
        return {**outputs, **self._figures(report), **self._tables(report, parameters, context)}

    def _call(self, values: dict[str, list[str]]) -> list[str]:
        try:
            call = [rsseg_program(), self.command.name]
        except NotFoundError as problem:
            raise QgsProcessingException(str(problem)) from problem
        for option in self.command.options:
            call += option.said(values[option.name])
        # QGIS asks before it comes to this.
        return [*call, "--overwrite"] if self.command.outputs else call

    def _figures(self, report: dict[str, Any]) -> dict[str, Any]:
        return {name: report[key] for name, key, _ in self.command.figures if report.get(key) is not None}

    def _tables(self, report: dict[str, Any], parameters: dict[str, Any], context: Any) -> dict[str, Any]:
        """A row a class, where the command has a table."""
        names = [option.name for option in self.command.options if option.kind == "new table"]
        return {name: self._table(name, report["classes"], parameters, context) for name in names}

    def _table(
        self, name: str, classes: dict[str, dict[str, float | None]], parameters: dict[str, Any], context: Any
    ) -> str:
        columns = list(next(iter(classes.values())))
        fields = QgsFields()
        fields.append(QgsField("class", QVariant.String))
        for column in columns:
            fields.append(QgsField(column, QVariant.LongLong if column.endswith("pixels") else QVariant.Double))
        sink, place = self.parameterAsSink(parameters, name, context, fields)
        if sink is None:
            raise QgsProcessingException(self.invalidSinkError(parameters, name))
        for class_name, figures in classes.items():
            row = QgsFeature(fields)
            row.setAttributes([class_name, *(figures[column] for column in columns)])
            sink.addFeature(row)
        return str(place)


class ClassColors(QgsProcessingLayerPostProcessorInterface):
    """Processing loads layers without their style; this gives them the one that lies in them or beside them."""

    waiting: ClassVar[set[ClassColors]] = set()

    @classmethod
    def await_layer(cls, details: Any) -> None:
        colors = cls()
        # QGIS will delete it, but does not keep alive what of it is Python.
        sip.transferto(colors, None)
        cls.waiting.add(colors)
        details.setPostProcessor(colors)

    def postProcessLayer(self, layer: Any, context: Any, feedback: Any) -> None:  # noqa: N802
        layer.loadDefaultStyle()
        self.waiting.discard(self)


class Listener:
    """Hands on to QGIS what rsseg says on stderr: events in JSON, and what libraries print beside them."""

    def __init__(self, feedback: Any) -> None:
        self.feedback = feedback
        self.label = ""
        self.problem = ""

    def __call__(self, line: str) -> None:
        event = _event(line)
        kind, text = event.get("event"), str(event.get("text", ""))
        if kind == "progress":
            self._progress(event)
        elif kind == "warning":
            self.feedback.pushWarning(text)
        elif kind == "error":
            self.problem = text + (f"\nHint: {event['hint']}" if event.get("hint") else "")
        elif kind is not None:
            self.feedback.pushInfo(text)
        elif line:
            self.feedback.pushConsoleInfo(line)

    def _progress(self, event: dict[str, Any]) -> None:
        if event["label"] != self.label:
            self.label = event["label"]
            self.feedback.setProgressText(self.label)
        self.feedback.setProgress(event["percent"])


def _event(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _report(call: Sequence[str], outputs: Sequence[str], feedback: Any) -> dict[str, Any] | None:
    """What the run reports; None if it was cancelled."""
    feedback.pushCommandInfo(subprocess.list2cmdline(call))
    listener = Listener(feedback)
    before = unfinished_of(outputs)
    try:
        code, text = run([*call, *FOR_PROGRAMS], listener, lambda: _is_canceled(feedback))
    except CanceledError:
        for left in remove(unfinished_of(outputs) - before):
            feedback.pushWarning(f"{left} could not be removed")
        return None
    except OSError as problem:
        raise QgsProcessingException(f"{call[0]} could not be started: {problem.strerror or problem}") from problem
    if code:
        raise QgsProcessingException(listener.problem or f"rsseg ended with exit code {code}; the log says more")
    report: dict[str, Any] = json.loads(text)
    return report


def _is_canceled(feedback: Any) -> bool:
    # Batches run in the thread of the windows; there nobody sees a click unless it is let through.
    if QThread.currentThread() == QCoreApplication.instance().thread():
        QCoreApplication.processEvents()
    return bool(feedback.isCanceled())


def lines_of(report: dict[str, Any]) -> list[str]:
    """The figures of a report, for people."""
    lines = [f"{name}: {_rounded(value)}" for name, value in report.items() if isinstance(value, (str, int, float))]
    classes = report.get("classes")
    for name, figures in classes.items() if isinstance(classes, dict) else ():
        lines.append(f"{name}: " + ", ".join(f"{key} {_rounded(value)}" for key, value in figures.items()))
    for part in report.get("outputs", ()):
        lines += lines_of(part)
    return lines


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else "-" if value is None else value
