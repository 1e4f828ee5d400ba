"""Rasters that stay open from one read to the next while they are walked through.

Opening one takes milliseconds, and with each that is closed goes what GDAL has decoded of it. Tiles overlap and blocks
are read whole, so a walk that opens anew for every tile decodes each block four times, and a strip as wide as the
scene once a tile.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rasterio.env import env_ctx_if_needed
from rasterio.io import DatasetReader

from rsseg_cli.raster.dataset import open_raster, opened
from rsseg_cli.raster.files import Stamp

# Those that were read last: systems allow a few hundred open files.
MOST = 64

# A raster as its files were when it was looked at: one that was replaced since is another.
Key = tuple[str, tuple[Stamp, ...]]


class _Kept:
    """One raster, for one thread at a time: a dataset of GDAL serves no two at once."""

    def __init__(self, key: Key) -> None:
        self.key, self.lock, self.readers = key, threading.RLock(), 0
        self._dataset: DatasetReader | None = None

    def dataset(self) -> DatasetReader:
        if self._dataset is None:
            self._dataset = opened(self.key[0])
        return self._dataset

    def close(self) -> None:
        with self.lock:
            if self._dataset is not None:
                self._dataset.close()


class _Shelf:
    """What is kept, the one read last at the end; and for how many walks that run at the same time."""

    def __init__(self) -> None:
        self.lock, self.walks = threading.Lock(), 0
        self.kept: dict[Key, _Kept] = {}

    def take(self, key: Key) -> _Kept | None:
        with self.lock:
            if not self.walks:
                return None
            taken = self.kept.pop(key) if key in self.kept else _Kept(key)
            self.kept[key] = taken
            taken.readers += 1
            spare = self._spare()
        if spare is not None:
            spare.close()
        return taken

    def _spare(self) -> _Kept | None:
        """Of too many, the one whose last read is longest ago."""
        unread = [kept for kept in self.kept.values() if not kept.readers] if len(self.kept) > MOST else []
        return self.kept.pop(unread[0].key) if unread else None

    def put_back(self, kept: _Kept) -> None:
        with self.lock:
            kept.readers -= 1
            is_left = not kept.readers and self.kept.get(kept.key) is not kept  # the walks ended while it was read
        if is_left:
            kept.close()

    def enter(self) -> None:
        with self.lock:
            self.walks += 1

    def leave(self) -> None:
        with self.lock:
            self.walks -= 1
            left = [] if self.walks else [self.kept.pop(key) for key in list(self.kept)]
            unread = [kept for kept in left if not kept.readers]
        for kept in unread:
            kept.close()


_shelf = _Shelf()


@contextmanager
def kept_open() -> Iterator[None]:
    """What is read within, in whatever thread, is closed at the end and not before."""
    _shelf.enter()
    try:
        yield
    finally:
        _shelf.leave()


@contextmanager
def reading(path: str, stamps: tuple[Stamp, ...] = ()) -> Iterator[DatasetReader]:
    """The dataset for one read; opened for it alone where nothing is kept open."""
    kept = _shelf.take((path, stamps))
    if kept is None:
        with open_raster(path) as dataset:
            yield dataset
        return
    try:
        # Each thread has settings of GDAL's of its own; a dataset that is entered would leave those of another one.
        with kept.lock, env_ctx_if_needed():
            yield kept.dataset()
    finally:
        _shelf.put_back(kept)
