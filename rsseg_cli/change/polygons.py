"""Changed patches as polygons, and what is known of each: how sure, how strong, which way, from what to what."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rsseg_cli.change.comparison import Comparison
from rsseg_cli.change.pair import Pair
from rsseg_cli.change.scheme import CHANGE_SCHEME, CHANGED, UNCHANGED
from rsseg_cli.classes import UNLABELLED
from rsseg_cli.progress import Track
from rsseg_cli.raster.labels import Labels
from rsseg_cli.vector.chains import Indices
from rsseg_cli.vector.coverage import NOTHING, Coverage

if TYPE_CHECKING:
    import pyarrow  # type: ignore[import-untyped]

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]

# A difference of NDVI that is more than light and noise.
GREEN = 0.1
# All bands together change so much, of what they change each: more is one way, less is mixed.
ONE_WAY = 0.5
DIGITS = 3


def write_polygons(
    path: Path, mask: Labels, found: Comparison, classes: Mapping[str, Labels], overwrite: bool, track: Track
) -> None:
    """The polygons of a mask that need not be a file yet."""
    from rsseg_cli.polygon_job import Request, prepared
    from rsseg_cli.vector.masks import Layer, Masks, Origins
    from rsseg_cli.vectorization import carried_out

    masks = Masks(mask, Origins((Layer(mask, mask.grid.window),)), (mask.path,))
    request = Request((mask.path,), path, classes=CHANGE_SCHEME.names[CHANGED], overwrite=overwrite)
    job = replace(prepared(request, masks), columns=lambda coverage: columns(coverage, found, classes))
    carried_out(job, track)


def columns(coverage: Coverage, found: Comparison, classes: Mapping[str, Labels]) -> "dict[str, pyarrow.Array]":
    """What is known of each region, of lines that nothing has moved."""
    import pyarrow

    seen = _seen(coverage, found, classes)
    changes, greener = _changes(coverage, found.pair, seen)
    score, ratio = seen.means[:2]
    numbers = {
        "score_mean": score,
        "magnitude": ratio,
        **dict(zip(_names(found.pair), changes, strict=True)),
    }
    known = {name: pyarrow.array(values.round(DIGITS), from_pandas=True) for name, values in numbers.items()}
    known["direction"] = pyarrow.array(directions(changes, greener), pyarrow.string())
    for name, labels in classes.items():
        known[name] = _class_names(labels, seen.classes[name], len(coverage))
    return known


@dataclass(frozen=True, eq=False)
class _Seen:
    """Of all blocks together."""

    means: Floats  # (layer, region): score, ratio, bands before, bands after
    squares: Floats  # (bands before and after,) summed over unchanged ground
    pixels: Numbers  # of regions
    classes: Mapping[str, tuple[Numbers, Numbers]]  # by column: (region and class as one number, pixels)


def _seen(coverage: Coverage, found: Comparison, classes: Mapping[str, Labels]) -> _Seen:
    from rsseg_cli.vector.zones import blocks_of_regions

    bands = 2 * len(found.pair.before.bands)
    sums, squares = np.zeros((2 + bands, len(coverage))), np.zeros(bands)
    counted: dict[str, list[tuple[Numbers, Numbers]]] = {name: [] for name in classes}
    is_unchanged = np.append(coverage.ids == UNCHANGED, False)  # with a last one for NOTHING
    for window, regions in blocks_of_regions(coverage):
        held = regions != NOTHING
        layers = [found.score(window), found.ratio(window), *np.concatenate(found.pair.read(window))]
        of_bands = np.stack(layers[2:])[:, is_unchanged[regions]].astype(np.float64)
        squares += np.square(of_bands).sum(axis=1)
        for total, layer in zip(sums, layers, strict=True):
            total += np.bincount(regions[held], layer[held], len(coverage))
        for name, labels in classes.items():
            counted[name].append(_counted(regions, labels.read(window)))
    pixels = np.maximum(coverage.pixels, 1)
    return _Seen(sums / pixels, squares, coverage.pixels, {name: _summed(parts) for name, parts in counted.items()})


def _changes(coverage: Coverage, pair: Pair, seen: _Seen) -> tuple[Floats, Floats]:
    """(by band and region: after - before, in units of the spread of unchanged ground at each date; change of NDVI).

    Light and season move and stretch all values of a band; what did not change says how, and it is taken out.
    """
    unchanged = coverage.ids == UNCHANGED
    pixels = seen.pixels[unchanged].sum()
    if not pixels:  # then nothing says what light and season did
        return np.full((len(pair.before.bands), len(coverage)), np.nan), np.full(len(coverage), np.nan)
    bands = seen.means[2:]
    middle = bands[:, unchanged] @ seen.pixels[unchanged] / pixels
    spread = np.sqrt(np.maximum(seen.squares / pixels - middle**2, 0))
    spread[spread == 0] = np.nan
    before, after = np.split((bands - middle[:, np.newaxis]) / spread[:, np.newaxis], 2)
    as_before = np.split(middle, 2)[0][:, np.newaxis] + after * np.split(spread, 2)[0][:, np.newaxis]
    return after - before, _ndvi(pair, as_before) - _ndvi(pair, np.split(bands, 2)[0])


def _ndvi(pair: Pair, values: Floats) -> Floats:
    """Of bands (band, region); NaN without red and near infrared, and where they are no amounts of light."""
    names = [name.casefold() for name in pair.before.names]
    if not {"red", "nir"} <= set(names):
        return np.full(values.shape[1], np.nan)
    red, nir = values[names.index("red")], values[names.index("nir")]
    total = np.where((red >= 0) & (nir >= 0) & (red + nir > 0), red + nir, np.nan)
    return np.asarray((nir - red) / total)


def directions(changes: Floats, greener: Floats) -> list[str | None]:
    """A word for each region: plants first, then what all bands do together."""
    with np.errstate(invalid="ignore"):
        together = changes.sum(axis=0) / np.abs(changes).sum(axis=0)
        conditions = [greener >= GREEN, greener <= -GREEN, together >= ONE_WAY, together <= -ONE_WAY]
    words = np.select(conditions, ["greener", "browner", "brighter", "darker"], "mixed").astype(object)
    words[~np.isfinite(changes).all(axis=0)] = None
    return list(words)


def _names(pair: Pair) -> list[str]:
    """A column for each band; formats take names in capitals for the same."""
    names: list[str] = []
    for name in pair.before.names:
        wanted = f"change_{name}"
        taken = {known.casefold() for known in names}
        names.append(wanted if wanted.casefold() not in taken else f"{wanted}_{len(names) + 1}")
    return names


def _counted(regions: Indices, ids: NDArray[np.uint8]) -> tuple[Numbers, Numbers]:
    """(region and class as one number, how many pixels), once each."""
    held = (regions != NOTHING) & (ids != UNLABELLED)
    return np.unique(regions[held].astype(np.int64) << 8 | ids[held], return_counts=True)


def _summed(parts: list[tuple[Numbers, Numbers]]) -> tuple[Numbers, Numbers]:
    keys, place = np.unique(np.concatenate([keys for keys, _ in parts]), return_inverse=True)
    counts = np.bincount(place, np.concatenate([counts for _, counts in parts]), len(keys))
    return keys, counts.astype(np.int64)


def _class_names(labels: Labels, counted: tuple[Numbers, Numbers], regions: int) -> "pyarrow.Array":
    """The class that covers most of each region; the one with the smaller number where two are even."""
    import pyarrow

    keys, counts = counted
    order = np.lexsort([-keys, counts, keys >> 8])
    keys = keys[order]
    best = keys[np.append(np.diff(keys >> 8) != 0, True)[: len(keys)]]
    ids = np.full(regions, UNLABELLED)
    ids[best >> 8] = best & 0xFF
    names = {c.id: c.name for c in labels.scheme.classes}
    return pyarrow.array([names.get(number) for number in ids.tolist()], pyarrow.string())
