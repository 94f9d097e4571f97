"""The loss of Matthews' correlation coefficient (Abhishek and Hamarneh 2021, arXiv 2010.13454).

The paper defines it for two classes. With more, each class is compared with the rest. The mean is over the
classes that some labelled pixels have, and some have not.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from losses.overlap import ClassMean, mean_over_present, overlap_sums
from losses.pixel_sums import PixelSums
from losses.statistics import Reduce, identity
from losses.terms import MCCOptions


def mcc(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int,
    reduce: Reduce = identity,
    class_weights: Tensor | None = None,
) -> Tensor:
    """1 - (TP TN - FP FN) / sqrt((TP + FP) (TP + FN) (TN + FP) (TN + FN)), averaged over the classes.

    The counts are sums of probabilities over the batch. 0 is a perfect prediction, 1 one that does not depend
    on the label, 2 one that is always wrong.

    Args:
        logits: (B, C, H, W), float32 or float64.
        labels: (B, H, W), int64. An id outside 0..C-1 that is not `ignore_index` raises RuntimeError on the
            CPU and trips a device assertion on CUDA.
        reduce: sums over all processes.
        class_weights: (C,), not negative, of the mean over the classes.
    """
    return _of_sums(reduce(overlap_sums(logits, labels, ignore_index)), class_weights)


def _of_sums(sums: Tensor, class_weights: Tensor | None) -> Tensor:
    """From the (3, C) sums of `overlap_sums`.

    Divided by the number of labelled pixels they are i, p and y. The numerator is then i - p y, and the
    denominator sqrt(p (1 - p) y (1 - y)).
    """
    num_pixels = sums[2].sum()
    i, p, y = (sums / num_pixels.clamp(min=1)).unbind()
    has_both = (y > 0) & (y < 1)
    least = torch.finfo(sums.dtype).tiny  # for p = 0 and p = 1, where the denominator would be 0
    spread = torch.where(has_both, (p * (1 - p)).clamp(min=least) * y * (1 - y), 1.0)
    return mean_over_present(1 - (i - p * y) / spread.sqrt(), has_both, class_weights)


class MCC(ClassMean):
    """`mcc` as a module; `losses.terms.MCCOptions` explains its options."""

    takes_sums = True

    def __init__(
        self,
        ignore_index: int = 255,
        class_weights: Sequence[float] | str | None = MCCOptions.class_weights,
    ):
        super().__init__(ignore_index, class_weights)

    def of_sums(self, sums: PixelSums, reduce: Reduce = identity) -> Tensor:
        """The same loss, computed from sums over the batch; scalar."""
        return _of_sums(reduce(sums.overlap()), self.class_weights)

    def forward(self, logits: Tensor, labels: Tensor, reduce: Reduce = identity) -> Tensor:
        """(B, C, H, W) and (B, H, W) -> scalar"""
        return mcc(logits, labels, self.ignore_index, reduce, self.class_weights)
