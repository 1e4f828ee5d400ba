"""Batch: tensors for one step, with validity masks."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Crops of one domain."""

    bands: Tensor  # (B, N, H, W), standardised; 0 where there is nothing
    valid: Tensor  # (B, H, W) bool
    labels: Tensor  # (B, H, W) int64, places among the classes; 255 where there is no label

    def to(self, device: str) -> "Batch":
        # Channels last: a third less time for forward and backward passes of convolutions on a CPU.
        bands = self.bands.to(device, memory_format=torch.channels_last)
        return Batch(bands, self.valid.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Domains:
    """A batch of each domain: what a step of a method that adapts learns from."""

    source: Batch
    target: Batch  # labelled where a person has given labels, which is mostly nowhere

    def to(self, device: str) -> "Domains":
        return Domains(self.source.to(device), self.target.to(device))
