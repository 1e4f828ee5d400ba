"""What the results of `change.py` say, as Markdown."""

import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Line = dict[str, Any]
Lines = list[Line]

# Of the reliability table: so many bins of the score as one.
BINS_TOGETHER = 2
SCORES = ("auc", "ap", "f1", "best_f1")


def lines_of(results: Path) -> Lines:
    return [json.loads(text) for text in results.read_text().splitlines()] if results.exists() else []


def short(line: Line) -> str:
    numbers = (f"{name} {line[name]:.3f}" for name in (*SCORES, "share", "seconds") if line.get(name) is not None)
    failed = f"failed: {line['failed']}" if "failed" in line else ""
    return f"{line['part']} {line['pair']}, {line['method']}, seed {line['seed']}: {failed}{', '.join(numbers)}"


def share_of(mask: Path) -> float:
    """Of a map however large."""
    import rasterio

    changed = held = 0
    with rasterio.open(mask) as dataset:
        for _, window in dataset.block_windows():
            values = dataset.read(1, window=window)
            changed, held = changed + int((values == 1).sum()), held + int((values <= 1).sum())
    return changed / max(held, 1)


def show(results: Path, parts: Sequence[str], tag: str | None) -> None:
    """The last outcome of each run, whichever version of rsseg it was of unless a tag is told."""
    last = {}
    for line in lines_of(results):
        if tag in (None, line["tag"]) or not line["tag"]:
            line["setting"] = " ".join([line["method"], *line["args"]])
            last[tuple(str(line[name]) for name in ("part", "pair", "setting", "seed"))] = line
    lines = list(last.values())
    for line in lines:
        if "failed" in line:
            print(f"- {short(line)}\n")
    shown = {"real": _show_real, "simulated": _show_simulated, "nochange": _show_unchanged, "scale": _show_scale}
    for part in parts:
        found = [line for line in lines if line["part"] == part and "failed" not in line]
        if found and part in shown:
            tags = sorted({line["tag"] for line in found} - {""})
            print(f"### {part} ({', '.join(tags)})\n")
            shown[part](found)


def _show_real(lines: Lines) -> None:
    counted = [line for line in lines if line["counts"]]
    head = ("method", "AUC", "AP", "F1", "best F1", "spread of AUC", "wall s", "CPU s", "peak MiB", "seeds")
    pairs = set(_by(counted, "pair"))
    # Of some pairs only, a mean would not compare with the others.
    complete = {setting: its for setting, its in _by(counted, "setting").items() if set(_by(its, "pair")) == pairs}
    _table(head, [_over_pairs(setting, its) for setting, its in complete.items()])
    settings = list(_by(lines, "setting"))
    rows = []
    for group, its in _by(lines, _group).items():
        of_setting = _by(its, "setting")
        rows.append([group, *(_three(of_setting.get(setting, [])) for setting in settings)])
    _table(("AUC / AP / F1", *settings), rows)


def _over_pairs(setting: str, lines: Lines) -> list[str]:
    """Mean over pairs of means over seeds; the spread is the largest over seeds of any pair."""
    pairs = _by(lines, "pair").values()
    scores = [f"{np.mean([_mean(its, name) for its in pairs]):.3f}" for name in SCORES]
    spread = max(float(np.std([line["auc"] for line in its])) for its in pairs)
    known_spread = f"{spread:.4f}" if all(len(its) > 1 for its in pairs) else ""
    seconds = [f"{np.median([line[name] for line in lines]):.1f}" for name in ("seconds", "cpu_s")]
    seeds = len({line["seed"] for line in lines})
    return [setting, *scores, known_spread, *seconds, _most(lines, "peak_mib"), str(seeds)]


def _three(lines: Lines) -> str:
    return " / ".join(f"{_mean(lines, name):.3f}" for name in SCORES[:3]) if lines else ""


def _group(line: Line) -> str:
    """Crops of one data set are one row."""
    return str(line["pair"]).partition("/")[0]


def _show_simulated(lines: Lines) -> None:
    """By the share changed, over grounds and shifts; by the shift, over grounds and shares."""
    head = ("method", "changed", "found / true: median", "lowest", "highest", "within 2", "AUC", "AP", "F1", "best F1")
    _table(head, _rows(lines, "wanted_share", "{:.1%}"))
    _table(("method", "shift px", *head[2:]), _rows(lines, "made_shift_px", "{:g}"))
    _show_reliability(lines)


def _rows(lines: Lines, by: str, form: str) -> list[list[str]]:
    rows = []
    for setting, of_setting in _by(lines, "setting").items():
        for value, its in sorted(_by(of_setting, by).items()):
            ratios = np.array([line["share"] / line["true_share"] for line in its])
            within = np.mean((ratios >= 0.5) & (ratios <= 2))
            shares = (np.median(ratios), ratios.min(), ratios.max())
            scores = (f"{_mean(its, name):.3f}" for name in SCORES)
            rows.append([setting, form.format(value), *(f"{share:.2f}" for share in shares), f"{within:.0%}", *scores])
    return rows


