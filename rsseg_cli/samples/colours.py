"""The map that colours alone give: what any method with an eye for shape has to beat."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rsseg_cli.samples.scenes import SampleScene


class ColourModel:
    """Gaussian maximum likelihood on single pixels, the classifier of every GIS, bands matched by name."""

    def __init__(self, scenes: Sequence[SampleScene]) -> None:
        self.bands = scenes[0].bands
        pixels = np.concatenate([_pixels(scene, self.bands) for scene in scenes])
        labels = np.concatenate([scene.labels.ravel() for scene in scenes])
        self.ids = np.unique(labels)
        self.means = [pixels[labels == id_].mean(axis=0) for id_ in self.ids]
        covariances = [np.cov(pixels[labels == id_], rowvar=False) for id_ in self.ids]
        self.inverses = [np.linalg.inv(c) for c in covariances]
        self.log_volumes = [np.linalg.slogdet(c)[1] for c in covariances]

    def map(self, scene: SampleScene) -> NDArray[np.uint8]:
        """Class ids (y, x)."""
        pixels = _pixels(scene, self.bands)
        costs = [
            np.einsum("pi,ij,pj->p", pixels - mean, inverse, pixels - mean) + volume
            for mean, inverse, volume in zip(self.means, self.inverses, self.log_volumes, strict=True)
        ]
        likeliest = np.argmin(costs, axis=0)
        return np.asarray(self.ids[likeliest], np.uint8).reshape(scene.labels.shape)


def _pixels(scene: SampleScene, bands: Sequence[str]) -> NDArray[np.float64]:
    """(pixel, band), bands in the order asked for."""
    return np.stack([scene.image[scene.bands.index(band)].ravel() for band in bands], axis=-1).astype(np.float64)
