"""What a long walk has finished so far, on disk beside its output, so that another run can go on.

One file a row of tiles, under its name when the row is whole. The output itself appears only when everything is done;
the journal goes then.
"""

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from rsseg_cli.delivery import discard, flush
from rsseg_cli.errors import RssegError
from rsseg_cli.sameness import differences

Piece = tuple[Window, dict[str, NDArray[np.uint8]]]  # what a cell stored, by output


@dataclass(frozen=True)
class Journal:
    """A folder of finished rows."""

    folder: Path

    @classmethod
    def beside(cls, target: Path) -> "Journal":
        return cls(target.with_name(f".{target.name}.rsseg-rows"))

    def start(self, run: Mapping[str, Any], resume: bool) -> int:
        """The row to go on with; 0 for a new journal. A run with other inputs or settings cannot go on."""
        text = json.dumps(run, sort_keys=True, indent=1)
        if resume and self._run.is_file():
            _refuse_other_run(json.loads(self._run.read_text(encoding="utf-8")), run, self.folder)
            self._unfinished.unlink(missing_ok=True)
            return self.finished
        self.remove()
        self.folder.mkdir(parents=True)
        new = self.folder / "run.new.json"  # a run that dies here leaves none to go on with, and not half of one
        new.write_text(text, encoding="utf-8")
        new.replace(self._run)
        return 0

    def add(self, piece: Piece) -> None:
        """A cell of the row at work; written at once, so that wide scenes do not fill the memory."""
        window, stored = piece
        place = np.array([window.col_off, window.row_off, window.width, window.height], np.int64)
        # Quick rather than small: the network waits for a core, and labels compress well anyhow.
        with gzip.open(self._unfinished, "ab", compresslevel=1) as file:
            for values in (place, np.array(list(stored)), *stored.values()):
                np.lib.format.write_array(file, values, allow_pickle=False)

    def finish(self, row: int, strip: NDArray[np.float16]) -> None:
        """The row is whole, and leaves a strip for the next one."""
        gzip.open(self._unfinished, "ab").close()  # a row outside the area asked for has no cells
        new = self.folder / "strip.new.npy"  # fractions hardly compress
        np.save(new, strip)
        for path, whole in ((new, self._strip(row)), (self._unfinished, self._row(row))):
            flush(path)
            path.replace(whole)
        self._strip(row - 1).unlink(missing_ok=True)

    def pieces(self, rows: int) -> Iterator[Piece]:
        """The cells of the first rows, in order."""
        for row in range(rows):
            with _readable(self._row(row)) as path, gzip.open(path, "rb") as file:
                while file.peek(1):
                    place, kinds = (np.lib.format.read_array(file, allow_pickle=False) for _ in range(2))
                    stored = {str(kind): np.lib.format.read_array(file, allow_pickle=False) for kind in kinds}
                    yield Window(*map(int, place)), stored

    def strip(self, row: int) -> NDArray[np.float16]:
        """What a row left for the next one."""
        with _readable(self._strip(row)) as path:
            return np.asarray(np.load(path, allow_pickle=False), np.float16)

    def remove(self) -> None:
        discard(self.folder)

    @property
    def finished(self) -> int:
        """Rows from the first on that are there; the last one only with its strip."""
        count = 0
        while self._row(count).is_file():
            count += 1
        return count if count and self._strip(count - 1).is_file() else 0

    @property
    def _run(self) -> Path:
        return self.folder / "run.json"

    @property
    def _unfinished(self) -> Path:
        return self.folder / "row.new.gz"

    def _row(self, row: int) -> Path:
        return self.folder / f"row{row}.gz"

    def _strip(self, row: int) -> Path:
        return self.folder / f"strip{row}.npy"


@contextmanager
def _readable(path: Path) -> Iterator[Path]:
    """A file was whole when it got its name; disks forget."""
    try:
        yield path
    except (EOFError, ValueError, zlib.error, gzip.BadGzipFile) as problem:
        raise RssegError(
            f"{path}: what an earlier run finished is damaged", "start anew without --resume", file=str(path)
        ) from problem


def _refuse_other_run(before: dict[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    if changed := differences(before, now):
        raise RssegError(
            f"{folder}: the run to go on with differs: {changed}",
            "repeat its options and inputs, or start anew without --resume",
            file=str(folder),
        )
