"""Runs an algorithm as QGIS's windows do, without a screen. Run by QGIS's own Python: toolbox.py JSON.

The JSON says: `plugins`, a folder with the plugin, and its `settings`; `algorithm` or `model`, and `parameters`, of
which a list is for the window of batches. `open`: vector files that are layers of the project meanwhile; `edit`: and
that are being edited. `cancel`: what is said, or in a batch which file is there, when somebody clicks on Cancel.
`pictures`: a folder; what comes out is loaded into the project, and drawn there. `chain`: nothing is run, but a model
written: from scene to polygons. `windows`: nothing is run, but the window of each algorithm opened.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from look import describe
from qgis.core import (
    QgsApplication,
    QgsProcessingAlgorithm,
    QgsProcessingAlgRunnerTask,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingModelAlgorithm,
    QgsProcessingModelChildAlgorithm,
    QgsProcessingModelChildParameterSource,
    QgsProcessingModelOutput,
    QgsProcessingModelParameter,
    QgsProcessingOutputLayerDefinition,
    QgsProcessingParameterFile,
    QgsProcessingParameterRasterLayer,
    QgsProject,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QEventLoop, QTimer

PREFIX = "/usr"
POLL_MS = 20


class Feedback(QgsProcessingFeedback):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__(False)
        self.said: list[tuple[str, str]] = []

    def setProgress(self, percent: float) -> None:
        self.said.append(("progress", f"{percent:g}"))
        super().setProgress(percent)

    def setProgressText(self, text: str) -> None:
        self.said.append(("text", text))

    def pushInfo(self, text: str) -> None:
        self.said.append(("info", text))

    def pushWarning(self, text: str) -> None:
        self.said.append(("warning", text))

    def pushCommandInfo(self, text: str) -> None:
        self.said.append(("command", text))

    def pushConsoleInfo(self, text: str) -> None:
        self.said.append(("console", text))

    def reportError(self, text: str, fatalError: bool = False) -> None:  # noqa: N803
        self.said.append(("error", text))


def play(job: dict[str, Any]) -> dict[str, Any]:
    if "chain" in job:
        return {"ok": chain().toFile(job["chain"])}
    if "windows" in job:
        return open_windows()
    layers = [QgsVectorLayer(path, Path(path).stem) for path in job.get("open", ())]
    QgsProject.instance().addMapLayers(layers)
    assert not job.get("edit") or all(layer.startEditing() for layer in layers)
    algorithm = find(job)
    if isinstance(job["parameters"], list):
        return run_batch(algorithm, job["parameters"], job.get("cancel"))
    feedback, context = Feedback(), QgsProcessingContext()
    context.setProject(QgsProject.instance())
    parameters = {name: destination(value, "pictures" in job) for name, value in job["parameters"].items()}
    found = run(algorithm, parameters, context, feedback, job.get("cancel"))
    found["open"] = [layer.isValid() and layer.featureCount() for layer in layers]
    if "pictures" in job:
        found["layers"] = load(algorithm, context, feedback, found["results"], Path(job["pictures"]))
    return {**found, "said": feedback.said}


def find(job: dict[str, Any]) -> QgsProcessingAlgorithm:
    if "model" not in job:
        return QgsApplication.processingRegistry().createAlgorithmById(job["algorithm"])
    model = QgsProcessingModelAlgorithm()
    assert model.fromFile(job["model"]), "QGIS does not know all of the model"
    model.initAlgorithm()
    return model


def chain() -> QgsProcessingModelAlgorithm:
    """Segment, then vectorize."""
    source = QgsProcessingModelChildParameterSource
    model = QgsProcessingModelAlgorithm("Scene to polygons", "tests")
    for parameter in (QgsProcessingParameterRasterLayer("scene"), QgsProcessingParameterFile("network")):
        model.addModelParameter(parameter, QgsProcessingModelParameter(parameter.name()))
    for name, algorithm, sources in (
        (
            "map",
            "rsseg:segment",
            {"INPUT": source.fromModelParameter("scene"), "MODEL": source.fromModelParameter("network")},
        ),
        ("polygons", "rsseg:vectorize", {"INPUT": source.fromChildOutput("map", "OUTPUT")}),
    ):
        child = QgsProcessingModelChildAlgorithm(algorithm)
        child.setChildId(name)
        for parameter, given in sources.items():
            child.addParameterSources(parameter, [given])
        output = QgsProcessingModelOutput(name)
        output.setChildId(name)
        output.setChildOutputName("OUTPUT")
        child.setModelOutputs({name: output})
        model.addChildAlgorithm(child)
    model.updateDestinationParameters()
    return model


def open_windows() -> dict[str, Any]:
    """What each of them would run if one clicked on Run at once."""
    from processing.gui.AlgorithmDialog import AlgorithmDialog

    algorithms = QgsApplication.processingRegistry().providerById("rsseg").algorithms()
    windows = {algorithm.name(): AlgorithmDialog(algorithm.create()) for algorithm in algorithms}
    return {name: sorted(window.mainWidget().wrappers) for name, window in windows.items()}


def destination(value: Any, is_loaded: bool) -> Any:
    """An output that is loaded when it is there, as by its tick in the window."""
    if is_loaded and isinstance(value, str) and value.startswith("load:"):
        return QgsProcessingOutputLayerDefinition(value[len("load:") :], QgsProject.instance())
    return value


def run(
    algorithm: QgsProcessingAlgorithm, parameters: dict[str, Any], context: Any, feedback: Feedback, word: str | None
) -> dict[str, Any]:
    """In a thread of its own, while this one looks after clicks."""
    found: dict[str, Any] = {}
    is_right, why = algorithm.checkParameterValues(parameters, context)
    if not is_right:
        return {"ok": False, "results": {}, "refused": why}
    ended, canceled_at = QEventLoop(), 0.0

    def take(ok: bool, results: dict[str, Any]) -> None:
        found.update(ok=ok, results={name: value for name, value in results.items() if "CHILD" not in name})
        ended.quit()

    def click() -> None:
        nonlocal canceled_at
        if word is not None and not canceled_at and any(word in text for _, text in feedback.said):
            canceled_at = time.monotonic()
            task.cancel()

    task = QgsProcessingAlgRunnerTask(algorithm, parameters, context, feedback)
    task.executed.connect(take)
    clicks = QTimer()
    clicks.timeout.connect(click)
    clicks.start(POLL_MS)
    QgsApplication.taskManager().addTask(task)
    ended.exec_()
    return {**found, "cancel_s": time.monotonic() - canceled_at if canceled_at else None}


def load(
    algorithm: QgsProcessingAlgorithm, context: Any, feedback: Feedback, results: dict[str, Any], pictures: Path
) -> dict[str, Any]:
    """What the window loads at the end, by the names in its list of layers."""
    from processing.gui.Postprocessing import handleAlgorithmResults

    known = set(QgsProject.instance().mapLayers())
    assert handleAlgorithmResults(algorithm, context, feedback, parameters=results)
    new = [layer for key, layer in QgsProject.instance().mapLayers().items() if key not in known]
    return {layer.name(): describe(layer, pictures / f"{layer.name()}.png") for layer in new}


def run_batch(algorithm: QgsProcessingAlgorithm, rows: list[dict[str, Any]], sign: str | None) -> dict[str, Any]:
    """In its window, where somebody clicks on Cancel once a file is there."""
    from processing.gui.BatchAlgorithmDialog import BatchAlgorithmDialog

    taken, clicked_at = [], []

    class Window(BatchAlgorithmDialog):
        def createSummaryTable(self, results: Any, errors: Any) -> None:
            taken.append((results, errors))

    window = Window(algorithm)
    panel = window.mainWidget()
    panel.batchRowCount = lambda: len(rows)
    panel.parametersForRow = lambda row, **_: (rows[row], True)

    def click() -> None:
        if sign is not None and not clicked_at and Path(sign).exists():
            clicked_at.append(time.monotonic())
            window.cancelButton().click()

    clicks = QTimer()
    clicks.timeout.connect(click)
    clicks.start(POLL_MS)
    window.runAlgorithm()
    # Newer ones run in threads, come back at once, and have no summary of what was cancelled.
    while not taken and (not clicked_at or QgsApplication.taskManager().countActiveTasks()):
        QgsApplication.processEvents()
    results, errors = taken[0] if taken else ((), ())
    return {
        "results": [each["results"] for each in results],
        "errors": [each["errors"] for each in errors],
        "cancel_s": time.monotonic() - clicked_at[0] if clicked_at else None,
    }


def main(job: dict[str, Any]) -> None:
    application = QgsApplication([], True)
    application.setPrefixPath(PREFIX, True)
    application.initQgis()
    sys.path[:0] = [f"{PREFIX}/share/qgis/python/plugins", job["plugins"]]
    from processing.core.Processing import Processing
    from processing.core.ProcessingConfig import ProcessingConfig

    Processing.initialize()
    import rsseg

    plugin = rsseg.classFactory(None)
    plugin.initProcessing()
    for name, value in job.get("settings", {}).items():
        ProcessingConfig.settings[name].setValue(value)  # for this run alone
    print(json.dumps(play(job)), flush=True)
    if isinstance(job.get("parameters"), list):
        os._exit(0)  # the window of batches leaves a task behind, for which QGIS would wait
    plugin.unload()
    QgsProject.instance().clear()
    application.exitQgis()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
