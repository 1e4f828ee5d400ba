"""What the runs of `adapt.py` say, as tables."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Entry = dict[str, Any]
GAINS = [
    *("pair", "method", "source-only", "delivered", "gain", "spread", "worst", "last step", "95 % of gain"),
    *("seconds", "peak MiB", "seeds"),
]
SELECTION = [
    *("pair", "method", "regret", "by today's rule", "of last", "of random", "of source-only"),
    *("rank correlation in a run", "false accepts", "false rejects"),
]


def entries(path: Path) -> list[Entry]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def line(entry: Entry) -> str:
    """One run in short."""
    before, after = entry["source_only"]["miou"], entry["delivered"]["miou"]
    ending = [
        f"{c['step']:.0f} {c['match']}{'*' * bool(c['target_norms'])}: {c['score']:.3f}, {c['miou']:.3f}"
        for c in entry.get("candidates", ())
    ]
    return (
        f"{entry['pair']} | {entry['method']} {entry['set'] or ''} | {entry['seed']} | {before:.3f} -> {after:.3f} | "
        + ("; ".join(ending))
    )


def show(path: Path, tag: str | None) -> None:
    found = [entry for entry in entries(path) if tag in (None, entry["tag"])]
    if not found:
        raise SystemExit(f"{path}: no runs" + (f" of {tag}" if tag else ""))
    _show_gains(found)
    _show_unseen([run for run in found if run.get("unseen")])
    _show_classes(found)
    _show_selection(found)


def _show_gains(found: Sequence[Entry]) -> None:
    rows = []
    for (pair, method, given), runs in _grouped(found, "pair", "method", "set").items():
        after = [run["delivered"]["miou"] for run in runs]
        before = after if method == "oracle" else [run["source_only"]["miou"] for run in runs]
        last = [run["candidates"][-1]["miou"] for run in runs if run.get("candidates")]
        gains = np.subtract(after, before)
        intervals = [run["gain_interval"] for run in runs if "gain_interval" in run]
        rows.append(
            [
                pair,
                f"{method} {given}" if given != "{}" else method,
                _mean(before),
                _mean(after),
                f"{gains.mean():+.3f}",
                f"{gains.std(ddof=1):.3f}" if len(runs) > 1 else "",
                f"{gains.min():+.3f}",
                _mean(last),
                " to ".join(f"{end:+.3f}" for end in np.mean(intervals, axis=0)) if intervals else "",
                _mean([run.get("seconds") for run in runs], ".0f"),
                _mean([run.get("peak_mib") for run in runs], ".0f"),
                str(len(runs)),
            ]
        )
    _print(GAINS, rows)


def _show_unseen(found: Sequence[Entry]) -> None:
    """Scenes of the target's kind that were not adapted to."""
    rows = []
    for (pair, method), runs in _grouped(found, "pair", "method").items():
        before, after = ([run[name]["miou"] for run in runs] for name in ("unseen_source_only", "unseen"))
        rows.append([str(pair), str(method), _mean(before), _mean(after), f"{np.subtract(after, before).mean():+.3f}"])
    _print(["unseen scenes of", "method", "source-only", "delivered", "gain"], rows)


def _show_classes(found: Sequence[Entry]) -> None:
    for pair, runs in _grouped(found, "pair").items():
        names = list(runs[0]["delivered"]["classes"])
        methods = {"source-only": [run["source_only"] for run in runs if run["method"] != "oracle"]}
        for method, of_method in _grouped(runs, "method").items():
            methods[str(method[0])] = [run["delivered"] for run in of_method]
        rows = [
            [name, *(_mean([f["classes"][c] for f in figures]) for c in names)] for name, figures in methods.items()
        ]
        _print([f"{pair[0]}: IoU", *names], rows)


def _show_selection(found: Sequence[Entry]) -> None:
    """What the choice without labels cost, beside other ways to choose."""
    rows = []
    for (pair, method), runs in _grouped([run for run in found if run.get("candidates")], "pair", "method").items():
        rows.append([str(pair), str(method), *selection_figures(runs)])
    everything = [run for run in found if run.get("candidates")]
    if everything:
        rows.append(["all", "", *selection_figures(everything)])
    _print(SELECTION, rows)


def selection_figures(runs: Iterable[Entry]) -> list[str]:
    from scipy.stats import spearmanr

    regrets, correlations, accepts, rejects = defaultdict(list), [], [], []
    for run in runs:
        truth = np.array([c["miou"] for c in run["candidates"]])
        scores = np.array([c["score"] for c in run["candidates"]])
        best, chosen = truth.max(), run["delivered"]["miou"]
        regrets["own"].append(best - chosen)
        regrets["today"].append(best - truth[chosen_today(run["candidates"])])
        regrets["last"].append(best - truth[-1])
        regrets["random"].append(best - truth[1:].mean())
        regrets["source"].append(best - truth[0])
        if np.ptp(scores[1:]) and np.ptp(truth[1:]):
            correlations.append(spearmanr(scores[1:], truth[1:]).statistic)
        (rejects if run["delivered_step"] == 0 else accepts).append(truth[0] - truth[-1])
    wrong = sum(loss > 0 for loss in accepts), sum(loss < 0 for loss in rejects)
    return [
        *(_mean(regrets[name]) for name in ("own", "today", "last", "random", "source")),
        _mean(correlations, ".2f"),
        f"{wrong[0]} of {len(accepts)}",
        f"{wrong[1]} of {len(rejects)}",
    ]


def chosen_today(candidates: Iterable[Entry]) -> int:
    """What today's rule takes, whatever was delivered then."""
    from torch import nn

    from rsseg_cli.selection import Candidates, Way

    replayed = Candidates()
    for each in candidates:
        way = Way(each["match"], float(each.get("target_norms", 0)))
        replayed.offer(each["step"], way, each["score"], nn.Identity())
    return replayed.best


def _grouped(found: Iterable[Entry], *names: str) -> dict[tuple[Any, ...], list[Entry]]:
    groups: dict[tuple[Any, ...], list[Entry]] = defaultdict(list)
    for entry in found:
        key = tuple(json.dumps(entry[n]) if isinstance(entry[n], dict) else entry[n] for n in names)
        groups[key].append(entry)
    return groups


def _mean(values: Sequence[float | None], form: str = ".3f") -> str:
    known = [value for value in values if value is not None]
    return format(float(np.mean(known)), form) if known else ""


def _print(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    print("\n| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for row in rows:
        print("| " + " | ".join(row) + " |")
