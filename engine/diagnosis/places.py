"""Which pixels are wrong: near outlines or inside, of small or large objects, at which confidence.

An "object" is all of one class in one image, except background; its size is its share of the labelled pixels.

Shapes: N images, C classes.
"""

from dataclasses import dataclass

import numpy as np

from engine.diagnosis.classes import BACKGROUND, Correlation, correlation
from engine.scoring.calibration import Calibration
from engine.scoring.run import Array, Run
from engine.scoring.statistics import FEW_IMAGES
from engine.wording import quantity

MIN_OBJECTS = 12
MOSTLY = 0.5  # of the wrong pixels near outlines, and
WORSE = 2.0  # times the error rate inside: then outlines are a weak spot
WEAK = 0.7  # of the IoU of the largest quarter, and
LEAST_DIFFERENCE = 5.0  # points: below both, small objects are a weak spot
NOTABLE_ERROR = 3.0  # points of calibration error


@dataclass(frozen=True)
class Edges:
    """The share of the wrong and of all pixels that are near outlines; error rates there and inside."""

    share_of_errors: float
    share_of_pixels: float
    error_near: float
    error_inside: float

    @property
    def are_most_errors(self) -> bool:
        """Whether most errors are there, and not only because most pixels are."""
        return self.share_of_errors >= MOSTLY and self.error_near >= WORSE * self.error_inside

    def __str__(self) -> str:
        return (
            f"{100 * self.share_of_errors:.0f} % of the wrong pixels are near an outline, where "
            f"{100 * self.share_of_pixels:.0f} % of the pixels are: there {100 * self.error_near:.1f} % are "
            f"wrong, inside {100 * self.error_inside:.1f} %."
        )


@dataclass(frozen=True)
class Sizes:
    """Quarters of the objects by size: (3,) sizes at which they meet, (4,) mean IoU of each in points."""

    limits: Array
    iou: Array
    trend: Correlation | None
    num_objects: int

    @property
    def are_weak_when_small(self) -> bool:
        clear = self.trend is not None and self.trend.is_clear and self.trend.rho > 0
        return bool(clear and self.iou[0] < min(WEAK * self.iou[-1], self.iou[-1] - LEAST_DIFFERENCE))

    def __str__(self) -> str:
        limits = ", ".join(f"{100 * limit:.2g} %" for limit in self.limits)
        iou = ", ".join(f"{value:.1f} %" for value in self.iou)
        verdict = "Small objects do worse" if self.are_weak_when_small else "Size of an object and its IoU"
        trend = self.trend
        rank = f" Rank correlation {trend.rho:.2f} (p {trend.p:.2g})." if trend else ""
        return (
            f"{verdict}: mean IoU in an image, from the smallest quarter of {self.num_objects} objects to "
            f"the largest, is {iou} (quarters end at {limits} of the image).{rank}"
        )


def study_edges(run: Run) -> Edges | None:
    """None where errors near outlines were not counted, or nothing is wrong."""
    if run.scores is None or run.predictor not in run.scores.edges:
        return None
    # rows: inside, near; columns: right, wrong
    (inside_right, inside_wrong), (near_right, near_wrong) = (
        run.scores.edges[run.predictor].sum(axis=0).astype(float)
    )
    near, inside = near_right + near_wrong, inside_right + inside_wrong
    wrong = near_wrong + inside_wrong
    if not wrong:
        return None
    return Edges(
        near_wrong / wrong,
        near / (near + inside),
        near_wrong / max(1, near),
        inside_wrong / max(1, inside),
    )


def study_sizes(run: Run) -> Sizes | None:
    """None where val was not scored image by image, or has fewer than twelve objects."""
    if run.scores is None or not run.scores.confusion:
        return None
    names = run.scores.class_names
    confusion = run.scores.confusion[run.predictor].astype(float)  # (N, C, C)
    labelled = confusion.sum(axis=2)  # (N, C)
    right = np.diagonal(confusion, axis1=1, axis2=2)
    union = labelled + confusion.sum(axis=1) - right
    is_object = (labelled > 0) & np.array([name != BACKGROUND for name in names])
    if np.count_nonzero(is_object) < MIN_OBJECTS:
        return None
    sizes = (labelled / np.maximum(1, labelled.sum(axis=1, keepdims=True)))[is_object]
    iou = 100 * (right[is_object] / union[is_object])
    quarters = np.array_split(np.argsort(sizes, kind="stable"), 4)
    limits = np.array([sizes[quarter[-1]] for quarter in quarters[:-1]])
    means = np.array([iou[quarter].mean() for quarter in quarters])
    return Sizes(limits, means, correlation(sizes, iou), len(sizes))


@dataclass(frozen=True)
class Confidence:
    """In points: the expected calibration error (arXiv 1706.04599), mean confidence, and pixel accuracy.

    num_images: that were scored; few of them give the figures but no verdict.
    """

    error: float
    confidence: float
    accuracy: float
    num_images: int

    @property
    def is_overconfident(self) -> bool:
        is_notable = self.num_images >= FEW_IMAGES and self.error >= NOTABLE_ERROR
        return is_notable and self.confidence > self.accuracy

    def __str__(self) -> str:
        side = "over" if self.confidence > self.accuracy else "under"
        verdict = (
            f"The model is {side}confident"
            if self.error >= NOTABLE_ERROR
            else "Probabilities are well calibrated"
        )
        if self.num_images < FEW_IMAGES:
            verdict = (
                f"{quantity(self.num_images, 'image is', 'images are')} too few to judge the probabilities"
            )
        return (
            f"{verdict}: mean confidence {self.confidence:.1f} %, accuracy {self.accuracy:.1f} %, expected "
            f"calibration error {self.error:.1f} points."
        )


def study_confidence(run: Run) -> Confidence | None:
    """None where confidences were not counted."""
    if run.scores is None or run.predictor not in run.scores.reliability:
        return None
    counts = run.scores.reliability[run.predictor].sum(axis=0)  # (3, bins)
    num, confidence, right = counts.sum(axis=1)
    if not num:
        return None
    error = Calibration.of(counts).ece
    error, confidence, accuracy = (100 * float(share) for share in (error, confidence / num, right / num))
    return Confidence(error, confidence, accuracy, len(run.scores.ids))
