"""The two classes of a change mask."""

from rsseg_cli.classes import ClassScheme

CHANGE_SCHEME = ClassScheme.of_names([("unchanged", (0,), "#e8e8e8"), ("changed", (1,), "#d7301f")])
UNCHANGED, CHANGED = CHANGE_SCHEME.ids
