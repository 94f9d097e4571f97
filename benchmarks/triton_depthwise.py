"""A depthwise 3x3 convolution of channels-last maps in Triton, for benchmarks/gpu_kernels.py.

A program computes a tile of pixels for some channels, and reads the nine shifted tiles from memory: what
neighbours share comes from the cache. The gradient of the input is the same convolution with the taps in
reverse order. For the gradient of the weight each program writes its sums to a place of its own, and torch
adds them up: no atomics, so the same input gives the same bits. Sums are float32; maps may be bf16 or fp16.

With TRITON_INTERPRET=1 in the environment the kernels run on the CPU. tests/benchmarks does that, and
compiles them for an H200 without one.
"""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable


class Tile(NamedTuple):
    """What one program computes, and with how many warps."""

    rows: int
    columns: int
    channels: int
    warps: int


TILES = Tile(4, 8, 64, 4), Tile(8, 8, 64, 8), Tile(8, 16, 64, 16)  # of a convolution, to choose from
WEIGHT_TILE = Tile(16, 16, 32, 8)  # of more pixels, as ten sums of each channel are written


class TritonDepthwise(torch.autograd.Function):
    """(x, weight, bias, tile) -> F.conv2d(x, weight, bias, padding=1, groups=C).

    x (B, C, H, W) in channels-last memory, weight (C, 1, 3, 3), bias (C,).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, tile: Tile) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x, weight, bias)
        ctx.tile = tile
        return _convolved(x, torch.cat([_by_tap(weight), bias[None]]), tile)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_x = _convolved(
            gradient, torch.cat([_by_tap(weight).flip(0), torch.zeros_like(bias)[None]]), ctx.tile
        )
        sums = _weight_sums(x, gradient)
        return of_x, sums[:9].T.reshape(weight.shape).to(weight.dtype), sums[9].to(bias.dtype), None


def _by_tap(weight: Tensor) -> Tensor:
    return weight.flatten(1).T  # (C, 1, 3, 3) -> (9, C)


def _convolved(x: Tensor, taps: Tensor, tile: Tile) -> Tensor:
    """(B, C, H, W) -> (B, C, H, W) by taps (10, C): nine weights, and the bias."""
    _, C, H, W = x.shape
    out = torch.empty_like(x)
    _convolution_kernel[_grid(x, tile)](x, taps, out, H, W, C, *tile[:3], num_warps=tile.warps)
    return out


def _weight_sums(x: Tensor, gradient: Tensor) -> Tensor:
    """(10, C) float32: the gradient times the input at each of the nine taps, and the gradient."""
    B, C, H, W = x.shape
    grid = _grid(x, WEIGHT_TILE)
    partial = torch.empty(B * grid[0], 10, C, device=x.device)
    _weight_kernel[grid](x, gradient, partial, H, W, C, *WEIGHT_TILE[:3], num_warps=WEIGHT_TILE.warps)
    return partial.sum(0)


def _grid(x: Tensor, tile: Tile) -> tuple[int, int, int]:
    B, C, H, W = x.shape
    return triton.cdiv(H, tile.rows) * triton.cdiv(W, tile.columns), triton.cdiv(C, tile.channels), B


@triton.jit
def _tile(H, W, C, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr):
    """Rows and columns of the tile's pixels, its channels, and where its image begins."""
    tile, pixel = tl.program_id(0), tl.arange(0, ROWS * COLUMNS)
    across = tl.cdiv(W, COLUMNS)
    row = tile // across * ROWS + pixel // COLUMNS
    column = tile % across * COLUMNS + pixel % COLUMNS
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    return row, column, channel, tl.program_id(2).to(tl.int64) * H * W * C


@triton.jit
def _values(maps, row, column, channel, H, W, C):
    """(pixels, channels) float32 of one image, 0 outside of it."""
    inside = (row >= 0) & (row < H) & (column >= 0) & (column < W)
    place = ((row * W + column) * C)[:, None] + channel[None, :]
    return tl.load(maps + place, inside[:, None] & (channel < C)[None, :], 0.0).to(tl.float32)


@triton.jit
def _convolution_kernel(
    x, taps, out, H, W, C, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr
):
    row, column, channel, start = _tile(H, W, C, ROWS, COLUMNS, CHANNELS)
    total = tl.zeros((ROWS * COLUMNS, CHANNELS), tl.float32)
    total += tl.load(taps + 9 * C + channel, channel < C, 0.0).to(tl.float32)[None, :]
    for tap in tl.static_range(9):
        shifted = _values(x + start, row + tap // 3 - 1, column + tap % 3 - 1, channel, H, W, C)
        total += shifted * tl.load(taps + tap * C + channel, channel < C, 0.0).to(tl.float32)[None, :]
    inside = ((row < H) & (column < W))[:, None] & (channel < C)[None, :]
    place = ((row * W + column) * C)[:, None] + channel[None, :]
    tl.store(out + start + place, total.to(out.dtype.element_ty), inside)


@triton.jit
def _weight_kernel(
    x, gradient, partial, H, W, C, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr
):
    row, column, channel, start = _tile(H, W, C, ROWS, COLUMNS, CHANNELS)
    own = _values(gradient + start, row, column, channel, H, W, C)
    place = partial + (tl.program_id(2) * tl.num_programs(0) + tl.program_id(0)) * 10 * C + channel
    for tap in tl.static_range(9):
        shifted = _values(x + start, row + tap // 3 - 1, column + tap % 3 - 1, channel, H, W, C)
        tl.store(place + tap * C, tl.sum(shifted * own, 0), channel < C)
    tl.store(place + 9 * C, tl.sum(own, 0), channel < C)
