"""Georeferenced polygons: reading, rasterising and writing them."""

from rsseg_cli.environment import set_aside_foreign_data

# Before the first import of pyogrio, which reads these variables once.
set_aside_foreign_data()
