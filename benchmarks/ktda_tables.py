"""What the runs of `ktda.py` say, as a table."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from adapt_tables import Entry, entries

# Runs of one row differ by their seed alone.
ROW = ("place", "share", "steps", "batch", "crop_px", "arm")
COLUMNS = [
    *("place", "labels", "arm", "mIoU", "spread", "over plain", "over none", "worst over none", "macro F1"),
    *("rarest IoU", "over plain, worst", "likeness", "CPU s", "seeds"),
]


def show(path: Path) -> None:
    """Means over seeds; what is over another arm is over it with the same seed."""
    found = entries(path)
    rows: dict[tuple[object, ...], list[Entry]] = {}
    for run in found:
        rows.setdefault(tuple(run[key] for key in ROW), []).append(run)
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    for row, runs in rows.items():
        plain, none = (_paired(runs, rows.get((*row[:-1], other), ())) for other in ("plain", "none"))
        print("| " + " | ".join(_cells(runs, plain, none)) + " |")


def _paired(runs: Sequence[Entry], others: Sequence[Entry]) -> list[tuple[Entry, Entry]]:
    by_seed = {run["seed"]: run for run in others}
    return [(run, by_seed[run["seed"]]) for run in runs if run["seed"] in by_seed]


def _cells(runs: list[Entry], plain: list[tuple[Entry, Entry]], none: list[tuple[Entry, Entry]]) -> list[str]:
    mious = [run["miou"] for run in runs]
    likeness = [run["likeness"] for run in runs if run["likeness"]]
    rarest = "; ".join(dict.fromkeys(run["rarest"] for run in runs))
    return [
        runs[0]["place"],
        f"{runs[0]['share']:.0%}",
        runs[0]["arm"],
        f"{np.mean(mious):.3f}",
        f"{np.std(mious, ddof=1):.3f}" if len(runs) > 1 else "",
        *(f"{np.mean(_over(pairs, 'miou')):+.3f}" if pairs else "" for pairs in (plain, none)),
        f"{min(_over(none, 'miou')):+.3f}" if none else "",
        f"{np.mean([run['f1_macro'] for run in runs]):.3f}",
        f"{np.mean([run['rarest_iou'] for run in runs]):.3f} ({rarest})",
        f"{min(_over(plain, 'rarest_iou')):+.3f}" if plain else "",
        " to ".join(f"{end:.2f}" for end in np.mean(likeness, axis=0)) if likeness else "",
        f"{np.mean([run['cpu_seconds'] for run in runs]):.0f}",
        str(len(runs)),
    ]


def _over(pairs: list[tuple[Entry, Entry]], figure: str) -> list[float]:
    return [run[figure] - other[figure] for run, other in pairs]
