"""The plugin for QGIS: runs in QGIS's own Python, 3.9 or newer, and knows nothing of rsseg but its command line."""

from typing import Any


def classFactory(iface: Any) -> Any:  # noqa: N802 - the name that QGIS asks for
    from .provider import Plugin

    return Plugin()
