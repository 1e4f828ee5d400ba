"""What a long walk has finished so far, on disk beside its output, so that another run can go on.

One file a row of tiles, written whole or not at all. The output itself appears only when everything is done; the
journal goes then.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from rsseg_cli.errors import RssegError

Pieces = list[tuple[Window, dict[str, NDArray[np.uint8]]]]  # what each cell of a row stored, by output
STRIP = "strip"


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
            _refuse_other_run(json.loads(self._run.read_text(encoding="utf-8")), json.loads(text), self.folder)
            return self._finished()
        self.remove()
        self.folder.mkdir(parents=True)
        self._run.write_text(text, encoding="utf-8")
        return 0

    def add(self, row: int, pieces: Pieces, strip: NDArray[np.float32]) -> None:
        arrays = {
            f"{number}:{kind}": values for number, (_, found) in enumerate(pieces) for kind, values in found.items()
        }
        windows = np.array([(w.col_off, w.row_off, w.width, w.height) for w, _ in pieces], np.int64)
        self._write(f"strip{row}", {STRIP: strip})
        self._write(f"row{row}", {"windows": windows, **arrays})
        (self.folder / f"strip{row - 1}.npz").unlink(missing_ok=True)

    def rows(self, count: int) -> Iterator[Pieces]:
        """The pieces of the first rows, in order."""
        for row in range(count):
            with np.load(self.folder / f"row{row}.npz", allow_pickle=False) as held:
                pieces: Pieces = [(Window(*map(int, window)), {}) for window in held["windows"]]
                for name in held.files:
                    number, _, kind = name.partition(":")
                    if kind:
                        pieces[int(number)][1][kind] = held[name]
            yield pieces

    def strip(self, row: int) -> NDArray[np.float32]:
        """What a row left for the next one."""
        with np.load(self.folder / f"strip{row}.npz", allow_pickle=False) as held:
            return np.asarray(held[STRIP], np.float32)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _run(self) -> Path:
        return self.folder / "run.json"

    def _finished(self) -> int:
        """Rows from the first on that are there; the last one only with its strip."""
        count = 0
        while (self.folder / f"row{count}.npz").is_file():
            count += 1
        return count if count and (self.folder / f"strip{count - 1}.npz").is_file() else 0

    def _write(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        new = self.folder / f"{name}.new.npz"
        save = np.savez if STRIP in arrays else np.savez_compressed  # fractions hardly compress, labels do
        save(new, **arrays)  # type: ignore[arg-type]
        new.replace(self.folder / f"{name}.npz")


def _refuse_other_run(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    if changed:
        raise RssegError(
            f"{folder}: the run to go on with differs in {', '.join(changed)}",
            "repeat its options and inputs, or start anew without --resume",
            file=str(folder),
        )
