"""Calibration: pixels counted by confidence, the reliability curve and the expected calibration error.

Confidence is the probability of the predicted class. The expected calibration error (Guo et al. 2017, arXiv
1706.04599) is the gap between mean confidence and accuracy of a bin, averaged over the bins by their pixels.

Shapes: B images of h x w pixels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NUM_BINS = 15  # of equal width, as in the paper
STEPS = 1 << 40  # confidence is added up in these, as integers: exact in any order, and so on a GPU too


def reliability_counts(confidence: Tensor, right: Tensor, labelled: Tensor) -> Tensor:
    """(B, 3, 15) by bin of confidence: pixels, sum of confidence, correct pixels.

    Args:
        confidence: (B, h, w) float, 0..1. A bin holds its lower end, the last also 1.
        right: (B, h, w) bool, whether the prediction is correct.
        labelled: (B, h, w) bool; other pixels are not counted.
    """
    B = confidence.shape[0]
    image = torch.arange(B, device=confidence.device).view(-1, 1, 1) * NUM_BINS
    cell = (confidence * NUM_BINS).long().clamp_(0, NUM_BINS - 1) + image
    cell = torch.where(labelled, cell, B * NUM_BINS).flatten()  # unlabelled pixels go to one extra bin
    size = B * NUM_BINS + 1
    steps = (confidence.float() * STEPS).round().long().flatten()
    sums = torch.stack(
        [
            torch.bincount(cell, minlength=size),
            torch.zeros(size, dtype=torch.int64, device=cell.device).index_add_(0, cell, steps),
            torch.bincount(cell.where(right.flatten(), size - 1), minlength=size),
        ]
    )[:, :-1]  # (3, B * 15)
    counts = (
        sums.view(3, B, NUM_BINS)
        .transpose(0, 1)
        .to(torch.float64 if sums.device.type != "mps" else torch.float32)
    )
    counts[:, 1] /= STEPS
    return counts


@dataclass(frozen=True)
class Calibration:
    """The reliability curve and its error, from (3, 15) counts; NaN in bins without pixels.

    confidence, accuracy: mean of each bin. share: of the pixels.
    """

    ece: float
    confidence: list[float]
    accuracy: list[float]
    share: list[float]

    @classmethod
    def of(cls, counts: NDArray[np.float64]) -> "Calibration":
        """From the counts of `reliability_counts`, summed over images."""
        pixels, sum_of_confidence, right = counts
        seen, total = pixels > 0, pixels.sum()
        confidence, accuracy = (
            np.divide(x, pixels, out=np.full(len(pixels), np.nan), where=seen)
            for x in (sum_of_confidence, right)
        )
        gap = np.abs(sum_of_confidence - right).sum() / total if total else float("nan")
        share = pixels / total if total else np.full(len(pixels), np.nan)
        return cls(float(gap), confidence.tolist(), accuracy.tolist(), share.tolist())
