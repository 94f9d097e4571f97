"""Where the errors are: near outlines or inside, on small objects or large ones.

An "object" is all of one class in one image, background apart; its size is its share of the labelled pixels.

Shapes: N images, C classes.
"""

from dataclasses import dataclass

import numpy as np

from engine.diagnosis.classes import BACKGROUND, Correlation, correlation
from engine.diagnosis.findings import Finding
from engine.scoring.run import Array, Run

TOPIC = "places"
MIN_OBJECTS = 12
MOSTLY = 0.5  # of the wrong pixels: from this on most errors lie near outlines
WORSE = 2.0  # times the error inside: with less, outlines are no weak spot
WEAK = 0.7  # of the IoU of the largest quarter: below it, small objects are a weak spot
NOTABLE = 5.0  # points, which is the least difference for that


@dataclass(frozen=True)
class Edges:
    """Near outlines and inside: share of the wrong pixels that lie near, of all pixels; errors of each."""

    share_of_errors: float
    share_of_pixels: float
    error_near: float
    error_inside: float

    @property
    def are_most_errors(self) -> bool:
        """Not only because most pixels lie there."""
        return self.share_of_errors >= MOSTLY and self.error_near >= WORSE * self.error_inside

    def __str__(self) -> str:
        return (
            f"{100 * self.share_of_errors:.0f} % of the wrong pixels lie near an outline, where "
            f"{100 * self.share_of_pixels:.0f} % of the pixels are: there {100 * self.error_near:.1f} % are "
            f"wrong, inside {100 * self.error_inside:.1f} %."
        )


@dataclass(frozen=True)
class Sizes:
    """Quarters of the objects by size: (3,) sizes between them, (4,) mean IoU of each in points."""

    limits: Array
    iou: Array
    trend: Correlation | None
    num_objects: int

    @property
    def are_weak_when_small(self) -> bool:
        clear = self.trend is not None and self.trend.is_clear and self.trend.rho > 0
        return bool(clear and self.iou[0] < min(WEAK * self.iou[-1], self.iou[-1] - NOTABLE))

    def __str__(self) -> str:
        limits = ", ".join(f"{100 * limit:.2g} %" for limit in self.limits)
        iou = ", ".join(f"{value:.1f}" for value in self.iou)
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
    if run.scores is None:
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


def places_finding(edges: Edges | None, sizes: Sizes | None) -> Finding:
    """Both in words."""
    return Finding(
        TOPIC,
        f"{edges or 'Errors near outlines: not counted.'} {sizes or 'Size of objects: too few to say.'}",
    )
