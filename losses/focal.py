"""Focal loss (Lin et al. 2017, arXiv 1708.02002), with a softmax instead of the paper's sigmoid per class."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from losses.cross_entropy import PixelMean
from losses.hard_pixels import hard_pixels
from losses.statistics import Reduce, identity, pixel_weights, ratio_of_sums
from losses.terms import FocalOptions, Ohem


def focal(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int,
    gamma: float = 2.0,
    class_weights: Tensor | None = None,
    reduce: Reduce = identity,
    *,
    ohem: Ohem | None = None,
) -> Tensor:
    """The mean of -(1 - p)^gamma log p, where p is the probability of the label; void pixels are ignored.

    The mean is weighted by class as in `cross_entropy`; with gamma 0 this is `cross_entropy`. 0 if all pixels
    are void.

    Args:
        logits: (B, C, H, W), float32 or float64.
        labels: (B, H, W), int64. An id outside 0..C-1 that is not `ignore_index` raises IndexError on the CPU
            and trips a device assertion on CUDA.
        gamma: 0 or above; the higher, the less weight easy pixels have.
        class_weights: (C,), not negative; the paper's alpha.
        reduce: sums over all processes. Exact except with `ohem`, as in `cross_entropy`.
        ohem: which pixels the mean is over, chosen by the probability of their label; None takes all.
    """
    ce = F.cross_entropy(logits, labels, ignore_index=ignore_index, reduction="none")  # (B, H, W)
    tiny = torch.finfo(ce.dtype).tiny  # at p = 1 the slope of a power below 1 is infinite
    not_p = -torch.expm1(-ce).clamp(max=-tiny)  # 1 - p, without the cancellation of 1 - exp()
    weight = pixel_weights(labels, ignore_index, class_weights, ce.dtype)
    if ohem is not None:
        weight = weight * hard_pixels(ce.detach(), labels != ignore_index, ohem)
    return ratio_of_sums((weight * not_p**gamma * ce).sum(), weight.sum(), reduce)


class Focal(PixelMean):
    """`focal` as a module; `losses.terms.FocalOptions` explains its options."""

    def __init__(
        self,
        ignore_index: int = 255,
        gamma: float = FocalOptions.gamma,
        class_weights: Sequence[float] | str | None = FocalOptions.class_weights,
        ohem: Ohem | None = FocalOptions.ohem,
    ):
        super().__init__(ignore_index, class_weights, ohem)
        self.gamma = gamma

    def forward(self, logits: Tensor, labels: Tensor, reduce: Reduce = identity) -> Tensor:
        """(B, C, H, W) and (B, H, W) -> scalar"""
        return focal(
            logits, labels, self.ignore_index, self.gamma, self.class_weights, reduce, ohem=self.ohem
        )
