"""Integer confusion counts and the scores that follow from them.

Shapes: B images, C classes; rows of a confusion matrix are labels, columns are predictions.
"""

from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.scoring.baselines import Baselines
from engine.scoring.metrics import METRICS, Confusion, intersection_over_union, ratio


def confusion_matrices(predictions: Tensor, labels: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """Pixels by label and prediction, one matrix per image.

    Args:
        predictions: (B, h, w) integer, 0..C-1.
        labels: (B, h, w) integer, 0..C-1 or `ignore_index`, whose pixels are not counted.

    Returns:
        (B, C, C) int64 on the same device.
    """
    B, C = labels.shape[0], num_classes
    cells = C * C + 1  # per image; unlabelled pixels go to one extra bin, which is dropped
    small = torch.int16 if B * cells < 1 << 15 else torch.int32  # the narrowest type is read fastest
    # (B, h, w): a number for (label, prediction)
    cell = labels.to(small, copy=True).mul_(C).add_(predictions)
    cell.masked_fill_(labels == ignore_index, C * C)
    cell += (torch.arange(B, device=labels.device) * cells).view(-1, 1, 1)
    return torch.bincount(cell.flatten(), minlength=B * cells).view(B, cells)[:, :-1].reshape(B, C, C)


@dataclass(frozen=True)
class Scores:
    """The scores of one confusion matrix, as shares of 1.

    metrics: by name, each of METRICS.
    A class is absent where neither a label nor a prediction holds it: its IoU and F1 are NaN, and mIoU is the
    mean over the others. Recall is NaN where no label holds it, precision where no prediction does.
    baselines: what predictors that do not look at the image would score on the same pixels.
    """

    metrics: dict[str, float]
    baselines: Baselines
    IoU: dict[str, float]
    precision: dict[str, float]
    recall: dict[str, float]
    F1: dict[str, float]
    absent: list[str]
    num_pixels: int
    num_void: int

    @classmethod
    def of(cls, confusion: Confusion, class_names: tuple[str, ...], num_void: int = 0) -> "Scores":
        """From a (C, C) confusion matrix of int64 and the number of void pixels."""
        iou = intersection_over_union(confusion)
        correct, labelled, predicted = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)

        def by_class(values: NDArray[np.float64]) -> dict[str, float]:
            return {name: float(value) for name, value in zip(class_names, values, strict=True)}

        return cls(
            metrics={name: metric(confusion) for name, metric in METRICS.items()},
            baselines=Baselines.of(labelled, class_names),
            IoU=by_class(iou),
            precision=by_class(ratio(correct, predicted)),
            recall=by_class(ratio(correct, labelled)),
            F1=by_class(ratio(2 * correct, labelled + predicted)),
            absent=[name for name, value in zip(class_names, iou, strict=True) if np.isnan(value)],
            num_pixels=int(confusion.sum()),
            num_void=num_void,
        )

    @property
    def mIoU(self) -> float:
        return self.metrics["mIoU"]

    def of_masks(self) -> dict[str, object]:
        """What ensemble.json has of classes that may overlap besides; nothing where a pixel has one class."""
        return {}

    def to_dict(self) -> dict[str, object]:
        """In the form of evaluate.json: the metrics are next to the other scores."""
        values = asdict(self)
        return {**values.pop("metrics"), **values}
