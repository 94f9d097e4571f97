"""What is counted where a pixel may have several classes: each class by itself, at every threshold.

A class is predicted where its probability, a sigmoid, reaches its threshold. Pixels are counted by
probability, in steps of 0.001, so that one pass gives the scores at each threshold, the precision-recall
curve, and the threshold with the highest IoU, which also has the highest Dice.

Shapes: B images, C classes; the scored region of an image is H x W pixels; T steps of probability.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.scoring.baselines import Everywhere
from engine.scoring.combining import LEAST
from engine.scoring.confusion import Scores
from engine.scoring.counting import exact_zeros
from engine.scoring.metrics import mean_of_present, overlaps_of_masks, ratio

Thresholds = tuple[float, ...]  # one a class
T = 1000
UNDECIDED = 0.5  # of a class that has no labelled pixel


@dataclass(frozen=True)
class MultiLabelCounts:
    """Counts of a batch.

    by_class: (B, C, 2, 2) int64 of each image and class: rows labels, columns predictions, not and the class;
    None where the thresholds are not known yet. histogram: (C, 2, T) int64, by label and step of probability.
    """

    histogram: Tensor
    by_class: Tensor | None = None

    def items(self) -> list[tuple[str, Tensor]]:
        """(name, counts) of those that are kept for each image."""
        return [] if self.by_class is None else [("by_class", self.by_class)]

    def overlaps(self) -> NDArray[np.int64]:
        """(B, 2, C) intersection and union."""
        assert self.by_class is not None, "known thresholds"
        return overlaps_of_masks(self.by_class.cpu().numpy())

    def image_iou(self) -> Tensor:
        """(B,) mean IoU over the classes that an image or its prediction holds; NaN where not known."""
        if self.by_class is None:
            return torch.full((1,), torch.nan, device=self.histogram.device)
        (_, fp), (fn, tp) = (row.unbind(-1) for row in self.by_class.unbind(-2))  # (B, C) each
        return (tp / (tp + fp + fn)).nanmean(dim=1)


class MultiLabelMaps:
    """Fills the counts of a batch strip by strip; as `counting.Maps`, without maps.

    Args:
        shape: (B, C, H, W) of the probabilities.
        thresholds: by class; None: they are chosen later.
    """

    def __init__(self, shape: tuple[int, int, int, int], device: torch.device, thresholds: Thresholds | None):
        B, C = shape[:2]
        self.thresholds = None if thresholds is None else columns(thresholds, device)
        self.histogram = torch.zeros(C, 2, T, dtype=torch.int64, device=device)
        self.by_class = torch.zeros(B, C, 2, 2, dtype=torch.int64, device=device)
        self.log_loss = exact_zeros((), device)

    def put(self, images: slice, rows: slice, probabilities: Tensor, labels: Tensor, void: Tensor) -> None:
        """Add a strip: all (images, C, rows, W)."""
        own = (labels == 1).long()
        place = torch.bucketize(probabilities.contiguous(), edges(probabilities.device), right=True)  # 0..T-1
        self.histogram += _counted(own * T + place, void, 2 * T).view_as(self.histogram)
        if self.thresholds is not None:
            cell = own * 2 + (probabilities >= self.thresholds)
            of_images = _counted(cell.flatten(0, 1)[None], void.flatten(0, 1)[None], 4)
            self.by_class[images] += of_images.view_as(self.by_class[images])
        of_label = torch.where(own.bool(), probabilities, 1 - probabilities).clamp(min=LEAST)
        self.log_loss -= of_label.log().masked_fill(void, 0).sum(dtype=self.log_loss.dtype)

    def counts(self, labels: Tensor, ignore_index: int, near_label: Tensor | None) -> MultiLabelCounts:
        """Of all strips; the arguments are those of `counting.Maps`, and not needed."""
        return MultiLabelCounts(self.histogram, None if self.thresholds is None else self.by_class)


def _counted(cells: Tensor, void: Tensor, num_cells: int) -> Tensor:
    """(n, num_cells): how often each cell occurs in each of the n channels of (B, n, h, w); without void."""
    n = cells.shape[1]
    offset = torch.arange(n, device=cells.device).view(-1, 1, 1) * num_cells
    cells = torch.where(void, n * num_cells, cells + offset)
    return torch.bincount(cells.flatten(), minlength=n * num_cells + 1)[:-1].view(n, num_cells)


@lru_cache(maxsize=4)
def edges(device: torch.device) -> Tensor:
    """(T - 1,) the thresholds that are tried; the steps of probability lie between them."""
    return torch.tensor([step / T for step in range(1, T)], device=device)


def columns(thresholds: Sequence[float], device: torch.device) -> Tensor:
    """(C, 1, 1), to compare with probabilities (B, C, H, W)."""
    return torch.tensor(thresholds, device=device).view(-1, 1, 1)


@dataclass
class MultiLabelTally:
    """Counts of one predictor over a split, as `counting.Tally`; thresholds None are chosen by `scores`."""

    histogram: Tensor  # (C, 2, T) int64
    num_void: Tensor  # () int64, pixels of masks
    log_loss: Tensor  # () float64, summed over labelled pixels of masks
    image_iou: Tensor  # (2,) float64: sum of the images' mIoU, and of how many
    thresholds: Thresholds | None

    @classmethod
    def empty(
        cls, num_classes: int, device: torch.device, thresholds: Thresholds | None
    ) -> "MultiLabelTally":
        histogram = torch.zeros(num_classes, 2, T, dtype=torch.int64, device=device)
        num_void = torch.zeros((), dtype=torch.int64, device=device)
        return cls(histogram, num_void, exact_zeros((), device), exact_zeros((2,), device), thresholds)

    def add(self, counts: MultiLabelCounts, log_loss: Tensor, num_void: Tensor) -> None:
        """Add a batch."""
        self.histogram += counts.histogram
        self.log_loss += log_loss
        self.num_void += num_void
        iou = counts.image_iou()
        self.image_iou += torch.stack([iou.nansum(), (~iou.isnan()).sum()])

    def tensors(self) -> list[Tensor]:
        """The tensors that several processes sum to get one tally."""
        return [value for field in fields(self) if isinstance(value := getattr(self, field.name), Tensor)]

    def scores(self, class_names: tuple[str, ...]) -> "MultiLabelScores":
        """The scores of all counts so far, at the thresholds, or at the best ones where there are none."""
        histogram: NDArray[np.int64] = self.histogram.cpu().numpy()
        thresholds = self.thresholds or best_thresholds(histogram)
        return MultiLabelScores.at(thresholds, histogram, class_names, int(self.num_void))

    def mean_log_loss(self) -> float:
        """Binary cross-entropy of the probabilities in nats per labelled pixel of a mask; 0 without any."""
        return float(self.log_loss / self.histogram.sum().clamp(min=1))


def from_above(histogram: NDArray[np.int64]) -> NDArray[np.int64]:
    """(C, 2, T): pixels whose probability is at least step / T, by label, from a histogram (C, 2, T)."""
    found: NDArray[np.int64] = histogram[..., ::-1].cumsum(axis=-1)[..., ::-1]
    return found


def best_thresholds(histogram: NDArray[np.int64]) -> Thresholds:
    """By class the threshold with the highest IoU, that nearest to 0.5 of equal ones; 0.5 without a label."""
    negative, positive = np.moveaxis(from_above(histogram), 1, 0)  # (C, T): false and true positives
    iou = ratio(positive, negative + positive[:, :1])
    iou[:, 0] = 0  # everything reaches a threshold of 0
    chosen = []
    for of_class in iou:
        best = np.flatnonzero(of_class == of_class.max())
        chosen.append(int(best[abs(best - T // 2).argmin()]) / T if of_class.max() > 0 else UNDECIDED)
    return tuple(chosen)


def mean_thresholds(members: Iterable[Thresholds | None]) -> Thresholds | None:
    """Those of the mean probability of several models: the mean, to a step of probability; None of none."""
    known = [thresholds for thresholds in members if thresholds]
    return tuple(round(T * float(value)) / T for value in np.mean(known, axis=0)) if known else None


@dataclass(frozen=True)
class Curve:
    """Precision and recall of one class at the thresholds 0, 0.001, ..., 0.999; AP NaN without a label."""

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    AP: float

    @classmethod
    def of(cls, histogram: NDArray[np.int64]) -> "Curve":
        """From (2, T). AP is the sum of precision times the gain in recall, as scikit-learn defines it."""
        negative, positive = from_above(histogram)
        precision, recall = ratio(positive, negative + positive), ratio(positive, np.full(T, positive[0]))
        gains = recall - np.append(recall[1:], 0.0)
        ap = float(np.nansum(precision * gains)) if positive[0] else float("nan")
        return cls(precision, recall, ap)


@dataclass(frozen=True)
class MultiLabelScores(Scores):
    """The scores of each class against the rest; means are over the classes.

    mAcc is the mean recall, aAcc the share of the labelled pixels of all masks that are right, F1 is Dice.
    thresholds: of the probability, by class. AP: average precision, NaN where no label holds the class.
    """

    thresholds: dict[str, float]
    AP: dict[str, float]
    curves: dict[str, dict[str, list[float]]]

    @classmethod
    def at(
        cls,
        thresholds: Thresholds,
        histogram: NDArray[np.int64],
        class_names: tuple[str, ...],
        num_void: int,
    ) -> "MultiLabelScores":
        """From a (C, 2, T) histogram."""
        reached = np.array(
            [predicted(of_class, t) for of_class, t in zip(histogram, thresholds, strict=True)]
        )
        (tn, fp), (fn, tp) = np.moveaxis(reached, 0, -1)  # (C,) each
        iou, recall = ratio(tp, tp + fp + fn), ratio(tp, tp + fn)
        total = reached.sum()
        curves = [Curve.of(of_class) for of_class in histogram]

        def by_class(values: NDArray[np.float64] | Sequence[float]) -> dict[str, float]:
            return {name: float(value) for name, value in zip(class_names, values, strict=True)}

        return cls(
            metrics={
                "mIoU": mean_of_present(iou),
                "mAcc": mean_of_present(recall),
                "aAcc": float((tp + tn).sum() / total) if total else float("nan"),
            },
            baselines=Everywhere.of(reached),
            IoU=by_class(iou),
            precision=by_class(ratio(tp, tp + fp)),
            recall=by_class(recall),
            F1=by_class(ratio(2 * tp, 2 * tp + fp + fn)),
            absent=[name for name, value in zip(class_names, iou, strict=True) if np.isnan(value)],
            num_pixels=int(total),
            num_void=num_void,
            thresholds=by_class(thresholds),
            AP=by_class([curve.AP for curve in curves]),
            curves={name: _thinned(curve) for name, curve in zip(class_names, curves, strict=True)},
        )

    def of_masks(self) -> dict[str, object]:
        """Precision, recall, Dice, AP and threshold of each class, and the curves; None where not defined."""
        of_class = {"precision": self.precision, "recall": self.recall, "Dice": self.F1, "AP": self.AP}
        known = {
            key: {name: None if np.isnan(value) else value for name, value in values.items()}
            for key, values in of_class.items()
        }
        return {**known, "threshold": self.thresholds, "curves": self.curves}


def thresholds_of(scores: Scores) -> Thresholds | None:
    """In the order of the classes; None where a pixel has one class."""
    return tuple(scores.thresholds.values()) if isinstance(scores, MultiLabelScores) else None


def predicted(histogram: NDArray[np.int64], threshold: float) -> NDArray[np.int64]:
    """(2, 2) pixels by label and prediction at a threshold of one class, from (2, T)."""
    step = int(np.searchsorted(edges(torch.device("cpu")).numpy(), np.float32(threshold))) + 1
    above = histogram[:, step:].sum(axis=1)
    return np.stack([histogram.sum(axis=1) - above, above], axis=1)


def _thinned(curve: Curve) -> dict[str, list[float]]:
    """A curve at every 20th threshold, for files and plots."""
    return {
        "precision": [float(value) for value in curve.precision[::20]],
        "recall": [float(value) for value in curve.recall[::20]],
    }
