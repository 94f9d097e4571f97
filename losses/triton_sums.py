"""`losses.pixel_sums` on a CUDA device, in Triton: logits at full size exist in registers only.

A block is (classes, pixels), both powers of two: the lanes of a warp run over neighbouring pixels, whose
logits are neighbours in memory. Up to MAX_CLASSES classes are one block. More are several blocks, and a
kernel that runs first computes what a pixel needs of all classes: the normaliser of its softmax in the
forward pass, the mean of the gradient, weighted by its probabilities, in the backward pass.

In the forward pass each program adds up some rows of a block of pixels and writes its sums to its own place;
the normalisers are kept. In the backward pass each program sums the gradients of one row's pixels into a
block of source columns, and a second kernel sums the rows. No atomics are used, so the same input gives the
same bits. An id outside the classes makes the cost NaN. Sums are float32, or float64 for float64 logits;
logits may be bf16 or fp16 too.

With TRITON_INTERPRET=1 in the environment the kernels run on the CPU, which is how they are tested without a
GPU; `tests/losses/test_compiled_kernels.py` compiles them for one and counts registers.

Shapes, `sharp` and `smooth` as in losses/pixel_sums.py.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from losses.interpolation import Taps

MAX_CLASSES = 32  # of a block
BLOCK_PX = 64  # of a block at most
PER_THREAD = 8  # elements of a block: each value takes as many registers
ROWS = 8  # of a program in the forward pass: it adds them up before it sums over the lanes
LIMITS = {"maxnreg": 128}  # registers of a thread, so that two programs of 8 warps fit a multiprocessor


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
        classes, chunks, whole = _chunks(C)
        block, warps = _block(W, classes)
        sides, columns = (C, h, w, H, W), triton.cdiv(W, block)
        pixels = logits, labels, *down.sources, *across.sources
        normaliser = sharp.new_empty(labels.shape)  # log of the sum of exp, of each pixel
        if not whole:
            _normaliser_kernel[columns, H, B](
                *pixels, normaliser, *sides, block, classes, num_warps=warps, **LIMITS
            )  # fmt: skip
        grid = columns, triton.cdiv(H, ROWS), B * chunks
        partial = sharp.new_empty(grid[0] * grid[1] * B, 4, chunks * classes)
        _sums_kernel[grid](
            *pixels, sharp, smooth, normaliser, partial,
            *sides, ignore_index, chunks, ROWS, block, classes, whole, num_warps=warps, **LIMITS,
        )  # fmt: skip
        ctx.save_for_backward(logits, labels, sharp, smooth, normaliser)
        ctx.settings = ignore_index, down, across
        sums = partial.sum(0, dtype=torch.float64).to(sharp.dtype)  # (4, classes)
        intersection, predicted, labelled = sums[1:, :C]
        ctx.mark_non_differentiable(labelled)
        return sums[0].sum(), intersection, predicted, labelled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """By the formulas in pixel_sums.py."""
        logits, labels, sharp, smooth, normaliser = ctx.saved_tensors
        ignore_index, down, across = ctx.settings
        (B, C, h, w), (H, W) = logits.shape, labels.shape[1:]
        classes, chunks, whole = _chunks(C)
        c, b, a = (gradient.contiguous() for gradient in gradients[:3])
        sides = C, h, w, H, W
        pixels = logits, labels, *down.sources, *across.sources
        mean = normaliser if whole else torch.empty_like(normaliser)  # of each pixel: sum_j a_j p_j + b_y p_y
        if not whole:
            block, warps = _block(W, classes)
            _mean_kernel[triton.cdiv(W, block), H, B](
                *pixels, normaliser, b, a, mean, *sides, ignore_index, block, classes,
                num_warps=warps, **LIMITS,
            )  # fmt: skip
        block, warps = _block(w, classes)
        rows = sharp.new_empty(B, C, H, w)
        smooth = c * smooth
        _rows_kernel[triton.cdiv(w, block), H, B * chunks](
            *pixels, across.first, c * sharp, smooth, smooth.sum(), normaliser, mean, b, a, rows,
            *sides, ignore_index, across.most, chunks, block, classes, whole,
            num_warps=warps, **LIMITS,
        )  # fmt: skip
        found = torch.empty_like(logits)
        _columns_kernel[triton.cdiv(w, 128), h, B * C](
            rows, *down.sources, down.first, found, h, w, H, down.most, 128
        )
        return found, *[None] * 6


def _chunks(num_classes: int) -> tuple[int, int, bool]:
    """Classes of a block, number of blocks, and whether it is one."""
    classes = min(MAX_CLASSES, triton.next_power_of_2(num_classes))
    chunks = triton.cdiv(num_classes, classes)
    return classes, chunks, chunks == 1


def _block(width: int, classes: int) -> tuple[int, int]:
    """Pixels of a block in a row of `width`, and warps of a program."""
    pixels = min(BLOCK_PX, triton.next_power_of_2(width))
    return pixels, max(1, classes * pixels // (32 * PER_THREAD))


@triton.jit
def _block_of_logits(
    logits, c, x, inside, row, before_y, after_y, share_y, before_x, after_x, share_x, C, h, w
):  # fmt: skip
    """(classes, pixels) upsampled logits of one row of a sample at columns `x`; -inf after the last class."""
    top, bottom, down = tl.load(before_y + row), tl.load(after_y + row), tl.load(share_y + row)
    left, right = tl.load(before_x + x, inside, 0), tl.load(after_x + x, inside, 0)
    across = tl.load(share_x + x, inside, 0.0)[None, :]
    real = (c < C)[:, None]
    read = real & inside[None, :]
    planes = (c * h * w)[:, None]
    upper = tl.load(logits + (planes + (top * w + left)[None, :]), read, 0.0).to(across.dtype)
    lower = tl.load(logits + (planes + (bottom * w + left)[None, :]), read, 0.0).to(across.dtype)
    before = upper + (lower - upper) * down
    upper = tl.load(logits + (planes + (top * w + right)[None, :]), read, 0.0).to(across.dtype)
    lower = tl.load(logits + (planes + (bottom * w + right)[None, :]), read, 0.0).to(across.dtype)
    after = upper + (lower - upper) * down
    return tl.where(real, before + (after - before) * across, float("-inf"))


@triton.jit
def _normaliser_kernel(
    logits, labels, before_y, after_y, share_y, before_x, after_x, share_x, normaliser,
    C, h, w, H, W, BLOCK: tl.constexpr, CLASSES: tl.constexpr,
):  # fmt: skip
    """log sum_k exp(z_k) of each pixel of one row, over blocks of classes."""
    row, sample = tl.program_id(1), tl.program_id(2).to(tl.int64)
    x = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = x < W
    largest = tl.full((BLOCK,), float("-inf"), share_x.dtype.element_ty)
    total = tl.zeros((BLOCK,), share_x.dtype.element_ty)
    for start in range(0, C, CLASSES):
        z = _block_of_logits(
            logits + sample * C * h * w, start + tl.arange(0, CLASSES), x, inside, row,
            before_y, after_y, share_y, before_x, after_x, share_x, C, h, w,
        )  # fmt: skip
        above = tl.maximum(largest, tl.max(z, 0))
        total = total * tl.exp(largest - above) + tl.sum(tl.exp(z - above[None, :]), 0)
        largest = above
    tl.store(normaliser + (sample * H + row) * W + x, largest + tl.log(total), inside)


@triton.jit
def _sums_kernel(
    logits, labels, before_y, after_y, share_y, before_x, after_x, share_x,
    sharp, smooth, normaliser, partial, C, h, w, H, W, ignore_index, chunks,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, CLASSES: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """Sums over ROWS rows of a block: cost, intersection, predicted and labelled, by class."""
    sample, chunk = (tl.program_id(2) // chunks).to(tl.int64), tl.program_id(2) % chunks
    x = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    c = chunk * CLASSES + tl.arange(0, CLASSES)
    sharp_k, smooth_k = tl.load(sharp + c, c < C, 0.0), tl.load(smooth + c, c < C, 0.0)
    cost = tl.zeros((CLASSES, BLOCK), sharp.dtype.element_ty)
    intersection = tl.zeros((CLASSES, BLOCK), sharp.dtype.element_ty)
    predicted = tl.zeros((CLASSES, BLOCK), sharp.dtype.element_ty)
    labelled = tl.zeros((CLASSES, BLOCK), sharp.dtype.element_ty)
    for tap in range(ROWS):
        below = tl.program_id(1) * ROWS + tap
        row = tl.minimum(below, H - 1)
        inside = (x < W) & (below < H)
        z = _block_of_logits(
            logits + sample * C * h * w, c, x, inside, row,
            before_y, after_y, share_y, before_x, after_x, share_x, C, h, w,
        )  # fmt: skip
        place = (sample * H + row) * W + x
        if WHOLE:
            largest = tl.max(z, 0)
            total = largest + tl.log(tl.sum(tl.exp(z - largest[None, :]), 0))
            tl.store(normaliser + place, total, inside)
        else:
            total = tl.load(normaliser + place, inside, 0.0)
        log_p = z - total[None, :]
        label = tl.load(labels + place, inside, ignore_index)
        valid = inside & (label != ignore_index)
        own = (c[:, None] == label[None, :]) & valid[None, :]
        p = tl.where(valid[None, :], tl.exp(log_p), 0.0)
        weight = tl.where(own, sharp_k[:, None], 0.0) + tl.where(valid[None, :], smooth_k[:, None], 0.0)
        cost -= tl.where((c < C)[:, None], log_p, 0.0) * weight
        wrong = valid & ((label < 0) | (label >= C))
        cost = tl.where(wrong[None, :], float("nan"), cost)
        intersection += tl.where(own, p, 0.0)
        predicted += p
        labelled += tl.where(own, 1.0, 0.0)
    program = (sample * tl.num_programs(1) + tl.program_id(1)) * tl.num_programs(0) + tl.program_id(0)
    slot = partial + program * 4 * chunks * CLASSES + c
    tl.store(slot, tl.sum(cost, 1))
    tl.store(slot + chunks * CLASSES, tl.sum(intersection, 1))
    tl.store(slot + 2 * chunks * CLASSES, tl.sum(predicted, 1))
    tl.store(slot + 3 * chunks * CLASSES, tl.sum(labelled, 1))


@triton.jit
def _mean_kernel(
    logits, labels, before_y, after_y, share_y, before_x, after_x, share_x,
    normaliser, intersection, predicted, mean,
    C, h, w, H, W, ignore_index, BLOCK: tl.constexpr, CLASSES: tl.constexpr,
):  # fmt: skip
    """sum_j a_j p_j + b_y p_y of each pixel of one row, over blocks of classes."""
    row, sample = tl.program_id(1), tl.program_id(2).to(tl.int64)
    x = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = x < W
    place = (sample * H + row) * W + x
    total = tl.load(normaliser + place, inside, 0.0)
    label = tl.load(labels + place, inside, ignore_index)
    found = tl.zeros((BLOCK,), share_x.dtype.element_ty)
    for start in range(0, C, CLASSES):
        c = start + tl.arange(0, CLASSES)
        z = _block_of_logits(
            logits + sample * C * h * w, c, x, inside, row,
            before_y, after_y, share_y, before_x, after_x, share_x, C, h, w,
        )  # fmt: skip
        a, b = tl.load(predicted + c, c < C, 0.0), tl.load(intersection + c, c < C, 0.0)
        at_p = a[:, None] + tl.where(c[:, None] == label[None, :], b[:, None], 0.0)
        found += tl.sum(at_p * tl.exp(z - total[None, :]), 0)
    tl.store(mean + place, found, inside)


@triton.jit
def _rows_kernel(
    logits, labels, before_y, after_y, share_y, before_x, after_x, share_x, first_x,
    sharp, smooth, smooth_sum, normaliser, mean, intersection, predicted, rows,
    C, h, w, H, W, ignore_index, most, chunks,
    BLOCK: tl.constexpr, CLASSES: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """The gradient of one row's pixels at a block of source columns; sharp and smooth with the factor c."""
    row = tl.program_id(1)
    sample, chunk = (tl.program_id(2) // chunks).to(tl.int64), tl.program_id(2) % chunks
    source = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    c = chunk * CLASSES + tl.arange(0, CLASSES)
    smooth_k = tl.load(smooth + c, c < C, 0.0)[:, None]
    a = tl.load(predicted + c, c < C, 0.0)[:, None]
    b = tl.load(intersection + c, c < C, 0.0)[:, None]
    spread = tl.load(smooth_sum)
    first = tl.load(first_x + source, source < w, W)
    found = tl.zeros((CLASSES, BLOCK), sharp.dtype.element_ty)
    for tap in range(most):
        x = first + tap
        inside = x < W
        z = _block_of_logits(
            logits + sample * C * h * w, c, x, inside, row,
            before_y, after_y, share_y, before_x, after_x, share_x, C, h, w,
        )  # fmt: skip
        place = (sample * H + row) * W + x
        p = tl.exp(z - tl.load(normaliser + place, inside, 0.0)[None, :])
        label = tl.load(labels + place, inside, ignore_index)
        valid = inside & (label != ignore_index)
        own = c[:, None] == label[None, :]
        at_p = a + tl.where(own, b, 0.0)  # the gradient of the overlap sums at the probabilities
        average = tl.sum(at_p * p, 0) if WHOLE else tl.load(mean + place, inside, 0.0)
        sharp_y = tl.load(sharp + label, valid & (label >= 0) & (label < C), 0.0)
        gradient = p * ((at_p - average[None, :]) + (sharp_y + spread)[None, :])
        gradient -= tl.where(own, sharp_y[None, :], 0.0) + smooth_k
        across = tl.load(share_x + x, inside, 0.0)
        share = tl.where(tl.load(before_x + x, inside, -1) == source, 1 - across, 0.0)
        share += tl.where(tl.load(after_x + x, inside, -1) == source, across, 0.0)
        found += tl.where(valid[None, :], share[None, :] * gradient, 0.0)
    place = rows + ((sample * C + c[:, None]) * H + row) * w + source[None, :]
    tl.store(place, found, (c < C)[:, None] & (source < w)[None, :])


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
