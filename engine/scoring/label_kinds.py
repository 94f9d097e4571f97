"""The two kinds of labels: a pixel has one class, or any number of them (data.labels).

A kind says how logits become probabilities, what is predicted from these, and how that is counted. Everything
that scores or predicts asks the kind of its predictor.

Shapes: B images, C classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from engine.scoring.counting import Maps, Tally
from engine.scoring.multi_label import (
    UNDECIDED,
    MultiLabelMaps,
    MultiLabelTally,
    Thresholds,
    columns,
)

Shape = tuple[int, int, int, int]


class SingleLabel:
    """A pixel has one class: a softmax, whose largest is predicted; a prediction is (B, ...) class ids."""

    is_multi = False

    def probabilities(self, logits: Tensor) -> Tensor:
        """(B, C, ...) -> (B, C, ...)"""
        return logits.softmax(dim=1)

    def decide(self, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """What is predicted from (B, C, ...), and the probability of that, (B, ...)."""
        confidence, prediction = probabilities.max(dim=1)
        return prediction, confidence

    def maps(self, name: str, shape: Shape, device: torch.device, detailed: bool) -> Any:
        """Takes the strips of a batch and counts them; `name` is that of a predictor."""
        return Maps(shape, device, detailed)

    def tally(self, name: str, num_classes: int, device: torch.device) -> Any:
        """Adds up the counts of batches."""
        return Tally.empty(num_classes, device)


SINGLE = SingleLabel()


@dataclass(frozen=True)
class MultiLabel:
    """A pixel has any number of classes: a sigmoid for each; a prediction is (B, C, ...) of 0 and 1.

    thresholds: by class, of all predictors; by_name: those of some. Where there are none, counting finds the
    best ones, and 0.5 decides.
    """

    thresholds: Thresholds | None = None
    by_name: Mapping[str, Thresholds | None] = field(default_factory=dict)

    is_multi = True

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()

    def decide(self, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """The probability is that of the least certain class."""
        prediction = (self.margins(probabilities) >= 0).to(torch.uint8)
        of_prediction = torch.where(prediction.bool(), probabilities, 1 - probabilities)
        return prediction, of_prediction.amin(dim=1)

    def margins(self, probabilities: Tensor) -> Tensor:
        """How far (B, C, h, w) are above the thresholds; below 0 where a class is not predicted."""
        thresholds = self.thresholds or (UNDECIDED,) * probabilities.shape[1]
        return probabilities - columns(thresholds, probabilities.device)

    def maps(self, name: str, shape: Shape, device: torch.device, detailed: bool) -> Any:
        return MultiLabelMaps(shape, device, self.by_name.get(name, self.thresholds))

    def tally(self, name: str, num_classes: int, device: torch.device) -> Any:
        return MultiLabelTally.empty(num_classes, device, self.by_name.get(name, self.thresholds))


LabelKind = SingleLabel | MultiLabel


def label_kind(
    section: Any,
    thresholds: Thresholds | None = None,
    by_name: Mapping[str, Thresholds | None] | None = None,
) -> LabelKind:
    """Of a recipe's `data` section; thresholds are those of `MultiLabel`."""
    return MultiLabel(thresholds, by_name or {}) if section.labels == "multi" else SINGLE
