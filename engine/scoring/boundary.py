"""Boundary IoU (Cheng et al. 2021, arXiv 2103.16562): IoU of the bands along the outlines of each class.

The band of a class is the part of its mask within `distance` pixels of the outside; the edge of the image is
an outline, too. As each pixel is in the mask of one class, one band map holds the bands of all classes, and
one confusion matrix with an extra class, "in no band", holds all counts.

Unlike in the paper, void pixels of the labels are removed from the prediction before its bands are drawn, so
that a perfect prediction scores 1 where the outlines are void.

Shapes: B images of h x w pixels, C classes.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from engine.scoring.confusion import confusion_matrices
from engine.scoring.metrics import intersection_over_union

DISTANCE = 0.02  # of the image's diagonal, as in the paper
VOID, EDGE = -1, -2


def band_px(h: int, w: int) -> int:
    """How far from an outline the bands of an image of this size reach, in pixels."""
    return max(1, round(DISTANCE * math.hypot(h, w)))


def near_outline(ids: Tensor, void: Tensor, distance_px: int | None = None) -> Tensor:
    """(B, h, w) bool: which pixels lie in the band along the outline of their class.

    Args:
        ids: (B, h, w) integer class ids.
        void: (B, h, w) bool; a void region has outlines of its own.
        distance_px: `band_px` of the whole image, where `ids` are a part of it.
    """
    return _in_band(ids.short().masked_fill(void, VOID), distance_px or band_px(*ids.shape[-2:]))


def boundary_matrices(
    predictions: Tensor,
    labels: Tensor,
    num_classes: int,
    ignore_index: int,
    near_label: Tensor | None = None,
    near_prediction: Tensor | None = None,
) -> Tensor:
    """Pixels by band of the label and band of the prediction, one matrix per image.

    Args:
        predictions: (B, h, w) integer, 0..C-1.
        labels: (B, h, w) integer, 0..C-1 or `ignore_index`; whose pixels are not counted.
        near_label, near_prediction: `near_outline` of labels and predictions, if it is already known.

    Returns:
        (B, C+1, C+1) int64; the last row and column are pixels in no band.
    """
    void = labels == ignore_index
    near_label = near_outline(labels, void) if near_label is None else near_label
    near_prediction = near_outline(predictions, void) if near_prediction is None else near_prediction
    of_label, of_prediction = (
        torch.where(near, ids.short(), num_classes).masked_fill(void, VOID)
        for ids, near in ((labels, near_label), (predictions, near_prediction))
    )
    return confusion_matrices(of_prediction, of_label, num_classes + 1, VOID)


def edge_counts(predictions: Tensor, labels: Tensor, ignore_index: int, near_label: Tensor) -> Tensor:
    """(B, 2, 2) int64 labelled pixels; rows: inside, near outlines of the label; columns: correct, wrong."""
    place = near_label.short().masked_fill(labels == ignore_index, VOID)
    return confusion_matrices(predictions != labels, place, 2, VOID)


def boundary_iou(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """(C,) boundary IoU of each class, NaN where it has no band, from (C+1, C+1) counts."""
    return intersection_over_union(matrix)[:-1]


def _in_band(ids: Tensor, distance_px: int) -> Tensor:
    """(B, h, w) bool: whether another id, or the edge, is at most `distance_px` rows and columns away.

    A square holds a single id if none of its rows changes and its middle column does not. Changes are counted
    by running sums, so the time does not depend on the distance.
    """
    padded = F.pad(ids, [1] * 4, value=EDGE)  # (B, h + 2, w + 2)
    row_changes = _any_change(padded[:, :, 1:] != padded[:, :, :-1], distance_px)  # (B, h + 2, w)
    column = padded[:, :, 1:-1]
    changes = column[:, 1:] != column[:, :-1]  # (B, h + 1, w)
    changes |= row_changes[:, 1:] | row_changes[:, :-1]
    return _any_change(changes.mT, distance_px).mT


def _any_change(changes: Tensor, reach: int) -> Tensor:
    """Whether a row changes at most `reach` places away: (..., n + 1) -> (..., n) bool.

    changes: between each place and the next, of n places and one more at either end.
    """
    num_places = changes.shape[-1] - 1
    before = F.pad(changes.cumsum(-1, dtype=torch.int32), [1, 0])  # (..., n + 2), changes before each place
    place = torch.arange(1, num_places + 1, device=changes.device)
    first, last = (place - reach).clamp(min=0), (place + reach).clamp(max=num_places + 1)
    return before.index_select(-1, last) != before.index_select(-1, first)
