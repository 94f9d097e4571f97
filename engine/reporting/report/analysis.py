"""What the counts of scores.h5 show about one member or ensemble.

Shapes: N images, C classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.scoring.baselines import Baselines
from engine.scoring.boundary import boundary_iou
from engine.scoring.calibration import Calibration
from engine.scoring.metrics import ratio
from engine.scoring.scores_file import ImageScores
from engine.scoring.statistics import (
    Interval,
    drawn_iou,
    enough,
    few_images,
    image_mean_iou,
    interval,
    range_of,
)


@dataclass(frozen=True)
class Analysis:
    """Sums over the images, bootstrap intervals, and the score of each image.

    confusion: (C, C) int64, rows labels, columns predictions; None of classes that may overlap.
    IoU: (C,), NaN where absent.
    boundary_IoU: (C,). reliability: (3, bins), pixels, sum of confidence, right pixels. None: not counted.
    image_mIoU: (N,), the mean over the classes in the label or the prediction of an image.
    """

    ids: list[str]
    confusion: NDArray[np.int64] | None
    baselines: Baselines
    IoU: NDArray[np.float64]
    IoU_intervals: list[Interval]
    image_mIoU: NDArray[np.float64]
    boundary_IoU: NDArray[np.float64] | None
    reliability: NDArray[np.float64] | None

    @classmethod
    def of(cls, scores: ImageScores, predictor: str, drawn: NDArray[np.float64]) -> "Analysis":
        """From the counts of one predictor in scores.h5, and bootstrap `draws` of its images."""
        found = scores.overlaps[predictor]  # (N, 2, C)
        ious = drawn_iou(found, enough(drawn))  # (S, C)
        boundary, reliability = scores.boundary.get(predictor), scores.reliability.get(predictor)
        matrices = scores.confusion.get(predictor)  # (N, C, C)
        return cls(
            ids=scores.ids,
            confusion=None if matrices is None else matrices.sum(axis=0),
            baselines=scores.baselines(predictor),
            IoU=ratio(*found.sum(axis=0)),
            IoU_intervals=[interval(of_class) for of_class in ious.T],
            image_mIoU=image_mean_iou(found),
            boundary_IoU=None if boundary is None else boundary_iou(boundary.sum(axis=0)),
            reliability=None if reliability is None else reliability.sum(axis=0),
        )

    def mean_boundary_iou(self) -> float | None:
        """Over the classes that have a boundary; None where there is none, or none was counted."""
        if self.boundary_IoU is None or np.isnan(self.boundary_IoU).all():
            return None
        return float(np.nanmean(self.boundary_IoU))

    def few_images(self) -> str:
        """What can be said of few images; empty where they are enough."""
        return few_images(int((~np.isnan(self.image_mIoU)).sum()), *range_of(self.image_mIoU))

    def calibration_error(self) -> float | None:
        """The expected calibration error; None where no confidence was counted."""
        if self.reliability is None or not self.reliability[0].any():
            return None
        return Calibration.of(self.reliability).ece

    def confused(self, num_pairs: int) -> list[tuple[int, int, float, int]]:
        """(label, prediction, share of the label's pixels, pixels), the most pixels first."""
        assert self.confusion is not None, "a pixel has one class"
        wrong = self.confusion * (1 - np.eye(len(self.confusion), dtype=np.int64))
        labels, predictions = np.unravel_index(np.argsort(-wrong, axis=None)[:num_pairs], wrong.shape)
        totals = self.confusion.sum(axis=1)
        return [
            (int(i), int(j), float(wrong[i, j] / totals[i]), int(wrong[i, j]))
            for i, j in zip(labels, predictions, strict=True)
            if wrong[i, j]
        ]

    def most_confused(self, num_classes: int) -> list[int]:
        """The counted classes that lose most of their pixels or take most of those of others, those first.

        By shares of the labels: a class that takes half of each of ten rare classes comes before one that
        takes as many pixels of a single frequent one.
        """
        assert self.confusion is not None, "a pixel has one class"
        totals = self.confusion.sum(axis=1, keepdims=True)
        shares = self.confusion * (1 - np.eye(len(self.confusion))) / np.maximum(1, totals)
        involved = shares.sum(axis=1) + shares.sum(axis=0)
        counted = np.flatnonzero(~np.isnan(self.IoU))
        chosen: list[int] = counted[np.argsort(-involved[counted], kind="stable")[:num_classes]].tolist()
        return chosen


def extremes(image_mIoU: NDArray[np.float64], num_each: int) -> tuple[list[int], list[int]]:
    """Indices of the worst images, worst first, and of the best, best first; no image is in both."""
    scored = np.flatnonzero(~np.isnan(image_mIoU))
    order = scored[np.argsort(image_mIoU[scored], kind="stable")].tolist()
    num_each = min(num_each, len(order) // 2)
    return order[:num_each], order[::-1][:num_each]
