"""Batch: tensors for one step, with validity masks."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Crops of one domain."""

    bands: Tensor  # (B, N, H, W), standardised; 0 where there is nothing
    valid: Tensor  # (B, H, W) bool
    labels: Tensor  # (B, H, W) int64, places among the classes; 255 where there is no label

    def to(self, device: str) -> "Batch":
        return Batch(self.bands.to(device), self.valid.to(device), self.labels.to(device))
