"""Where rsseg is, as the person says it: Settings > Options > Processing > Providers > rsseg."""

from __future__ import annotations

from processing.core.ProcessingConfig import ProcessingConfig, Setting
from qgis.PyQt.QtGui import QIcon

from .program import find_program

GROUP = "rsseg"
PROGRAM = "RSSEG_PROGRAM"
ENVIRONMENT = "RSSEG_ENVIRONMENT"


def register(icon: QIcon) -> None:
    ProcessingConfig.settingIcons[GROUP] = icon
    for name, text, kind in (
        (PROGRAM, "The program rsseg (left empty: looked for in the environment, or on PATH)", Setting.FILE),
        (ENVIRONMENT, "The environment it is installed in: a folder that venv or conda made", Setting.FOLDER),
    ):
        ProcessingConfig.addSetting(Setting(GROUP, name, text, "", valuetype=kind))
    ProcessingConfig.readSettings()


def unregister() -> None:
    for name in (PROGRAM, ENVIRONMENT):
        ProcessingConfig.removeSetting(name)


def rsseg_program() -> str:
    return find_program(*(str(ProcessingConfig.getSetting(name) or "") for name in (PROGRAM, ENVIRONMENT)))
