"""Tversky loss (Salehi et al. 2017, arXiv 1706.05721), also focal (Abraham and Khan 2018, arXiv 1810.07842).

alpha weights false positives and beta false negatives, as in the first paper; the second paper swaps them.
gamma is that of the second paper, where the power is 1 / gamma; some libraries call the power itself gamma.
"""

import torch
from torch import Tensor, nn

from losses.overlap import mean_over_present, overlap_costs, overlap_sums
from losses.pixel_sums import PixelSums
from losses.statistics import Reduce, identity
from losses.terms import TverskyOptions


def tversky(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 1.0,
    reduce: Reduce = identity,
) -> Tensor:
    """(1 - I / (I + alpha (P - I) + beta (Y - I)))^(1 / gamma), averaged over the classes with a label.

    Void pixels are ignored. For each class, I is the sum of its probability where it is the label, P the sum
    of its probability, and Y the number of its labels. P - I are the false positives, Y - I the
    false negatives. 0 if all pixels are void.

    Args:
        logits: (B, C, H, W), float32 or float64.
        labels: (B, H, W), int64. An id outside 0..C-1 that is not `ignore_index` raises RuntimeError on the
            CPU and trips a device assertion on CUDA.
        alpha: 0 or above.
        beta: above 0.
        gamma: above 0; 1 is the plain form; above 1, classes that are nearly perfect get more weight.
        reduce: sums over all processes.
    """
    return _of_overlap(reduce(overlap_sums(logits, labels, ignore_index)), alpha, beta, gamma)


def _of_overlap(sums: Tensor, alpha: float, beta: float, gamma: float) -> Tensor:
    costs, present = overlap_costs(sums, alpha, beta)
    if gamma != 1:
        least = torch.finfo(
            costs.dtype
        ).eps  # smaller costs are rounding errors, and at 0 the slope is infinite
        costs = torch.where(costs > least, costs.clamp(min=least) ** (1 / gamma), 0.0)
    return mean_over_present(costs, present)


class Tversky(nn.Module):
    """`tversky` as a module; `losses.terms.TverskyOptions` explains its options."""

    takes_sums = True

    def __init__(
        self,
        ignore_index: int = 255,
        alpha: float = TverskyOptions.alpha,
        beta: float = TverskyOptions.beta,
        gamma: float = TverskyOptions.gamma,
    ):
        super().__init__()
        self.ignore_index = ignore_index
        self.alpha = alpha
        self.beta = beta
        self.gamma = gamma

    def of_sums(self, sums: PixelSums, reduce: Reduce = identity) -> Tensor:
        """The same loss from sums over the batch; scalar."""
        return _of_overlap(reduce(sums.overlap()), self.alpha, self.beta, self.gamma)

    def forward(self, logits: Tensor, labels: Tensor, reduce: Reduce = identity) -> Tensor:
        """(B, C, H, W) and (B, H, W) -> scalar"""
        return tversky(logits, labels, self.ignore_index, self.alpha, self.beta, self.gamma, reduce)
