"""Integer confusion counts and the scores that follow from them. Knows nothing of models or data sets.

Shapes: B images, C classes; rows of a confusion matrix are labels, columns are predictions.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def confusion_matrices(predictions: Tensor, labels: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """Pixels by label and prediction, one matrix an image.

    Args:
        predictions: (B, h, w) integer, 0..C-1.
        labels: (B, h, w) integer, 0..C-1 or `ignore_index`; those pixels count nowhere.

    Returns:
        (B, C, C) int64 on the same device.
    """
    B, C = labels.shape[0], num_classes
    image = torch.arange(B, device=labels.device).view(-1, 1, 1)
    cell = (image * C + labels.long()) * C + predictions  # (B, h, w): a number for (image, label, prediction)
    # void goes to one cell more, which is dropped
    cell = torch.where(labels == ignore_index, B * C * C, cell)
    return torch.bincount(cell.flatten(), minlength=B * C * C + 1)[:-1].view(B, C, C)


@dataclass(frozen=True)
class Scores:
    """What one confusion matrix says; shares are 0..1.

    A class is absent where neither a label nor a prediction holds it: its IoU is NaN, and mIoU is the mean
    over the others. mAcc is the mean recall over classes with labels. `baseline` is the mIoU of predicting
    background (class 0) everywhere.
    """

    mIoU: float
    mAcc: float
    aAcc: float
    baseline: float
    IoU: dict[str, float]
    absent: list[str]
    num_pixels: int
    num_void: int

    @classmethod
    def of(cls, confusion: NDArray[np.int64], class_names: tuple[str, ...], num_void: int = 0) -> "Scores":
        """From a (C, C) confusion matrix of int64 and the number of void pixels beside it."""
        iou = intersection_over_union(confusion)
        correct, labelled = confusion.diagonal(), confusion.sum(axis=1)
        total = int(confusion.sum())
        seen = labelled > 0
        only_background = np.zeros_like(confusion)
        only_background[:, 0] = labelled
        return cls(
            mIoU=_mean_present(iou),
            mAcc=_mean(correct[seen] / labelled[seen]),
            aAcc=int(correct.sum()) / total if total else float("nan"),
            baseline=_mean_present(intersection_over_union(only_background)),
            IoU={name: float(value) for name, value in zip(class_names, iou, strict=True)},
            absent=[name for name, value in zip(class_names, iou, strict=True) if np.isnan(value)],
            num_pixels=total,
            num_void=num_void,
        )


def intersection_over_union(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """(C,) IoU of each class, NaN where the union is empty, from (C, C) counts."""
    intersection = confusion.diagonal().astype(np.float64)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - confusion.diagonal()
    iou: NDArray[np.float64] = np.divide(
        intersection, union, out=np.full(len(union), np.nan), where=union > 0
    )
    return iou


def mean_iou(confusion: NDArray[np.int64]) -> float:
    """mIoU over the classes present, from (C, C) counts; NaN where there are none."""
    return _mean_present(intersection_over_union(confusion))


def _mean_present(values: NDArray[np.float64]) -> float:
    return _mean(values[~np.isnan(values)])


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else float("nan")
