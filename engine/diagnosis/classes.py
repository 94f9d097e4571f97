"""Which classes do badly, and whether those are the rare ones. Counts are of val.

Shapes: N images, C classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from engine.diagnosis.findings import Finding
from engine.scoring.metrics import intersection_over_union
from engine.scoring.run import Array, Run

TOPIC = "classes"
BACKGROUND = "background"
MIN_CLASSES = 6  # for a rank correlation
SIGNIFICANT = 0.05  # p of a rank correlation
UNEVEN = 5.0  # times the share of the rarest class: with less between them, no class is rare
MOST_NAMED = 5


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
    """By class (C,): IoU in points, NaN where absent; share of the labelled pixels; images that have it.

    with_pixels, with_images: how IoU goes with each, background apart; None for fewer than six classes
    or where all are alike.
    """

    names: list[str]
    iou: Array
    shares: Array
    num_images: Array
    with_pixels: Correlation | None
    with_images: Correlation | None

    @property
    def is_imbalanced(self) -> bool:
        """Whether some classes are rare, and those clearly do worse."""
        shares = self.shares[_objects(self.names, self.num_images)]
        if not len(shares) or shares.max() < UNEVEN * shares.min():
            return False
        return any(c is not None and c.is_clear and c.rho > 0 for c in (self.with_pixels, self.with_images))

    @property
    def worst(self) -> list[int]:
        """The classes that have labels, lowest IoU first."""
        return [int(c) for c in np.argsort(self.iou) if not np.isnan(self.iou[c]) and self.num_images[c]]

    def finding(self) -> Finding:
        named = ", ".join(
            f"{self.names[c]} {self.iou[c]:.1f} ({100 * self.shares[c]:.2g} % of the pixels, "
            f"{self.num_images[c]} {'image' if self.num_images[c] == 1 else 'images'})"
            for c in self.worst[:MOST_NAMED]
        )
        absent = sum(self.num_images == 0)
        has = "class has" if absent == 1 else "classes have"
        also = f" {absent} {has} no label there." if absent else ""
        return Finding(TOPIC, f"Lowest IoU on val: {named}. {self._imbalance()}{also}")

    def _imbalance(self) -> str:
        known = {"pixel share": self.with_pixels, "number of images": self.with_images}
        told = [f"with {what} {c.rho:.2f} (p {c.p:.2g})" for what, c in known.items() if c is not None]
        if not told:
            return "Too few classes to say whether rare ones do worse."
        figures = f"rank correlation of IoU {', '.join(told)}"
        if self.is_imbalanced:
            return f"Rare classes do worse: {figures}."
        return f"No clear sign that rare classes do worse: {figures}."


def study_classes(run: Run) -> Classes | None:
    """None where val was not scored image by image."""
    if run.scores is None:
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
    """(C,): the classes that have labels, but for the background."""
    return (num_images > 0) & np.array([name != BACKGROUND for name in names])


def correlation(x: Array, y: Array) -> Correlation | None:
    """Of two rows of numbers, without NaN; None where either is constant or both are short."""
    if len(x) < MIN_CLASSES or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    found = spearmanr(x, y)
    return Correlation(float(found.statistic), float(found.pvalue))
