"""Cross-entropy near boundaries, weighted by distance (U-Net: Ronneberger et al. 2015, arXiv 1505.04597).

U-Net's weight map is a class weight plus w0 exp(-d^2 / (2 sigma^2)). Here the second part is a term by
itself; its weight in the recipe is w0. U-Net's d adds the distances to the two nearest cells; here it is the
distance to the nearest pixel of another class, so it works for any number of classes.

Void pixels and the outside of the image are not a class: a region that ends there has no boundary there. But
a class on the other side of a thin band of void pixels, such as VOC's around objects, counts if it is near.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from losses.hard_pixels import hard_pixels
from losses.statistics import Reduce, identity, ratio_of_sums
from losses.terms import BoundaryOptions, Ohem


def boundary(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int,
    sigma_px: float = 5.0,
    reduce: Reduce = identity,
    *,
    ohem: Ohem | None = None,
) -> Tensor:
    """The mean of -log p(label), weighted by `boundary_weights`; 0 if no two classes are near each other.

    Args:
        logits: (B, C, H, W), float32 or float64.
        labels: (B, H, W), int64. An id outside 0..C-1 that is not `ignore_index` raises IndexError on the CPU
            and trips a device assertion on CUDA.
        sigma_px: how far from a boundary pixels count, in pixels of the labels, 1 or above.
        reduce: sums over all processes. Exact except with `ohem`, as in `cross_entropy`.
        ohem: which of the pixels near a boundary the mean is over; None takes all.
    """
    costs = F.cross_entropy(logits, labels, ignore_index=ignore_index, reduction="none")  # (B, H, W)
    weights = boundary_weights(labels, ignore_index, sigma_px, costs.dtype)
    if ohem is not None:
        weights = weights * hard_pixels(costs.detach(), weights > 0, ohem)
    return ratio_of_sums((weights * costs).sum(), weights.sum(), reduce)


@torch.no_grad()
def boundary_weights(labels: Tensor, ignore_index: int, sigma_px: float, dtype: torch.dtype) -> Tensor:
    """(B, H, W): exp(-d^2 / (2 sigma_px^2)), where d is the distance to the nearest pixel of another class.

    d is the Chebyshev distance (steps to any of the 8 neighbours); the weight is 0 beyond 3 sigma_px and at
    void pixels.

    Args:
        labels: (B, H, W), int64.
    """
    valid = labels != ignore_index
    ids = torch.stack([labels, -labels], 1).float()  # (B, 2, H, W)
    highest = ids.masked_fill(~valid.unsqueeze(1), -math.inf)
    weights = torch.zeros(labels.shape, dtype=dtype, device=labels.device)
    for distance_px in range(1, int(3 * sigma_px) + 1):
        highest = F.max_pool2d(highest, 3, stride=1, padding=1)  # the square of side 2 distance_px + 1
        other_class = (highest > ids).any(1) & valid  # the square has a higher id, or a lower one
        weights = weights.maximum(other_class.to(dtype) * math.exp(-((distance_px / sigma_px) ** 2) / 2))
    return weights


class Boundary(nn.Module):
    """`boundary` as a module; `losses.terms.BoundaryOptions` explains its options."""

    def __init__(
        self,
        ignore_index: int = 255,
        sigma_px: float = BoundaryOptions.sigma_px,
        ohem: Ohem | None = BoundaryOptions.ohem,
    ):
        super().__init__()
        self.ohem = ohem
        self.ignore_index = ignore_index
        self.sigma_px = sigma_px

    def denominator(self, labels: Tensor) -> Tensor:
        """The denominator of the mean without OHEM; that with OHEM depends on the logits, too."""
        return boundary_weights(labels, self.ignore_index, self.sigma_px, torch.float64).sum()

    def forward(self, logits: Tensor, labels: Tensor, reduce: Reduce = identity) -> Tensor:
        """(B, C, H, W) and (B, H, W) -> scalar"""
        return boundary(logits, labels, self.ignore_index, self.sigma_px, reduce, ohem=self.ohem)
