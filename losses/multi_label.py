"""Losses of pixels that may have several classes: each class against the rest, by a sigmoid.

sigmoid(x) is the softmax over (0, x). So logits (B, C, h, w) are C tasks of two classes each, "not the class"
and "the class", to which the losses for one class per pixel are applied: cross-entropy becomes binary
cross-entropy.

Shapes: B samples, C classes, h x w pixels of the logits, H x W of the labels.
"""

from typing import Any

import torch
from torch import Tensor, nn

from losses.pixel_sums import PixelSums, pixel_sums
from losses.statistics import Reduce, identity
from losses.terms import LossError


def as_two_classes(logits: Tensor) -> Tensor:
    """(..., h, w) logits -> (N, 2, h, w) of "not the class" and "the class", N the product of "..."."""
    of_class = logits.reshape(-1, 1, *logits.shape[-2:])
    return torch.cat([torch.zeros_like(of_class), of_class], dim=1)


def multi_label_sums(logits: Tensor, labels: Tensor, ignore_index: int, **options: Any) -> PixelSums:
    """`pixel_sums` of masks; cost and weight are summed over the classes, too.

    Args:
        logits: (B, C, h, w); bf16 and fp16 are read as float32, as in `pixel_sums`.
        labels: (B, C, H, W), integers: 1 where the class is, 0 where not, `ignore_index` where unknown.
        options: of `pixel_sums`.
    """
    classes = zip(logits.unbind(1), _as_ids(labels).unbind(1), strict=True)
    each = [pixel_sums(as_two_classes(x), y, ignore_index, **options) for x, y in classes]
    cost, weight, *of_two = (torch.stack(sums) for sums in zip(*each, strict=True))  # (C,), then (C, 2)
    return PixelSums(cost.sum(), weight.sum(), *(sums[:, 1] for sums in of_two))


class PerClass(nn.Module):
    """Applies a term for one class per pixel to each class against the rest, all classes as one batch."""

    def __init__(self, term: nn.Module):
        super().__init__()
        self.term = term

    def denominator(self, labels: Tensor) -> Tensor:
        """The denominator of the mean."""
        found: Tensor = self.term.denominator(labels.flatten(0, 1))  # type: ignore[operator]
        return found

    def forward(self, logits: Tensor, labels: Tensor, reduce: Reduce = identity) -> Tensor:
        """(B, C, H, W) twice -> scalar"""
        found: Tensor = self.term(as_two_classes(logits), _as_ids(labels).flatten(0, 1), reduce)
        return found


def _as_ids(masks: Tensor) -> Tensor:
    """int64, by which torch can index; raises LossError for shares, which no id can be."""
    if masks.is_floating_point():
        raise LossError(
            f"Masks have to be integers, 1 where the class is and 0 where not; got {masks.dtype}. Pass "
            "(masks > 0.5).long(), or a loss of your own by its import path, which gets them as they are."
        )
    return masks.long()
