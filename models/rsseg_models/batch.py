"""Batch: tensors for one step, with validity masks."""

from dataclasses import dataclass
from typing import Generic, TypeVar

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
class Clips:
    """Crops of series: each the same ground at several dates, the first of them the one that is looked at."""

    bands: Tensor  # (B, T, N, H, W), as those of a Batch
    valid: Tensor  # (B, T, H, W) bool
    days: Tensor  # (B, T), counted from any day
    labels: Tensor  # (B, H, W) int64, of the date that is looked at

    def to(self, device: str) -> "Clips":
        return Clips(*(part.to(device) for part in (self.bands, self.valid, self.days, self.labels)))

    def date(self, number: int) -> Batch:
        """One date by itself; labels are those of the first."""
        bands = self.bands[:, number].contiguous(memory_format=torch.channels_last)
        return Batch(bands, self.valid[:, number], self.labels)

    def rolled(self, by: int) -> "Clips":
        """Each crop in the place of another one of its batch."""
        return Clips(*(part.roll(by, 0) for part in (self.bands, self.valid, self.days, self.labels)))


def alone(batch: Batch) -> Clips:
    """Crops of a single date."""
    return Clips(batch.bands[:, None], batch.valid[:, None], torch.zeros(len(batch.valid), 1), batch.labels)


Part = TypeVar("Part", Batch, Clips)


@dataclass(frozen=True)
class Domains(Generic[Part]):
    """What a step of a method that adapts learns from: a batch, or clips, of each domain."""

    source: Part
    target: Part  # labelled where a person has given labels, which is mostly nowhere

    def to(self, device: str) -> "Domains[Part]":
        return Domains(self.source.to(device), self.target.to(device))
