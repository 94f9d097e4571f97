"""Which classes score low on val, whether those are the rare ones, and which confusions cost most.

Shapes: N images, C classes; rows are labels, columns predictions.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.scoring.metrics import intersection_over_union
from engine.scoring.run import Array, Run
from engine.wording import quantity

BACKGROUND = "background"
MIN_CLASSES = 6  # for a rank correlation
SIGNIFICANT = 0.05  # p of a rank correlation
UNEVEN = 5.0  # times the share of the rarest class: with a smaller ratio, no class is rare
MOST_NAMED = 5
LEAST_COST = 0.1  # points of mIoU: confusions that cost less are not named


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation, with the p of a two-sided test."""

    rho: float
    p: float

    @property
    def is_clear(self) -> bool:
        return self.p < SIGNIFICANT


@dataclass(frozen=True)
class Classes:
    """By class (C,): IoU in points, NaN where absent; share of the labelled pixels; number of images with it.

    with_pixels, with_images: rank correlation of IoU with each, without background; None for fewer than six
    classes or where all are alike.
    """

    names: list[str]
    iou: Array
    shares: Array
    num_images: Array
    with_pixels: Correlation | None
    with_images: Correlation | None

    @property
    def is_imbalanced(self) -> bool:
        """Whether some classes are rare and score clearly lower."""
        shares = self.shares[_objects(self.names, self.num_images)]
        if not len(shares) or shares.max() < UNEVEN * shares.min():
            return False
        return any(c is not None and c.is_clear and c.rho > 0 for c in (self.with_pixels, self.with_images))

    @property
    def worst(self) -> list[int]:
        """The classes that have labels, lowest IoU first."""
        return [int(c) for c in np.argsort(self.iou) if not np.isnan(self.iou[c]) and self.num_images[c]]

    def __str__(self) -> str:
        named = ", ".join(
            f"{self.names[c]} {self.iou[c]:.1f} % ({100 * self.shares[c]:.2g} % of the pixels, "
            f"{quantity(int(self.num_images[c]), 'image')})"
            for c in self.worst[:MOST_NAMED]
        )
        absent = sum(self.num_images == 0)
        also = f" {quantity(int(absent), 'class has', 'classes have')} no label in val." if absent else ""
        return f"Lowest IoU on val: {named}. {self._imbalance()}{also}"

    def _imbalance(self) -> str:
        known = {"pixel share": self.with_pixels, "number of images": self.with_images}
        figures = [f"with {what} {c.rho:.2f} (p {c.p:.2g})" for what, c in known.items() if c is not None]
        if not figures:
            return "Too few classes to say whether rare ones do worse."
        correlations = f"rank correlation of IoU {', '.join(figures)}"
        if self.is_imbalanced:
            return f"Rare classes do worse: {correlations}."
        return f"No clear sign that rare classes do worse: {correlations}."


def study_classes(run: Run) -> Classes | None:
    """None where val was not scored image by image."""
    if run.scores is None or not run.scores.confusion:
        return None
    confusion = run.scores.confusion[run.predictor]  # (N, C, C)
    labelled = confusion.sum(axis=2)  # (N, C)
    iou = 100 * intersection_over_union(confusion.sum(axis=0))
    shares = labelled.sum(axis=0) / max(1, labelled.sum())
    num_images = np.count_nonzero(labelled, axis=0)
    names = run.scores.class_names
    objects = _objects(names, num_images)
    by_pixels, by_images = (correlation(iou[objects], x[objects]) for x in (shares, num_images))
    return Classes(names, iou, shares, num_images, by_pixels, by_images)


def _objects(names: list[str], num_images: Array) -> NDArray[np.bool_]:
    """(C,): the classes that have labels, except the background."""
    is_object: NDArray[np.bool_] = (num_images > 0) & np.array([name != BACKGROUND for name in names])
    return is_object


def correlation(x: Array, y: Array) -> Correlation | None:
    """Of two (n,) arrays without NaN; None for fewer than six values, or where either is constant."""
    if len(x) < MIN_CLASSES or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    from scipy.stats import spearmanr  # here, as scipy.stats takes long to load and few runs come here

    found = spearmanr(x, y)
    return Correlation(float(found.statistic), float(found.pvalue))


@dataclass(frozen=True)
class Confusion:
    """Pixels of class `label` that were predicted as `prediction`.

    cost: points of mIoU that would be gained if they were right. share: of the pixels of the label.
    num_images: that have such pixels.
    """

    label: str
    prediction: str
    cost: float
    share: float
    num_images: int

    def __str__(self) -> str:
        images = quantity(self.num_images, "image")
        return (
            f"{self.label} predicted as {self.prediction}: {self.cost:.1f} points "
            f"({100 * self.share:.0f} % of its pixels, in {images})"
        )


def costs(confusion: NDArray[np.int64]) -> Array:
    """(C, C) counts -> (C, C) points of mIoU that each cell off the diagonal costs.

    The pixels of a cell move to the diagonal: true positives of the label's class, and no longer false
    positives of the other. A class that then has neither labels nor predictions is left out of the mean.
    """
    right = confusion.diagonal().astype(float)  # (C,)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - right
    present = union > 0
    iou = np.divide(right, union, out=np.zeros(len(right)), where=present)
    num_present = max(1, np.count_nonzero(present))
    cells = confusion * ~np.eye(len(right), dtype=bool)  # (C, C)
    gained = cells / np.maximum(1, union)[:, None]  # by the label's class; its union stays the same
    union_left = union[None, :] - cells  # of the predicted class
    iou_left = np.divide(right[None, :], union_left, out=np.zeros(cells.shape), where=union_left > 0)
    total = iou.sum() + gained + iou_left - iou[None, :]
    num_left = num_present - (present[None, :] & (union_left == 0))
    after = total / np.maximum(1, num_left)
    points: Array = 100 * np.where(cells > 0, after - iou.sum() / num_present, 0.0)
    return points


def study_confusions(run: Run) -> list[Confusion] | None:
    """The costliest confusions, most costly first; None where val was not scored image by image."""
    if run.scores is None or not run.scores.confusion:
        return None
    by_image, names = run.scores.confusion[run.predictor], run.scores.class_names
    total = by_image.sum(axis=0)
    cost = costs(total)
    order = np.argsort(-cost, axis=None)[:MOST_NAMED]
    places = [np.unravel_index(place, cost.shape) for place in order]
    return [
        Confusion(
            names[a],
            names[b],
            float(cost[a, b]),
            float(total[a, b] / total[a].sum()),
            int(np.count_nonzero(by_image[:, a, b])),
        )
        for a, b in places
        if cost[a, b] >= LEAST_COST
    ]


def describe_confusions(confusions: list[Confusion]) -> str:
    """The list in words. Costs do not add up: each is computed as if the other confusions remained."""
    if not confusions:
        return f"No confusion of two classes costs {LEAST_COST} points of mIoU."
    return (
        f"What mIoU on val would gain if they were right: {'; '.join(map(str, confusions))}. "
        "These figures do not add up."
    )
