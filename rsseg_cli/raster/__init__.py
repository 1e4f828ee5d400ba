"""Georeferenced rasters: where they lie, what they hold, how they are read and written."""

from rsseg_cli.environment import prepare

prepare()
