"""Run by test_triton_depthwise.py with TRITON_INTERPRET=1: the kernels against torch, on the CPU."""

import torch
from torch.nn import functional as F

from benchmarks import triton_depthwise as kernels
from benchmarks.triton_depthwise import Tile, TritonDepthwise

SMALL = Tile(2, 4, 2, 1)  # so that a small map has several tiles in each direction
CASES = [
    (torch.float32, 1e-5, (2, 3, 3, 5), SMALL, SMALL),
    (torch.float32, 1e-5, (1, 1, 1, 1), SMALL, SMALL),
    (torch.float32, 1e-5, (1, 3, 5, 9), kernels.TILES[0], kernels.WEIGHT_TILE),
    (torch.bfloat16, 2**-8, (1, 3, 3, 2), SMALL, SMALL),  # one rounding, of the result
]
for dtype, tolerance, shape, tile, weight_tile in CASES:
    kernels.WEIGHT_TILE = weight_tile
    generator = torch.Generator().manual_seed(0)
    sizes = shape, (shape[1], 1, 3, 3), (shape[1],), shape
    *inputs, gradient = (torch.randn(size, generator=generator).to(dtype) for size in sizes)
    expected, found = [], []
    for results, leaves in (
        (expected, [leaf.double().requires_grad_() for leaf in inputs]),
        (found, [leaf.clone().requires_grad_() for leaf in inputs]),
    ):
        if results is found:
            out = TritonDepthwise.apply(*leaves, tile)
        else:
            out = F.conv2d(*leaves, padding=1, groups=shape[1])
        results += [out.detach(), *torch.autograd.grad(out, leaves, gradient.to(out.dtype))]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == dtype
        scale = float(theirs.abs().max())
        torch.testing.assert_close(ours.double(), theirs, rtol=tolerance, atol=tolerance * scale)
    print("same", shape, dtype, tile)
