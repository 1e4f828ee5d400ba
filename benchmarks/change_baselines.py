"""What `rsseg detect-change` is compared with: short methods that everybody can write in an afternoon.

    python benchmarks/change_baselines.py NAME BEFORE AFTER MASK SCORE [WEIGHTS]

Each gives a difference image; smoothed by a Gaussian of 2 pixels and cut by Otsu's rule it is a map. Scores are
s / (s + cut), so that a map is what exceeds one half, as with the command. Dates with different numbers of bands are
compared on the first ones.
"""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

SMOOTH_PX = 2
OTSU_BINS = 512
IR_MAD_ROUNDS, IR_MAD_STEADY = 30, 1e-3
BLOCK_PX, VARIANCE_KEPT = 5, 0.9
TILE_PX, HALO_PX = 256, 32


def regressed(before: Values, after: Values) -> Values:
    """The later date less what the earlier one predicts of it, absolute, summed over bands."""
    return np.asarray(np.abs(_residual(before, after)).sum(axis=0))


def standardised(before: Values, after: Values) -> Values:
    """Length of the difference of both dates, each band brought to mean 0 and spread 1."""
    return np.asarray(np.linalg.norm(_standard(after) - _standard(before), axis=0))


def ir_mad(before: Values, after: Values) -> Values:
    """Canonical variates' differences, pixels weighing as much as they seem unchanged, until nothing moves."""
    from scipy.linalg import cholesky, solve_triangular
    from scipy.stats import chi2

    bands, shape = len(before), before.shape[1:]
    both = np.concatenate([_standard(before), _standard(after)]).reshape(2 * bands, -1)
    weights, earlier = np.ones(both.shape[1]), np.zeros(bands)
    for _ in range(IR_MAD_ROUNDS):
        centred = both - np.average(both, axis=1, weights=weights)[:, np.newaxis]
        covariance = np.atleast_2d((centred * weights) @ centred.T / weights.sum()) + 1e-6 * np.eye(2 * bands)
        roots = [cholesky(covariance[part, part], lower=True) for part in (slice(bands), slice(bands, None))]
        whitened = [
            solve_triangular(root, part, lower=True) for root, part in zip(roots, np.split(centred, 2), strict=True)
        ]
        left, correlations, right = np.linalg.svd((whitened[0] * weights) @ whitened[1].T / weights.sum())
        correlations = correlations.clip(max=1 - 1e-6)
        differences = left.T @ whitened[0] - right @ whitened[1]
        chi_squared = (np.square(differences) / (2 * (1 - correlations))[:, np.newaxis]).sum(axis=0)
        if np.abs(correlations - earlier).max() < IR_MAD_STEADY:
            break
        weights, earlier = np.maximum(chi2.sf(chi_squared, bands), 1e-6), correlations
    return np.asarray(np.sqrt(chi_squared).reshape(shape))


def pca_kmeans(before: Values, after: Values) -> Values:
    """Celik's: surroundings of each pixel in the difference, their main components, two clusters; a score 0 to 1."""
    from scipy.cluster.vq import kmeans2

    difference = regressed(before, after)
    inner = BLOCK_PX // 2
    around = np.lib.stride_tricks.sliding_window_view(np.pad(difference, inner, "reflect"), (BLOCK_PX, BLOCK_PX))
    apart = around[inner::BLOCK_PX, inner::BLOCK_PX].reshape(-1, BLOCK_PX**2)
    variances, axes = np.linalg.eigh(np.cov(apart.T))
    kept = int(np.searchsorted(np.cumsum(variances[::-1]) / variances.sum(), VARIANCE_KEPT)) + 1
    features = (around.reshape(-1, BLOCK_PX**2) - apart.mean(axis=0)) @ axes[:, ::-1][:, :kept]
    low, high = np.quantile(difference, (0.5, 0.98))
    begin = np.stack(
        [features[difference.ravel() <= low].mean(axis=0), features[difference.ravel() > high].mean(axis=0)]
    )
    centres = kmeans2(features, begin, minit="matrix")[0]
    to_unchanged, to_changed = (np.linalg.norm(features - centre, axis=1) for centre in centres)
    return np.asarray((to_unchanged / (to_unchanged + to_changed + 1e-12)).reshape(difference.shape))


def deep(name: str, before: Values, after: Values, weights: str) -> Values:
    """How far published features of the dates lie apart, summed over levels."""
    from rsseg_models.change_features import open_extractor
    from rsseg_models.weights import read_weights

    names = ("red", "green", "blue") if len(before) == 3 else [str(number) for number in range(len(before))]
    extractor = open_extractor(name, names, read_weights(Path(weights)))
    levels = _by_tiles(extractor, _in_range(before), _in_range(after))
    return np.asarray(sum(level / np.sqrt(np.square(level).mean()) for level in levels))


