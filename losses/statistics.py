"""What the losses share: sums over all processes, and means that stay finite without valid pixels.

A loss is a ratio of sums over the batch. With the batch spread over processes, each sum has to be taken over
all of them before the ratio, or the gradients are not those of one process with the same batch. So a loss
hands its sums to a `reduce` and divides afterwards.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from losses.terms import LossError

Reduce = Callable[[Tensor], Tensor]  # sums over this process's part -> sums over the whole batch


def identity(sums: Tensor) -> Tensor:
    """The `reduce` of a single process, which holds the whole batch."""
    return sums


def full_precision(x: Tensor) -> Tensor:
    """float32, or float64 if it is float64 already: half precision cannot sum a million pixels."""
    return x if x.dtype == torch.float64 else x.float()


def ratio_of_sums(total: Tensor, weight: Tensor, reduce: Reduce, denominator: Tensor | None = None) -> Tensor:
    """Scalar `total` over scalar `weight`, both summed by `reduce` first; 0 where the weight is 0.

    Args:
        denominator: what to divide by instead of the sum of `weight`, in a part of a batch.
    """
    total, weight = reduce(torch.stack([total, weight])).unbind()
    if denominator is not None:
        weight = denominator.to(weight)
    return torch.where(weight > 0, total, 0.0) / torch.where(weight > 0, weight, 1.0)


def pixel_weights(
    labels: Tensor, ignore_index: int, class_weights: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """The weight of each pixel: 1, or that of its class; 0 at void pixels.

    Args:
        labels: (B, H, W), int64.
        class_weights: (C,), or None.

    Returns:
        (B, H, W) of `dtype`.
    """
    valid = labels != ignore_index
    if class_weights is None:
        return valid.to(dtype)
    return class_weights.to(labels.device, dtype)[labels.masked_fill(~valid, 0)] * valid


def num_labelled(labels: Tensor, ignore_index: int, per_image: bool = False) -> Tensor:
    """How many pixels of (B, H, W) labels are not void, or how many images have such pixels; scalar."""
    valid = (labels != ignore_index).flatten(1)  # (B, H W)
    return (valid.any(1) if per_image else valid).sum()


def num_counted(labels: Tensor, ignore_index: int, class_weights: Tensor | None, per_image: bool) -> Tensor:
    """`num_labelled` without the pixels whose class has the weight 0."""
    if class_weights is not None:
        counted = pixel_weights(labels, ignore_index, class_weights, torch.float32) > 0
        labels = labels.masked_fill(~counted, ignore_index)
    return num_labelled(labels, ignore_index, per_image)


def class_weight_tensor(class_weights: Sequence[float] | str | None) -> Tensor | None:
    """(C,) float32; None for None and "none".

    Raises:
        LossError: the name of a scheme, since a loss cannot count labels; a negative number, or only zeros.
    """
    if class_weights is None or class_weights == "none":
        return None
    if isinstance(class_weights, str):
        raise LossError(
            f"class_weights: expected none or a list with one number per class, got {class_weights!r}. Only "
            "a run can turn the name of a scheme into numbers, by counting its labels."
        )
    weights = torch.tensor(class_weights, dtype=torch.float32)
    if not (weights >= 0).all() or not weights.any():
        raise LossError(f"class_weights: expected numbers, 0 or above, not all 0, got {class_weights!r}.")
    return weights