def _show_reliability(lines: Lines) -> None:
    """Of pixels with a score, the part that has changed; all simulations pooled."""
    settings = _by(lines, "setting")
    count = len(lines[0]["bin_pixels"]) // BINS_TOGETHER
    columns = [_observed(its) for its in settings.values()]
    rows = []
    for number in range(count):
        cells = (f"{column[number]:.3f}" if np.isfinite(column[number]) else "" for column in columns)
        rows.append([f"{number / count:.2f} to {(number + 1) / count:.2f}", *cells])
    _table(("score", *settings), rows)


def _observed(lines: Lines) -> Any:
    pixels, changed = (
        np.sum([line[name] for line in lines], axis=0).reshape(-1, BINS_TOGETHER).sum(axis=1)
        for name in ("bin_pixels", "bin_changed")
    )
    return np.where(pixels > 0, changed / np.maximum(pixels, 1), np.nan)


def _show_unchanged(lines: Lines) -> None:
    rows = []
    for setting, its in _by(lines, "setting").items():
        shares = np.array([line["share"] for line in its])
        worst = its[int(shares.argmax())]["pair"]
        above = f"{(shares > 0.01).sum()} of {len(shares)}"
        rows.append([setting, f"{np.median(shares):.2%}", f"{shares.max():.2%}", worst, above])
    _table(("method", "flagged: median", "most", "where", "above 1 %"), rows)


def _show_scale(lines: Lines) -> None:
    rows = []
    for (setting, size), its in _by(lines, lambda line: (line["setting"], line["size_px"])).items():
        seconds = float(np.median([line["seconds"] for line in its]))
        cpu_s = float(np.median([line["cpu_s"] for line in its]))
        speed = f"{size**2 / 1e6 / seconds:.2f}"
        rows.append([setting, str(size), f"{seconds:.0f}", f"{cpu_s:.0f}", speed, _most(its, "peak_mib")])
    _table(("method", "side px", "wall s", "CPU s", "Mpx/s", "peak MiB"), rows)


def show_lodo(results: Path) -> None:
    """What is tuned; and for each data set, the setting that is best on all others by average precision."""
    for name, value in tuned():
        print(f"- {name} = {value}")
    print()
    known = [line for line in lines_of(results) if line["part"] == "real" and line["tag"] and line["counts"]]
    found: dict[str, dict[str, float]] = {}
    for (dataset, setting), its in _by([line for line in known if "failed" not in line], _place).items():
        found.setdefault(setting, {})[dataset] = float(np.mean([_mean(one, "ap") for one in _by(its, "pair").values()]))
    sets = sorted({dataset for of_setting in found.values() for dataset in of_setting})
    whole = {setting: aps for setting, aps in found.items() if len(aps) == len(sets)}
    rows = []
    for left_out in sets if whole else []:
        chosen = max(whole, key=lambda setting: sum(ap for name, ap in whole[setting].items() if name != left_out))
        best = max(whole, key=lambda setting: whole[setting][left_out])
        rows.append([left_out, chosen, f"{whole[chosen][left_out]:.3f}", best, f"{whole[best][left_out]:.3f}"])
    _table(("left out", "chosen on the others", "its AP", "best there", "its AP"), rows)


def tuned() -> Iterable[tuple[str, Any]]:
    """Constants of the modules that compare dates."""
    package = importlib.import_module("rsseg_cli.change")
    for found in pkgutil.iter_modules(package.__path__, "rsseg_cli.change."):
        module = importlib.import_module(found.name)
        own = re.findall(r"\b[A-Z_]+\b", " ".join(re.findall(r"^([A-Z_, ]+) = ", inspect.getsource(module), re.M)))
        for name in own:
            value = getattr(module, name)
            if isinstance(value, int | float | tuple):
                yield f"{found.name.rpartition('.')[2]}.{name}", value


def _place(line: Line) -> tuple[str, str]:
    """Data set and setting."""
    return line["pair"].partition("_")[0], " ".join([line["method"], *line["args"], f"({line['tag']})"])


def _by(lines: Lines, what: str | Callable[[Line], Any]) -> dict[Any, Lines]:
    groups: dict[Any, Lines] = {}
    for line in lines:
        groups.setdefault(line[what] if isinstance(what, str) else what(line), []).append(line)
    return groups


def _mean(lines: Lines, name: str) -> float:
    held = [line[name] for line in lines if line[name] is not None]
    return float(np.mean(held)) if held else float("nan")


def _most(lines: Lines, name: str) -> str:
    return str(max(line[name] for line in lines))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print()
