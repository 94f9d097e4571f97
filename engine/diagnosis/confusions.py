"""Which confusions cost most: by how much mIoU would rise if the pixels of one were right.

What several cost does not add up: each is counted as if the others stayed.

Shapes: N images, C classes; rows are labels, columns predictions.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.diagnosis.findings import Finding
from engine.scoring.run import Array, Run

TOPIC = "confusions"
MOST_NAMED = 5
LEAST_COST = 0.1  # points: what costs less is not named


@dataclass(frozen=True)
class Confusion:
    """Pixels of class `label` that were taken for `prediction`.

    cost: points of mIoU. share: of the pixels labelled so. num_images: that have such pixels.
    """

    label: str
    prediction: str
    cost: float
    share: float
    num_images: int

    def __str__(self) -> str:
        images = f"{self.num_images} image{'s' * (self.num_images != 1)}"
        return (
            f"{self.label} taken for {self.prediction}: {self.cost:.1f} points "
            f"({100 * self.share:.0f} % of its pixels, in {images})"
        )


def costs(confusion: NDArray[np.int64]) -> Array:
    """(C, C) counts -> (C, C) points of mIoU that each cell off the diagonal costs.

    The cell's pixels go to the diagonal: the label's class gains them as right, the other one loses them as
    false alarms. A class that then has neither labels nor predictions is no longer averaged.
    """
    right = confusion.diagonal().astype(float)  # (C,)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - right
    present = union > 0
    iou = np.divide(right, union, out=np.zeros(len(right)), where=present)
    num_present = max(1, np.count_nonzero(present))
    cells = confusion * ~np.eye(len(right), dtype=bool)  # (C, C)
    gained = cells / np.maximum(1, union)[:, None]  # by the label's class, whose union stays
    union_left = union[None, :] - cells  # of the other class
    iou_left = np.divide(right[None, :], union_left, out=np.zeros(cells.shape), where=union_left > 0)
    total = iou.sum() + gained + iou_left - iou[None, :]
    num_left = num_present - (present[None, :] & (union_left == 0))
    after = total / np.maximum(1, num_left)
    points: Array = 100 * np.where(cells > 0, after - iou.sum() / num_present, 0.0)
    return points


def study_confusions(run: Run) -> list[Confusion] | None:
    """The costliest confusions, most costly first; None where val was not scored image by image."""
    if run.scores is None:
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


def confusions_finding(confusions: list[Confusion]) -> Finding:
    """The list in words."""
    if not confusions:
        return Finding(TOPIC, f"No confusion of two classes costs {LEAST_COST} points of mIoU.")
    return Finding(
        TOPIC,
        f"What mIoU on val would gain if they were right: {'; '.join(map(str, confusions))}. "
        "These figures do not add up.",
    )
