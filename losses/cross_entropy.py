"""Cross-entropy per pixel: class weights, label smoothing (Szegedy et al. 2015, arXiv 1512.00567), OHEM."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from losses.hard_pixels import hard_pixels
from losses.pixel_sums import PixelSums
from losses.statistics import Reduce, class_weight_tensor, identity, pixel_weights, ratio_of_sums
from losses.terms import CrossEntropyOptions, Ohem


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    reduce: Reduce = identity,
    *,
    ohem: Ohem | None = None,
) -> Tensor:
    """The mean over the pixels that are not void, weighted by class; 0 if all are void.

    Args:
        logits: (B, C, H, W), float32 or float64.
        labels: (B, H, W), int64. An id outside 0..C-1 that is not `ignore_index` raises IndexError on the CPU
            and trips a device assertion on CUDA.
        class_weights: (C,), not negative.
        label_smoothing: the share of the target, 0..1, that is spread evenly over all classes.
        reduce: sums over all processes. Exact except with `ohem`: each process chooses hard pixels among its
            own, and the mean is over all pixels chosen.
        ohem: which pixels the mean is over; None takes all. They are chosen by the probability of their label
            alone, without weights and smoothing.
    """
    weights = None if class_weights is None else class_weights.to(logits)
    costs = F.cross_entropy(
        logits, labels, weights, ignore_index=ignore_index, label_smoothing=label_smoothing, reduction="none"
    )  # (B, H, W), 0 where void; summed here, since F.cross_entropy sums with atomics, in no fixed order
    weight = pixel_weights(labels, ignore_index, weights, costs.dtype)  # (B, H, W)
    if ohem is not None:
        label_costs = F.cross_entropy(logits.detach(), labels, ignore_index=ignore_index, reduction="none")
        hard = hard_pixels(label_costs, labels != ignore_index, ohem)
        costs, weight = torch.where(hard, costs, 0.0), torch.where(hard, weight, 0.0)
    return ratio_of_sums(costs.sum(), weight.sum(), reduce)


class PixelMean(nn.Module):
    """A loss that is a mean over pixels, weighted by class; with `ohem` over the hard pixels only."""

    class_weights: Tensor | None

    def __init__(self, ignore_index: int, class_weights: Sequence[float] | str | None, ohem: Ohem | None):
        super().__init__()
        self.ignore_index = ignore_index
        self.ohem = ohem
        weights = class_weight_tensor(class_weights)
        self.register_buffer("class_weights", weights, persistent=False)  # the recipe holds them

    def denominator(self, labels: Tensor) -> Tensor:
        """The denominator of the mean without OHEM; that with OHEM depends on the logits, too."""
        return pixel_weights(labels, self.ignore_index, self.class_weights, torch.float64).sum()


class CrossEntropy(PixelMean):
    """`cross_entropy` as a module; `losses.terms.CrossEntropyOptions` explains its options."""

    def __init__(
        self,
        ignore_index: int = 255,
        class_weights: Sequence[float] | str | None = CrossEntropyOptions.class_weights,
        label_smoothing: float = CrossEntropyOptions.label_smoothing,
        ohem: Ohem | None = CrossEntropyOptions.ohem,
    ):
        super().__init__(ignore_index, class_weights, ohem)
        self.label_smoothing = label_smoothing

    @property
    def takes_sums(self) -> bool:
        """Whether sums over pixels are enough: not for OHEM, which chooses single pixels."""
        return self.ohem is None

    @property
    def sum_options(self) -> dict[str, Any]:
        """The arguments of `pixel_sums` that this term needs."""
        return {"class_weights": self.class_weights, "label_smoothing": self.label_smoothing}

    def of_sums(
        self, sums: PixelSums, reduce: Reduce = identity, denominator: Tensor | None = None
    ) -> Tensor:
        """The same loss, computed from sums that were taken with `sum_options`; scalar.

        For a part of a batch, `denominator` replaces the sum of the weights of the part's pixels.
        """
        return ratio_of_sums(sums.cost, sums.weight, reduce, denominator)

    def forward(self, logits: Tensor, labels: Tensor, reduce: Reduce = identity) -> Tensor:
        """(B, C, H, W) and (B, H, W) -> scalar"""
        return cross_entropy(
            logits,
            labels,
            self.ignore_index,
            self.class_weights,
            self.label_smoothing,
            reduce,
            ohem=self.ohem,
        )
