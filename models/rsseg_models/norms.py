"""Batch norms: whose statistics they keep."""

import copy
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Memory:
    """What part of batches of each kind norms remember, of what they usually would."""

    source: float = 1.0
    mixed: float = 1.0
    target: float = 1.0  # crops as they are

    @classmethod
    def of(cls, target_norms: float) -> "Memory":
        """Norms are to know the target by so much, and the source by the rest; 0: all that is learned from."""
        return cls(1 - target_norms, 0.0, target_norms) if target_norms else cls()


@contextmanager
def remembering(module: nn.Module, part: float) -> Iterator[None]:
    """Norms still use the statistics of a batch, and remember this part of what they would; 0: nothing."""
    norms = norms_of(module)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None if norm.momentum is None and part else part * (norm.momentum or 0)
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def untracked(module: nn.Module) -> AbstractContextManager[None]:
    return remembering(module, 0.0)


def norms_of(module: nn.Module) -> list[_BatchNorm]:
    return [part for part in module.modules() if isinstance(part, _BatchNorm)]


@torch.no_grad()
def settled(network: Network, batches: Iterable[Tensor], part: float = 1.0) -> Network:
    """A copy whose norms know these bands by so much, each batch as much as any other, and by the rest what they knew.

    1: Li et al. 2016, arXiv 1603.04779.
    """
    before, network = norms_of(network), copy.deepcopy(network).eval()
    norms = norms_of(network)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    for bands in batches:
        network(bands)
    for norm, known, momentum in zip(norms, before, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
        for name in ("running_mean", "running_var"):
            getattr(norm, name).lerp_(getattr(known, name), 1 - part)
    return network