def _by_tiles(extractor: Any, before: Values, after: Values) -> Values:
    height, width = before.shape[1:]
    pad = ((0, 0), *((HALO_PX, HALO_PX + -size % TILE_PX) for size in (height, width)))
    before, after = (np.pad(image, pad, "reflect") for image in (before, after))
    levels = np.zeros((3, before.shape[1], before.shape[2]))
    side = TILE_PX + 2 * HALO_PX
    inner = np.s_[:, HALO_PX : HALO_PX + TILE_PX, HALO_PX : HALO_PX + TILE_PX]
    for row in range(0, height, TILE_PX):
        for col in range(0, width, TILE_PX):
            part = np.s_[:, row : row + side, col : col + side]
            levels[:, row : row + TILE_PX, col : col + TILE_PX] = _apart(extractor, before[part], after[part])[inner]
    return levels[:, :height, :width]


def _apart(extractor: Any, before: Values, after: Values) -> Values:
    """(level, y, x) of the mean distance of features of length one."""
    import torch
    from torch.nn.functional import interpolate, normalize

    with torch.inference_mode():
        images = (torch.from_numpy(image[np.newaxis].astype(np.float32)) for image in (before, after))
        pairs = zip(*(extractor(image) for image in images), strict=True)
        levels = [(normalize(one) - normalize(other)).abs().sum(1, keepdim=True) for one, other in pairs]
        return np.stack([interpolate(level, size=before.shape[1:])[0, 0].numpy() for level in levels])


def _residual(before: Values, after: Values) -> Values:
    one, other = (_standard(image).reshape(len(image), -1) for image in (before, after))
    return np.asarray((other - (other @ one.T) @ np.linalg.pinv(one @ one.T) @ one).reshape(after.shape))


def _standard(image: Values) -> Values:
    return np.asarray(
        (image - image.mean(axis=(1, 2), keepdims=True)) / (image.std(axis=(1, 2), keepdims=True) + 1e-12)
    )


def _in_range(image: Values) -> Values:
    """Each band from 0 to 1, but for the extremes."""
    low, high = np.quantile(image, (0.02, 0.98), axis=(1, 2), keepdims=True)
    return np.asarray(((image - low) / (high - low + 1e-12)).clip(0, 1))


def otsu(values: Values) -> float:
    """The cut that parts the values into two groups as far apart as can be."""
    counts, edges = np.histogram(values, OTSU_BINS)
    centres = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)[:-1]
    above, mass = values.size - below, np.cumsum(counts * centres)
    means = mass[:-1] / np.maximum(below, 1), (mass[-1] - mass[:-1]) / np.maximum(above, 1)
    return float(edges[1:-1][np.argmax(below * above * np.square(means[0] - means[1]))])


def smoothed_and_cut(difference: Values) -> tuple[Values, float]:
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(difference, SMOOTH_PX)
    return smooth, otsu(smooth)


def as_it_is(score: Values) -> tuple[Values, float]:
    return score, 0.5


Finish = Callable[[Values], tuple[Values, float]]
# Of each name: the difference, and how a map is made of it.
PLAIN: dict[str, tuple[Callable[[Values, Values], Values], Finish]] = {
    "CC + g2 + Otsu": (regressed, smoothed_and_cut),
    "z-score + g2 + Otsu": (standardised, smoothed_and_cut),
    "IR-MAD + g2 + Otsu": (ir_mad, smoothed_and_cut),
    "PCA-KMeans": (pca_kmeans, as_it_is),
}
# Of each name: the encoder, whose weights have to be at hand.
DEEP = {"MobileNetV2 + g2 + Otsu": "mobilenet-v2", "SqueezeNet + g2 + Otsu": "squeezenet"}


def main() -> None:
    import rasterio

    warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
    name, before_path, after_path, mask_path, score_path, *weights = sys.argv[1:]
    before, after = _read(before_path), _read(after_path)
    shared = min(len(before), len(after))
    before, after = before[:shared], after[:shared]
    if name in DEEP:
        values, cut = smoothed_and_cut(deep(DEEP[name], before, after, *weights))
    else:
        subtract, finish = PLAIN[name]
        values, cut = finish(subtract(before, after))
    _write(mask_path, (values > cut).astype(np.uint8))
    _write(score_path, (values / (values + max(cut, 1e-12))).astype(np.float32))


def _read(path: str) -> Values:
    import rasterio

    with rasterio.open(path) as dataset:
        return np.asarray(dataset.read().astype(np.float64))


def _write(path: str, values: NDArray[Any]) -> None:
    import rasterio

    height, width = values.shape
    with rasterio.open(path, "w", "GTiff", width, height, 1, dtype=values.dtype.name) as dataset:
        dataset.write(values, 1)


if __name__ == "__main__":
    main()
