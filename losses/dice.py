"""Soft Dice (Milletari et al. 2016, arXiv 1606.04797; without their squares in the denominator).

Taken over the whole batch, and averaged over the classes that are present in its labels: an absent class has
no overlap to measure, and counting it as 0 or as 1 makes the loss depend on how many classes a batch holds.
"""

import torch
from torch import Tensor, nn

from losses.statistics import Reduce, identity


def dice(logits: Tensor, labels: Tensor, ignore_index: int, reduce: Reduce = identity) -> Tensor:
    """1 - 2 I / (P + Y), averaged over the classes with a label in the batch; 0 if all pixels are void.

    For each class, over the pixels that are not void: I sums its probability where it is the label, P sums
    its probability, Y counts its labels. No smoothing constant is needed: a class that is counted has Y >= 1.

    Args:
        logits: (B, C, H, W), float32 or float64.
        labels: (B, H, W), int64. An id outside 0..C-1 that is not `ignore_index` raises RuntimeError on the
            CPU and trips a device assertion on CUDA.
        reduce: sums over all processes.
    """
    valid = (labels != ignore_index).unsqueeze(1)  # (B, 1, H, W)
    index = labels.unsqueeze(1).masked_fill(~valid, 0)
    own = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, index, valid)  # (B, C, H, W), void in none
    probabilities = logits.softmax(1) * valid  # (B, C, H, W)
    intersection = (probabilities * own).sum((0, 2, 3))  # (C,)
    sums = torch.stack([intersection, probabilities.sum((0, 2, 3)), own.sum((0, 2, 3)).to(logits.dtype)])
    intersection, predicted, labelled = reduce(sums).unbind()
    present = labelled > 0  # (C,)
    overlap = 2 * intersection / (predicted + labelled).clamp(min=1)  # the clamp touches absent classes only
    return torch.where(present, 1 - overlap, 0.0).sum() / present.sum().clamp(min=1)


class Dice(nn.Module):
    """`dice` with its options bound."""

    def __init__(self, ignore_index: int):
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, labels: Tensor, reduce: Reduce = identity) -> Tensor:
        """(B, C, H, W) and (B, H, W) -> scalar"""
        return dice(logits, labels, self.ignore_index, reduce)
