"""A first convolution trained on red, green and blue, for any bands."""

from collections.abc import Sequence

import torch
from torch import Tensor

RGB = ("red", "green", "blue")


def adapt_stem(weight: Tensor, band_names: Sequence[str], rgb_order: Sequence[str] = RGB) -> Tensor:
    """RGB kernels (C, 3, h, w) as kernels (C, N, h, w): red, green, blue by name, any other band their mean, all x 3/N.

    The factor keeps the size of what the convolution gives: three bands made it, N bands make it now.
    """
    if weight.ndim != 4 or weight.shape[1] != len(RGB):
        raise ValueError(f"RGB kernels have shape (C, 3, h, w), not {tuple(weight.shape)}")
    if sorted(rgb_order) != sorted(RGB):
        raise ValueError(f"rgb_order names red, green and blue once each, not {', '.join(rgb_order)}")
    by_name = dict(zip(rgb_order, weight.unbind(1), strict=True))
    mean = weight.mean(dim=1)
    kernels = [by_name.get(name.casefold(), mean) for name in band_names]
    return torch.stack(kernels, dim=1) * (len(RGB) / len(kernels))


def bands_by_mean(band_names: Sequence[str]) -> tuple[str, ...]:
    """The bands that no published colour fits, which start from the mean of the three."""
    return tuple(name for name in band_names if name.casefold() not in RGB)
