"""Georeferenced rasters: where they lie, what they hold, how they are read and written."""

from rsseg_cli.environment import set_aside_foreign_data

# Before the first import of rasterio, which reads these variables once.
set_aside_foreign_data()
