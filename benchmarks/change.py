"""`rsseg detect-change` on pairs of dates with known changes, beside simple methods; every run is a process.

    python benchmarks/change.py --data DIR [--part real|simulated|nochange|scale|lodo ...] [--methods NAME ...]
        [--pairs WORD ...] [--seeds 5] [--set KEY=VALUE ...] [--tag WORD] [--results FILE] [--table]

DIR (or RSSEG_DATA) holds change/PAIR/ with t1, t2 and change, or A/, B/ and label/; and weights/. Every run adds a line
to the results at once, and what is there already is not run again: interrupt it, go on, and see --table at any time.
Runs differ by part, pair, method, seed, what was --set, and tag (version and commit of rsseg, unless told).

real       the staged pairs, five seeds
simulated  objects put on real ground under another light, shifted: 0.1 % to 50 % changed, 0 to 2 pixels
nochange   real ground under another light, shifted by half a pixel: nothing should be found
scale      one pair grown to --size pixels a side, four bands
lodo       no runs: what is tuned, and of the settings in the results, the one that other data sets would have chosen
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, get_args

import change_baselines
import change_tables
import numpy as np
from change_simulated import Files, Pair, read, scaled, simulated, unchanged, write
from numpy.typing import NDArray

HERE = Path(__file__).parent
PARTS = ("real", "simulated", "nochange", "scale", "lodo")
WEIGHTS = {"mobilenet-v2": "mobilenetv2_imagenet_bnfolded_fp32.npz", "squeezenet": "squeezenet1_0_imagenet_fp16.pth"}
# Of each name: --method and the encoder. What the installed command does not know is left out.
COMMANDS: dict[str, tuple[str, str | None]] = {
    "classical": ("classical", None),
    "ir-mad": ("ir-mad", None),
    "cva": ("cva", None),
    "metric-cd": ("metric-cd", None),
    "metric-cd mobilenet-v2": ("metric-cd", "mobilenet-v2"),
    "metric-cd squeezenet": ("metric-cd", "squeezenet"),
    "metric-cd-paper": ("metric-cd-paper", None),
}
ON_SMALL_PAIRS_ONLY = ("metric-cd-paper",)
# One class labelled, or other bands at each date: shown, with one seed.
NOT_COUNTED = ("levir_samples", "hetero_italy_nir_optical")
# One band each of dates with different ones.
BANDS_OF = {"hetero_italy_nir_optical": ("--before-bands", "nir=1", "--after-bands", "nir=1")}
# Row and column of crops that the published method can be run on.
CROPS, CROP_PX = {"oscd_beirut": (832, 384), "oscd_cupertino": (384, 256), "oscd_lasvegas": (192, 448)}, 256
# Of several sensors and numbers of bands; the first date.
GROUNDS = ("oscd_lasvegas", "landsat_taizhou", "sardinia_nir", "vhr_beijing_a")
LARGE = "oscd_lasvegas"
SCORE_BINS = 20
REPORTED = ("delivered", "threshold", "steps", "stopped_by", "shift_px")
# A child's peak begins at what its parent holds: this one holds nothing.
LAUNCH = """import os, subprocess, sys, time
started = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=2)
_, status, usage = os.wait4(process.pid, 0)
print(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024,
      os.waitstatus_to_exitcode(status))"""


def main() -> None:
    options = _options()
    if options.table:
        change_tables.show(options.results, options.part or PARTS[:-1], options.tag)
        return
    for part in options.part or ["real"]:
        if part == "lodo":
            change_tables.show_lodo(options.results)
        else:
            run_part(part, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("RSSEG_DATA"))
    parser.add_argument("--part", choices=PARTS, nargs="+", help="default: real")
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="default: all in real, the command's elsewhere")
    parser.add_argument("--pairs", nargs="+", metavar="WORD", help="pairs with one of these in their names")
    parser.add_argument("--seeds", type=int, help="default: 5 in real, 1 elsewhere")
    parser.add_argument("--size", type=int, default=4096, help="side of the pair in scale")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="handed to the command's --set")
    parser.add_argument("--tag")
    parser.add_argument("--results", type=Path, default=HERE / "results" / "change.jsonl")
    parser.add_argument("--table", action="store_true", help="print what the results hold, and run nothing")
    options = parser.parse_args()
    options.data = Path(options.data).resolve() if options.data else None
    if options.data is None and not options.table and options.part != ["lodo"]:
        parser.error("say where the data are: --data DIR, or RSSEG_DATA")
    return options


def run_part(part: str, options: argparse.Namespace) -> None:
    methods = _methods(part, options)
    tag = options.tag or _version()
    done = {_key(line) for line in change_tables.lines_of(options.results) if "failed" not in line}
    # Seeds outermost: what is there is balanced at any time.
    for seed in range(options.seeds or (5 if part == "real" else 1)):
        for pair in _pairs(part, options):
            runs = [_run(part, pair, method, seed, tag, options) for method in methods if _suits(method, pair, seed)]
            runs = [run for run in runs if _key(run) not in done]
            if runs:
                with tempfile.TemporaryDirectory() as folder:
                    run_pair(pair, runs, Path(folder), options)


def _suits(method: str, pair: Pair, seed: int) -> bool:
    if method in ON_SMALL_PAIRS_ONLY and not pair.is_small:
        return False
    # Made pairs differ by seed; of staged ones, a baseline gives the same again.
    return not seed or bool(pair.facts) or (method in COMMANDS and (pair.counts or pair.is_small))


def _run(part: str, pair: Pair, method: str, seed: int, tag: str, options: argparse.Namespace) -> dict[str, Any]:
    """What tells a run from others. What the baselines find does not hang on rsseg."""
    own = {"args": options.set, "tag": tag} if method in COMMANDS else {"args": [], "tag": ""}
    return {"part": part, "pair": pair.name, "method": method, "seed": seed, **own}


def _key(line: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(str(line[name]) for name in ("part", "pair", "method", "seed", "args", "tag"))


def run_pair(pair: Pair, runs: list[dict[str, Any]], folder: Path, options: argparse.Namespace) -> None:
    """On a pair that is made once; each run is written down before the next begins."""
    files = pair.make(folder, runs[0]["seed"])
    for run in runs:
        line = {**run, **pair.facts, "counts": pair.counts, **outcome(run, pair, files, folder, options)}
        options.results.parent.mkdir(exist_ok=True)
        with options.results.open("a") as results:
            results.write(json.dumps(line) + "\n")
        print(change_tables.short(line), file=sys.stderr, flush=True)


def outcome(run: dict[str, Any], pair: Pair, files: Files, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    mask, score = folder / "mask.tif", folder / "score.tif"
    for path in (mask, score):
        path.unlink(missing_ok=True)
    make_call = _command if run["method"] in COMMANDS else _baseline
    launched = [sys.executable, "-c", LAUNCH, *map(str, make_call(run, pair, files, (mask, score), options))]
    ended = subprocess.run(launched, capture_output=True, text=True, cwd=folder)
    seconds, cpu_seconds, peak_mib, code = map(float, ended.stdout.split())
    if code:
        print(ended.stderr[-500:], file=sys.stderr)
        return {"failed": f"exit code {code:.0f}"}
    cost = {"seconds": round(seconds, 2), "cpu_s": round(cpu_seconds, 2), "peak_mib": round(peak_mib)}
    said: dict[str, Any] = next(map(json.loads, filter(_is_json, reversed(ended.stderr.splitlines()))), {})
    return {**cost, **scored(files, mask, score), **{name: said[name] for name in REPORTED if name in said}}


def _is_json(text: str) -> bool:
    return text.startswith("{")


def _command(
    run: dict[str, Any], pair: Pair, files: Files, outputs: tuple[Path, Path], options: argparse.Namespace
) -> list[Any]:
    method, encoder = COMMANDS[run["method"]]
    words: list[Any] = [sys.executable, "-m", "rsseg_cli", "detect-change", files.before, files.after]
    words += ["-o", outputs[0], "--probability", outputs[1], "--overwrite", "--json", "--quiet"]
    words += ["--seed", run["seed"], "--method", method, *pair.words]
    if encoder:
        words += ["--encoder", encoder, "--encoder-weights", options.data / "weights" / WEIGHTS[encoder]]
    return words + [word for setting in run["args"] for word in ("--set", setting)]


def _baseline(
    run: dict[str, Any], _: Pair, files: Files, outputs: tuple[Path, Path], options: argparse.Namespace
) -> list[Any]:
    script, name = HERE / "change_baselines.py", run["method"]
    encoder = change_baselines.DEEP.get(name)
    weights = [options.data / "weights" / WEIGHTS[encoder]] if encoder else []
    return [sys.executable, script, name, files.before, files.after, *outputs, *weights]


def scored(files: Files, mask: Path, score: Path) -> dict[str, Any]:
    """The map against the truth, on pixels where that is known; a pixel left out by the map counts as unchanged."""
    if files.truth is None:
        return {"share": change_tables.share_of(mask)}
    changed, known = truth_of(files.truth)
    decided, scores = read(mask)[0] == 1, np.nan_to_num(read(score)[0].astype(np.float64))
    if decided.shape != changed.shape:
        return {"failed": f"{decided.shape} pixels, the truth has {changed.shape}"}
    decided, scores, changed = decided[known], scores[known], changed[known]
    hits, edges = int((decided & changed).sum()), np.linspace(0, 1, SCORE_BINS + 1)
    return {
        **ranked(scores, changed),
        "f1": 2 * hits / max(int(decided.sum() + changed.sum()), 1),
        "share": float(decided.mean()),
        "true_share": float(changed.mean()),
        "bin_pixels": np.histogram(scores, edges)[0].tolist(),
        "bin_changed": np.histogram(scores[changed], edges)[0].tolist(),
    }


def ranked(scores: NDArray[np.float64], changed: NDArray[np.bool_]) -> dict[str, float | None]:
    """Area under the ROC curve, average precision, best F1 over all cuts; ties are one step."""
    from scipy.stats import rankdata

    positives, negatives = int(changed.sum()), int((~changed).sum())
    if not positives or not negatives:
        return {"auc": None, "ap": None, "best_f1": None}
    above = rankdata(scores)[changed].sum() - positives * (positives + 1) / 2
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits = np.cumsum(changed[order])[ends]
    gained = np.diff(hits, prepend=0) / positives
    return {
        "auc": float(above / (positives * negatives)),
        "ap": float((gained * hits / (ends + 1)).sum()),
        "best_f1": float((2 * hits / (ends + 1 + positives)).max()),
    }


def truth_of(path: Path) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(changed, known): 0 unknown, 1 unchanged, 2 changed; or dark unchanged and bright changed."""
    values = read(path)[0]
    if values.max() == 2:
        return values == 2, values > 0
    return values > 127, np.ones(values.shape, bool)


