"""Cross-entropy over the pixels that have a label."""

import torch
from torch import Tensor
from torch.nn import functional

NO_LABEL = 255


def cross_entropy(
    logits: Tensor, labels: Tensor, class_weights: Tensor | None = None, pixel_weights: Tensor | None = None
) -> Tensor:
    """sum of w_class[y] w_pixel CE(logits, y) / number of labelled pixels; 0, with gradient, where none is labelled.

    Logits (B, K, H, W), labels (B, H, W) of any integer type, class weights (K,), pixel weights (B, H, W). Divided by
    the number of pixels and not by the sum of weights: a weight then means the same in every batch, and weights that
    tell how far to trust a batch as a whole do not cancel out.
    """
    if class_weights is not None and class_weights.shape != (logits.shape[1],):
        raise ValueError(f"{logits.shape[1]} classes need as many weights, not {tuple(class_weights.shape)}")
    labels = labels.long()
    # float32, because sums over a million pixels in half precision lose the small ones.
    weights = None if class_weights is None else class_weights.to(logits.device, torch.float32)
    losses = functional.cross_entropy(logits.float(), labels, weights, ignore_index=NO_LABEL, reduction="none")
    if pixel_weights is not None:
        # Where there is no label the weight may be anything, even NaN.
        losses = losses * torch.where(labels == NO_LABEL, 0, pixel_weights)
    return losses.sum() / (labels != NO_LABEL).sum().clamp(min=1)
