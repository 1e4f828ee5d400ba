"""Batch norms: whose statistics they keep."""

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Network = TypeVar("Network", bound=nn.Module)


@contextmanager
def untracked(module: nn.Module) -> Iterator[None]:
    """Norms still use the statistics of a batch, and do not remember them."""
    norms = norms_of(module)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def norms_of(module: nn.Module) -> list[_BatchNorm]:
    return [part for part in module.modules() if isinstance(part, _BatchNorm)]


@torch.no_grad()
def settled(network: Network, batches: Iterable[Tensor]) -> Network:
    """A copy whose norms know these bands alone, each batch as much as any other (Li et al. 2016, arXiv 1603.04779)."""
    network = copy.deepcopy(network).eval()
    norms = norms_of(network)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    for bands in batches:
        network(bands)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
    return network