def _methods(part: str, options: argparse.Namespace) -> list[str]:
    from rsseg_cli.change.methods import Method

    names = [*COMMANDS, *change_baselines.PLAIN, *change_baselines.DEEP]
    unknown = set(options.methods or ()) - set(names)
    if unknown:
        sys.exit(f"no method {', '.join(unknown)}; there are {', '.join(names)}")
    wanted = options.methods or (names if part == "real" else list(COMMANDS))
    return [name for name in wanted if name not in COMMANDS or COMMANDS[name][0] in get_args(Method)]


def _pairs(part: str, options: argparse.Namespace) -> Iterator[Pair]:
    staged = {pair.name: pair for pair in staged_pairs(options.data / "change")}
    files = {name: pair.make(Path(), 0) for name, pair in staged.items() if pair.counts}
    made: dict[str, Callable[[], Iterable[Pair]]] = {
        "real": lambda: [*staged.values(), *(_crop(name, files[name]) for name in CROPS if name in files)],
        "simulated": lambda: simulated({name: files[name].before for name in GROUNDS if name in files}),
        "nochange": lambda: unchanged({f"{name} {path.stem}": path for name in files for path in files[name][:2]}),
        "scale": lambda: [scaled(LARGE, files[LARGE], options.size)],
    }
    for pair in made[part]():
        if not options.pairs or any(word in pair.name for word in options.pairs):
            yield pair


