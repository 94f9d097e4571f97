"""What is kept of each pixel, and what is counted from it.

Shapes: B images, C classes; the scored region of an image is H x W pixels.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.scoring.boundary import boundary_matrices, edge_counts
from engine.scoring.calibration import NUM_BINS, reliability_counts
from engine.scoring.combining import LEAST
from engine.scoring.confusion import Scores, confusion_matrices
from engine.scoring.metrics import overlaps


@dataclass(frozen=True)
class Counts:
    """Counts of a batch, one row per image; the last three are None unless they were asked for.

    confusion: (B, C, C) int64. boundary: (B, C+1, C+1) int64. edges: (B, 2, 2) int64.
    reliability: (B, 3, 15) float64. See `scores_file.py` for their rows and columns.
    """

    confusion: Tensor
    boundary: Tensor | None = None
    edges: Tensor | None = None
    reliability: Tensor | None = None

    def items(self) -> list[tuple[str, Tensor]]:
        """(name, counts) of those that were counted."""
        pairs = ((field.name, getattr(self, field.name)) for field in fields(self))
        return [(name, counts) for name, counts in pairs if counts is not None]

    def overlaps(self) -> NDArray[np.int64]:
        """(B, 2, C) intersection and union."""
        return overlaps(self.confusion.cpu().numpy())

    def image_iou(self) -> Tensor:
        """(B,) mean IoU over the classes present in each image, NaN without labelled pixels."""
        intersection = self.confusion.diagonal(dim1=-2, dim2=-1)  # (B, C)
        union = self.confusion.sum(dim=-2) + self.confusion.sum(dim=-1) - intersection
        return (intersection / union).nanmean(dim=-1)  # the mean over no class is NaN


class Maps:
    """Maps of one channel, filled strip by strip: the predicted class of each pixel and its probability.

    Args:
        shape: (B, C, H, W) of the probabilities.
        with_confidence: keep the probability, too.
    """

    def __init__(self, shape: tuple[int, int, int, int], device: torch.device, with_confidence: bool):
        B, C, H, W = shape
        self.num_classes = C
        self.prediction = torch.empty(B, H, W, dtype=id_type(C), device=device)
        self.confidence = torch.empty(B, H, W, device=device) if with_confidence else None
        self.log_loss = exact_zeros((), device)  # of the labels, in nats, summed

    def put(self, images: slice, rows: slice, probabilities: Tensor, labels: Tensor, void: Tensor) -> None:
        """Add a strip: probabilities (images, C, rows, W); labels and void (images, rows, W)."""
        ids, confidence = most_likely(probabilities)
        self.prediction[images, rows] = ids
        if self.confidence is not None:
            self.confidence[images, rows] = confidence
        self.log_loss += summed_log_loss(probabilities, labels, void, self.log_loss.dtype)

    def counts(self, labels: Tensor, ignore_index: int, near_label: Tensor | None) -> Counts:
        """Against labels (B, H, W); with outlines and confidence also boundary, edges and reliability."""
        prediction = self.prediction
        confusion = confusion_matrices(prediction, labels, self.num_classes, ignore_index)
        if near_label is None or self.confidence is None:
            return Counts(confusion)
        return Counts(
            confusion,
            boundary_matrices(prediction, labels, self.num_classes, ignore_index, near_label),
            edge_counts(prediction, labels, ignore_index, near_label),
            reliability_counts(self.confidence, prediction == labels, labels != ignore_index),
        )


def summed_log_loss(probabilities: Tensor, labels: Tensor, void: Tensor, dtype: torch.dtype) -> Tensor:
    """The log-loss of labels (B, ...) in nats, summed over those that are not void; () of type `dtype`."""
    index = labels.long().masked_fill(void, 0).unsqueeze(1)
    of_label = probabilities.gather(1, index)[:, 0].clamp(min=LEAST)
    return -of_label.log().masked_fill(void, 0).sum(dtype=dtype)


def most_likely(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C, ...) -> (B, ...) twice: the id and the value of the largest, the first one in a tie.

    As `max(dim=1)`, in a quarter of its time on a CPU, where only a maximum without its index is fast: so the
    index is computed as a maximum, too.
    """
    C = probabilities.shape[1]
    largest = probabilities.amax(dim=1, keepdim=True)
    is_largest = (probabilities == largest).view(torch.uint8)
    # The first class has the largest value.
    from_the_end = torch.arange(C, 0, -1, device=probabilities.device)
    weights = from_the_end.to(id_type(C)).view(-1, *[1] * (probabilities.dim() - 2))
    ids = (C - (is_largest * weights).amax(dim=1)).clamp_(max=C - 1)  # any valid id for NaN
    return ids, largest.squeeze(1)


def id_type(num_classes: int) -> torch.dtype:
    """The smallest type that holds every class id, and the number of classes."""
    return torch.uint8 if num_classes <= 255 else torch.int16


@dataclass
class Tally:
    """Counts of one predictor over a split: `Counts` summed, void pixels, log-loss, and mean IoU by image."""

    confusion: Tensor  # (C, C) int64
    num_void: Tensor  # () int64
    log_loss: Tensor  # () float64, summed over labelled pixels
    image_iou: Tensor  # (2,) float64: sum of the images' mIoU, and of how many
    boundary: Tensor  # (C+1, C+1) int64; zeros, like the next two, where it was not asked for
    edges: Tensor  # (2, 2) int64
    reliability: Tensor  # (3, 15) float64

    @classmethod
    def empty(cls, num_classes: int, device: torch.device) -> "Tally":
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.int64, device=device)

        C = num_classes
        return cls(
            confusion=zeros(C, C),
            num_void=zeros(),
            log_loss=exact_zeros((), device),
            image_iou=exact_zeros((2,), device),
            boundary=zeros(C + 1, C + 1),
            edges=zeros(2, 2),
            reliability=exact_zeros((3, NUM_BINS), device),
        )

    def add(self, counts: Counts, log_loss: Tensor, num_void: Tensor) -> None:
        """Add a batch."""
        for name, rows in counts.items():
            total = getattr(self, name)
            total += rows.sum(dim=0)
        self.log_loss += log_loss
        self.num_void += num_void
        iou = counts.image_iou()
        self.image_iou += torch.stack([iou.nansum(), (~iou.isnan()).sum()])

    def tensors(self) -> list[Tensor]:
        """The tensors that several processes sum to get one tally."""
        return [getattr(self, field.name) for field in fields(self)]

    def scores(self, class_names: tuple[str, ...]) -> Scores:
        """The scores of all counts so far."""
        matrix: NDArray[np.int64] = self.confusion.cpu().numpy()
        return Scores.of(matrix, class_names, int(self.num_void))

    def mean_log_loss(self) -> float:
        """Cross-entropy of the probabilities in nats per labelled pixel; 0 where there is none."""
        return float(self.log_loss / self.confusion.sum().clamp(min=1))


def exact_zeros(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """float64, except on Apple's devices, which do not have it."""
    return torch.zeros(shape, dtype=torch.float64 if device.type != "mps" else torch.float32, device=device)
