"""What predictors that do not look at the image score: the mIoU that a model has to exceed.

Shapes: C classes.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Baselines:
    """mIoU, as shares of 1; NaN without labelled pixels.

    first: of predicting class 0 everywhere, `majority`: the class with the most pixels. uniform: the expected
    mIoU of drawing each pixel's class at random, all C classes equally often.
    """

    first_class: str
    majority_class: str
    first: float
    majority: float
    uniform: float

    @classmethod
    def of(cls, labelled: NDArray[np.int64], class_names: tuple[str, ...]) -> "Baselines":
        """From (C,) labelled pixels by class."""
        largest = int(labelled.argmax())
        return cls(
            class_names[0],
            class_names[largest],
            _one_class(labelled, 0),
            _one_class(labelled, largest),
            _uniform(labelled),
        )

    def rows(self) -> dict[str, float]:
        """mIoU by what is predicted everywhere; one row where class 0 is the majority class."""
        majority = {f"only {self.majority_class} (most pixels)": self.majority}
        first = {} if self.first_class == self.majority_class else {f"only {self.first_class}": self.first}
        return {**majority, **first, "classes at random": self.uniform}

    def brief(self) -> str:
        """The highest of them that a model has to exceed, for one line."""
        return f"only {self.majority_class}: mIoU {self.majority:.4f}"

    def __str__(self) -> str:
        if math.isnan(self.majority):
            return "mIoU without looking at the image: not known, since no pixel is labelled."
        texts = (f"{what} {value:.4f}" for what, value in self.rows().items())
        return f"mIoU without looking at the image: {', '.join(texts)}."


class Everywhere(Baselines):
    """Of masks of classes that may overlap: predicting every class everywhere."""

    @classmethod
    def of(cls, counts: NDArray[np.int64], class_names: tuple[str, ...] = ()) -> "Everywhere":
        """From (C, 2, 2) counts by label and prediction: the IoU of a class is its share of the pixels."""
        labelled, total = counts[:, 1].sum(axis=1), counts.sum(axis=(1, 2))
        known = total > 0
        value = float((labelled[known] / total[known]).mean()) if known.any() else math.nan
        return cls("", "", value, value, math.nan)

    def rows(self) -> dict[str, float]:
        return {"every class everywhere": self.first}

    def brief(self) -> str:
        return f"every class everywhere: mIoU {self.first:.4f}"


def _one_class(labelled: NDArray[np.int64], predicted: int) -> float:
    """Its IoU is its share of the pixels, that of all others 0; absent classes are not averaged."""
    total = labelled.sum()
    num_present = np.count_nonzero(labelled) + (labelled[predicted] == 0)
    return float(labelled[predicted] / total / num_present) if total else math.nan


def _uniform(labelled: NDArray[np.int64]) -> float:
    """A class of share p has intersection p / C and union p + 1 / C - p / C. Every class is predicted."""
    if not labelled.sum():
        return math.nan
    shares, num_classes = labelled / labelled.sum(), len(labelled)
    return float(np.mean(shares / (num_classes * shares + 1 - shares)))