def staged_pairs(root: Path) -> Iterator[Pair]:
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        counts, words = folder.name not in NOT_COUNTED, BANDS_OF.get(folder.name, ())
        if (folder / "A").is_dir():
            for before in sorted((folder / "A").iterdir()):
                files = Files(*(_only(folder / side, f"{before.stem}.*") for side in ("A", "B", "label")))
                yield Pair(f"{folder.name}/{before.stem}", partial(_as_staged, files), counts, words=words)
        else:
            files = Files(_only(folder, "t1.*"), _only(folder, "t2.*"), _only(folder, "change*"))
            yield Pair(folder.name, partial(_as_staged, files), counts, words=words)


def _only(folder: Path, pattern: str) -> Path:
    return next(folder.glob(pattern))


def _as_staged(files: Files, folder: Path, seed: int) -> Files:
    return files


def _crop(name: str, files: Files) -> Pair:
    def make(folder: Path, seed: int) -> Files:
        row, col = CROPS[name]
        part = np.s_[:, row : row + CROP_PX, col : col + CROP_PX]
        return Files(*(write(folder / f"{path.stem}.tif", read(path)[part]) for path in files if path))

    return Pair(f"{name} {CROP_PX} px", make, counts=False, is_small=True)


def _version() -> str:
    from rsseg_cli import __version__

    described = subprocess.run(["git", "-C", HERE, "describe", "--always", "--dirty"], capture_output=True, text=True)
    return f"{__version__} {described.stdout.strip()}".strip()


if __name__ == "__main__":
    warnings.filterwarnings("ignore", "Dataset has no geotransform")
    started = time.perf_counter()
    main()
    print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)
