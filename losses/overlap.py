"""What Dice, Tversky, Jaccard and Lovasz share: maps of the classes, their overlap, the mean over classes.

The mean is over the classes that are present in the labels: an absent class has no overlap to measure, and
counting it as 0 or as 1 makes the loss depend on how many classes a batch holds.
"""

import torch
from torch import Tensor

from losses.statistics import Reduce, identity, ratio_of_sums


def class_maps(logits: Tensor, labels: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Probabilities and labels (bool) of each class, both (B, C, H, W) and 0 at void pixels.

    Args:
        logits: (B, C, H, W), float32 or float64.
        labels: (B, H, W), int64. An id outside 0..C-1 that is not `ignore_index` raises RuntimeError on the
            CPU and trips a device assertion on CUDA.
    """
    valid = (labels != ignore_index).unsqueeze(1)  # (B, 1, H, W)
    index = labels.unsqueeze(1).masked_fill(~valid, 0)
    own = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, index, valid)
    return logits.softmax(1) * valid, own


def overlap_sums(logits: Tensor, labels: Tensor, ignore_index: int, per_image: bool = False) -> Tensor:
    """Three sums for each class, void pixels ignored: (3, C), or (3, B, C) for each image.

    They are I, the probability of the class where it is the label; P, its probability; Y, its labels. The
    rest is as in `class_maps`.
    """
    pixels = (2, 3) if per_image else (0, 2, 3)
    probabilities, own = class_maps(logits, labels, ignore_index)
    labelled = own.sum(pixels).to(logits.dtype)
    return torch.stack([(probabilities * own).sum(pixels), probabilities.sum(pixels), labelled])


def overlap_costs(sums: Tensor, alpha: float, beta: float) -> tuple[Tensor, Tensor]:
    """1 - I / (I + alpha (P - I) + beta (Y - I)) of each class, and whether it is present: both (..., C).

    P - I are the false positives, Y - I the false negatives. alpha = beta = 0.5 is Dice, alpha = beta = 1 is
    Jaccard. No smoothing constant is needed: a class that is present has Y >= 1.

    Args:
        sums: (3, ..., C), from `overlap_sums`.
        alpha: 0 or above.
        beta: above 0, or a class that is not predicted at all would cost 0 / 0.
    """
    intersection, predicted, labelled = sums.unbind()
    present = labelled > 0
    extent = alpha * predicted + beta * labelled + (1 - alpha - beta) * intersection
    return 1 - intersection / torch.where(present, extent, 1.0), present


def mean_over_present(costs: Tensor, present: Tensor) -> Tensor:
    """(..., C) -> (...), 0 where no class is present."""
    return torch.where(present, costs, 0.0).sum(-1) / present.sum(-1).clamp(min=1)


def mean_over_groups(costs: Tensor, present: Tensor, reduce: Reduce = identity) -> Tensor:
    """(G, C) -> scalar: the mean of the groups, such as images, that have a class present, each by itself.

    Args:
        reduce: sums over all processes, which may have groups of their own.
    """
    counts = present.any(-1).to(costs.dtype)  # (G,)
    return ratio_of_sums(mean_over_present(costs, present).sum(), counts.sum(), reduce)
