"""Cross-entropy of pixels, with class weights and label smoothing (Szegedy et al. 2015, arXiv 1512.00567)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from losses.statistics import Reduce, identity, ratio_of_sums


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    reduce: Reduce = identity,
) -> Tensor:
    """The mean over the pixels that are not void, weighted by the class of each pixel; 0 if all are void.

    Args:
        logits: (B, C, H, W), float32 or float64.
        labels: (B, H, W), int64. An id outside 0..C-1 that is not `ignore_index` raises IndexError on the CPU
            and trips a device assertion on CUDA.
        class_weights: (C,), not negative.
        label_smoothing: the share of the target, 0..1, that is spread evenly over all classes.
        reduce: sums over all processes.
    """
    weights = None if class_weights is None else class_weights.to(logits)
    costs = F.cross_entropy(
        logits, labels, weights, ignore_index=ignore_index, label_smoothing=label_smoothing, reduction="none"
    )  # (B, H, W), 0 where void; not summed in there, since CUDA does that with atomics, in no fixed order
    valid = labels != ignore_index  # (B, H, W)
    if weights is None:
        weight = valid.sum().to(logits.dtype)
    else:
        weight = (weights[labels.masked_fill(~valid, 0)] * valid).sum()
    return ratio_of_sums(costs.sum(), weight, reduce)


class CrossEntropy(nn.Module):
    """`cross_entropy` with its options bound."""

    class_weights: Tensor | None

    def __init__(
        self, ignore_index: int, class_weights: Sequence[float] | None = None, label_smoothing: float = 0.0
    ):
        super().__init__()
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)  # the recipe holds them

    def forward(self, logits: Tensor, labels: Tensor, reduce: Reduce = identity) -> Tensor:
        """(B, C, H, W) and (B, H, W) -> scalar"""
        return cross_entropy(
            logits, labels, self.ignore_index, self.class_weights, self.label_smoothing, reduce
        )
