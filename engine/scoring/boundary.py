"""Boundary IoU (Cheng et al. 2021, arXiv 2103.16562): IoU of the bands along the outlines of each class.

The band of a class is what lies within `distance` pixels of the outside of its mask, inside the mask; the
edge of the image is an outline, too. As each pixel is in the mask of one class, one band map holds the bands
of all classes, and one confusion matrix with a class more, "in no band", holds all counts.

Differs from the paper in that void of the labels is cut out of the prediction before its bands are drawn, so
that a perfect prediction scores 1 where the outlines are void.

Shapes: B images of h x w pixels, C classes.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from engine.scoring.confusion import confusion_matrices, intersection_over_union

DISTANCE = 0.02  # of the image's diagonal, as in the paper
VOID, EDGE = -1, -2


def boundary_matrices(predictions: Tensor, labels: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """Pixels by band of the label and band of the prediction, one matrix an image.

    Args:
        predictions: (B, h, w) integer, 0..C-1.
        labels: (B, h, w) integer, 0..C-1 or `ignore_index`; those pixels count nowhere.

    Returns:
        (B, C+1, C+1) int64; the last row and column are pixels in no band.
    """
    void = labels == ignore_index
    distance_px = max(1, round(DISTANCE * math.hypot(*labels.shape[-2:])))
    bands = [
        torch.where(_in_band(ids, distance_px), ids, num_classes)
        for ids in (labels.long().masked_fill(void, VOID), predictions.long().masked_fill(void, VOID))
    ]
    bands = [band.masked_fill(void, VOID) for band in bands]
    return confusion_matrices(bands[1], bands[0], num_classes + 1, VOID)


def boundary_iou(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """(C,) boundary IoU of each class, NaN where it has no band, from (C+1, C+1) counts."""
    return intersection_over_union(matrix)[:-1]


def _in_band(ids: Tensor, distance_px: int) -> Tensor:
    """(B, h, w) bool: whether another id, or the edge, is at most `distance_px` rows and columns away."""
    padded = F.pad(ids.float().unsqueeze(1), [distance_px] * 4, value=EDGE)
    side = 2 * distance_px + 1

    def highest(x: Tensor) -> Tensor:
        return F.max_pool2d(F.max_pool2d(x, (1, side), stride=1), (side, 1), stride=1)  # (B, 1, h, w)

    return (highest(padded) != -highest(-padded)).squeeze(1)
