"""Lovasz-softmax (Berman et al. 2018, arXiv 1705.08790): the convex extension of 1 - IoU of each class."""

from collections.abc import Sequence

import torch
from torch import Tensor

from losses.overlap import ClassMean, class_maps, mean_over_groups
from losses.statistics import Reduce, identity
from losses.terms import LovaszOptions


def lovasz(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int,
    reduce: Reduce = identity,
    *,
    per_image: bool = False,
    class_weights: Tensor | None = None,
) -> Tensor:
    """The Lovasz extension of 1 - IoU, averaged over the classes with a label; 0 if all pixels are void.

    A pixel's error for a class is 1 - p where that is its label, and p elsewhere. With the pixels sorted by
    decreasing error, the loss of the class is the sum of each error times the increase of 1 - IoU when that
    pixel is misclassified in addition to those before it.

    Args:
        logits: (B, C, H, W), float32 or float64.
        labels: (B, H, W), int64. An id outside 0..C-1 that is not `ignore_index` raises RuntimeError on the
            CPU and trips a device assertion on CUDA.
        reduce: sums over all processes. Exact with `per_image`; else each process sorts the pixels of its own
            images only, and the result is the mean over the processes that have a label.
        per_image: sorting and IoU are per image, and the result is the mean over the images with a label.
        class_weights: (C,), not negative, of the mean over the classes.
    """
    num_groups = len(labels) if per_image else 1
    valid = (labels != ignore_index).reshape(num_groups, -1)  # (G, P)
    costs, present = [], []
    for p, own in zip(*(maps.unbind(1) for maps in class_maps(logits, labels, ignore_index)), strict=True):
        p, own = p.reshape(num_groups, -1), own.reshape(num_groups, -1)  # (G, P)
        errors = torch.where(own, 1 - p, p)  # 0 where void
        costs.append((errors * _lovasz_gradient(errors, own, valid)).sum(1))
        present.append(own.any(1))
    return mean_over_groups(torch.stack(costs, 1), torch.stack(present, 1), reduce, class_weights)


@torch.no_grad()
def _lovasz_gradient(errors: Tensor, own: Tensor, valid: Tensor) -> Tensor:
    """(G, P): the increase of 1 - IoU when a pixel is misclassified in addition to all with larger errors.

    In closed form, since subtracting two values of 1 - IoU over a million pixels loses all digits of float32.
    """
    order = errors.masked_fill(~valid, -1.0).argsort(1, descending=True)  # void pixels last
    own = own.gather(1, order)
    num_missed = own.cumsum(1)  # int64, so counts are exact, and CUDA has a fixed order
    num_own = num_missed[:, -1:]
    num_wrong = torch.arange(1, own.shape[1] + 1, device=own.device)
    union = (num_own + num_wrong - num_missed).to(errors.dtype)
    increase = torch.where(own, 1 / union, (num_own - num_missed) / (union * (union - 1)).clamp(min=1))
    return torch.zeros_like(errors).scatter_(1, order, increase)


class Lovasz(ClassMean):
    """`lovasz` as a module; `losses.terms.LovaszOptions` explains its options."""

    def __init__(
        self,
        ignore_index: int = 255,
        per_image: bool = LovaszOptions.per_image,
        class_weights: Sequence[float] | str | None = LovaszOptions.class_weights,
    ):
        super().__init__(ignore_index, class_weights, per_image)

    def forward(self, logits: Tensor, labels: Tensor, reduce: Reduce = identity) -> Tensor:
        """(B, C, H, W) and (B, H, W) -> scalar"""
        return lovasz(
            logits,
            labels,
            self.ignore_index,
            reduce,
            per_image=self.per_image,
            class_weights=self.class_weights,
        )
