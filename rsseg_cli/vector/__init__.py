"""Georeferenced polygons: reading, rasterising and writing them."""

from rsseg_cli.environment import prepare

prepare()
