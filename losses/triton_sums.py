"""`losses.pixel_sums` on a CUDA device, in Triton: logits at full size exist in registers only.

Forward, each program adds up a block of pixels and writes its sums to its own slot. Backward, each program
sums the gradients of one row's pixels into a block of source columns, and a second kernel sums the rows. No
atomics are used, so the same input gives the same bits. An id outside the classes makes the cost NaN.

With TRITON_INTERPRET=1 in the environment the kernels run on the CPU, which is how they are tested without a
GPU.

Shapes as in losses/pixel_sums.py; a block is (pixels, classes), both powers of two.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from losses.interpolation import Taps

BLOCK_ELEMENTS = 4096  # pixels x classes of a program: 32 registers per thread for each value, with 4 warps


class TritonSums(torch.autograd.Function):
    """(cost, intersection, predicted, labelled) of PixelSums; arguments as of `pixel_sums`."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        labels: Tensor,
        sharp: Tensor,
        smooth: Tensor,
        ignore_index: int,
        down: Taps,
        across: Taps,
    ) -> tuple[Tensor, ...]:
        logits, labels = logits.contiguous(), labels.contiguous()
        (B, C, h, w), (H, W) = logits.shape, labels.shape[1:]
        classes = triton.next_power_of_2(C)
        block = min(max(16, BLOCK_ELEMENTS // classes), triton.next_power_of_2(W))
        grid = (triton.cdiv(W, block), H, B)
        partial = logits.new_empty(grid[0] * grid[1] * grid[2], 4, classes)
        ctx.save_for_backward(logits, labels, sharp, smooth)
        ctx.settings = ignore_index, down, across, classes
        _forward_kernel[grid](
            logits, labels, sharp, smooth, *down.sources, *across.sources, partial,
            C, h, w, H, W, ignore_index, block, classes,
        )  # fmt: skip
        sums = partial.sum(0, dtype=torch.float64).to(logits.dtype)  # (4, classes)
        intersection, predicted, labelled = sums[1:, :C]
        ctx.mark_non_differentiable(labelled)
        return sums[0].sum(), intersection, predicted, labelled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        logits, labels, sharp, smooth = ctx.saved_tensors
        ignore_index, down, across, classes = ctx.settings
        (B, C, h, w), (H, W) = logits.shape, labels.shape[1:]
        cost, intersection, predicted = (g.contiguous() for g in gradients[:3])
        block = min(max(16, BLOCK_ELEMENTS // classes), triton.next_power_of_2(w))
        rows = logits.new_empty(B, C, H, w)
        _rows_kernel[triton.cdiv(w, block), H, B](
            logits, labels, sharp, smooth, *down.sources, *across.sources, across.first,
            cost, intersection, predicted, rows,
            C, h, w, H, W, ignore_index, across.most, block, classes,
        )  # fmt: skip
        found = torch.empty_like(logits)
        _columns_kernel[triton.cdiv(w, 128), h, B * C](
            rows, *down.sources, down.first, found, h, w, H, down.most, 128
        )
        return found, *[None] * 6


@triton.jit
def _block_of_logits(
    sample, row, x, inside, before_y, after_y, share_y, before_x, after_x, share_x, C, h, w,
    CLASSES: tl.constexpr,
):  # fmt: skip
    """(pixels, classes) upsampled logits of one row at columns `x`; -inf after the last class."""
    c = tl.arange(0, CLASSES)
    top, bottom, down = tl.load(before_y + row), tl.load(after_y + row), tl.load(share_y + row)
    left, right = tl.load(before_x + x, inside, 0), tl.load(after_x + x, inside, 0)
    across = tl.load(share_x + x, inside, 0.0)[:, None]
    planes = sample + (c * h * w)[None, :]
    read = inside[:, None] & (c < C)[None, :]
    upper = tl.load(planes + (top * w + left)[:, None], read, 0.0) * (1 - across)
    upper += tl.load(planes + (top * w + right)[:, None], read, 0.0) * across
    lower = tl.load(planes + (bottom * w + left)[:, None], read, 0.0) * (1 - across)
    lower += tl.load(planes + (bottom * w + right)[:, None], read, 0.0) * across
    return tl.where((c < C)[None, :], upper * (1 - down) + lower * down, float("-inf"))


@triton.jit
def _forward_kernel(
    logits, labels, sharp, smooth, before_y, after_y, share_y, before_x, after_x, share_x, partial,
    C, h, w, H, W, ignore_index, BLOCK: tl.constexpr, CLASSES: tl.constexpr,
):  # fmt: skip
    """Sums of one block of one row: cost, intersection, predicted and labelled, by class."""
    row, sample = tl.program_id(1), tl.program_id(2).to(tl.int64)
    x = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = x < W
    z = _block_of_logits(
        logits + sample * C * h * w, row, x, inside, before_y, after_y, share_y, before_x, after_x, share_x,
        C, h, w, CLASSES,
    )  # fmt: skip
    c = tl.arange(0, CLASSES)
    real = (c < C)[None, :]
    z -= tl.max(z, 1)[:, None]
    total = tl.sum(tl.exp(z), 1)[:, None]
    log_p = tl.where(real, z - tl.log(total), 0.0)
    p = tl.exp(z) / total
    label = tl.load(labels + (sample * H + row) * W + x, inside, ignore_index)
    valid = inside & (label != ignore_index)
    own = (c[None, :] == label[:, None]) & valid[:, None]
    sharp_k, smooth_k = tl.load(sharp + c, c < C, 0.0), tl.load(smooth + c, c < C, 0.0)
    cost = -log_p * tl.where(own, sharp_k[None, :], 0.0)
    cost -= log_p * tl.where(valid[:, None], smooth_k[None, :], 0.0)
    wrong = valid & ((label < 0) | (label >= C))
    cost = tl.where(wrong[:, None], float("nan"), cost)
    program = (sample * H + row) * tl.num_programs(0) + tl.program_id(0)
    place = partial + program * 4 * CLASSES + c
    tl.store(place, tl.sum(cost, 0))
    tl.store(place + CLASSES, tl.sum(tl.where(own, p, 0.0), 0))
    tl.store(place + 2 * CLASSES, tl.sum(tl.where(valid[:, None], p, 0.0), 0))
    tl.store(place + 3 * CLASSES, tl.sum(tl.where(own, 1.0, 0.0), 0))


@triton.jit
def _rows_kernel(
    logits, labels, sharp, smooth, before_y, after_y, share_y, before_x, after_x, share_x, first_x,
    cost, intersection, predicted, rows,
    C, h, w, H, W, ignore_index, most, BLOCK: tl.constexpr, CLASSES: tl.constexpr,
):  # fmt: skip
    """The gradient of one row's pixels at a block of source columns, by the formulas in pixel_sums.py."""
    row, sample = tl.program_id(1), tl.program_id(2).to(tl.int64)
    source = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    c = tl.arange(0, CLASSES)
    sharp_k = tl.load(sharp + c, c < C, 0.0)[None, :]
    smooth_k = tl.load(smooth + c, c < C, 0.0)[None, :]
    a = tl.load(predicted + c, c < C, 0.0)[None, :]
    b = tl.load(intersection + c, c < C, 0.0)[None, :]
    cost_gradient = tl.load(cost)
    first = tl.load(first_x + source, source < w, W)
    total = tl.zeros((BLOCK, CLASSES), logits.dtype.element_ty)
    for tap in range(most):
        x = first + tap
        inside = x < W
        z = _block_of_logits(
            logits + sample * C * h * w, row, x, inside,
            before_y, after_y, share_y, before_x, after_x, share_x, C, h, w, CLASSES,
        )  # fmt: skip
        z -= tl.max(z, 1)[:, None]
        p = tl.exp(z)
        p /= tl.sum(p, 1)[:, None]
        label = tl.load(labels + (sample * H + row) * W + x, inside, ignore_index)
        valid = (inside & (label != ignore_index))[:, None]
        own = (c[None, :] == label[:, None]) & valid
        sharp_y = tl.sum(tl.where(own, sharp_k, 0.0), 1)[:, None]
        at_p = a + tl.where(own, b, 0.0)  # the gradient of the overlap sums at the probabilities
        gradient = p * (at_p - tl.sum(at_p * p, 1)[:, None])
        gradient += cost_gradient * sharp_y * (p - tl.where(own, 1.0, 0.0))
        gradient += cost_gradient * (p * tl.sum(smooth_k, 1)[:, None] - smooth_k)
        across = tl.load(share_x + x, inside, 0.0)
        share = tl.where(tl.load(before_x + x, inside, -1) == source, 1 - across, 0.0)
        share += tl.where(tl.load(after_x + x, inside, -1) == source, across, 0.0)
        total += tl.where(valid, share[:, None] * gradient, 0.0)
    place = rows + ((sample * C + c[None, :]) * H + row) * w + source[:, None]
    tl.store(place, total, (source < w)[:, None] & (c < C)[None, :])


@triton.jit
def _columns_kernel(
    rows, before_y, after_y, share_y, first_y, found, h, w, H, most, BLOCK: tl.constexpr
):  # fmt: skip
    """(plane, H, w) -> one row of (plane, h, w)."""
    source, plane = tl.program_id(1), tl.program_id(2).to(tl.int64)
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    first = tl.load(first_y + source)
    total = tl.zeros((BLOCK,), rows.dtype.element_ty)
    for tap in range(most):
        y = tl.minimum(first + tap, H - 1)
        down = tl.load(share_y + y)
        share = tl.where(tl.load(before_y + y) == source, 1 - down, 0.0)
        share += tl.where(tl.load(after_y + y) == source, down, 0.0)
        share = tl.where(first + tap < H, share, 0.0)
        total += share * tl.load(rows + (plane * H + y) * w + column, column < w, 0.0)
    tl.store(found + (plane * h + source) * w + column, total, column < w)
