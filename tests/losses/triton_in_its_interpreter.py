"""Run by test_pixel_sums.py with TRITON_INTERPRET=1: the kernels against the strips, on the CPU."""

import importlib.util
from itertools import product
from pathlib import Path

import torch

from losses import triton_sums as kernels
from losses.interpolation import taps
from losses.pixel_sums import PixelSums, pixel_sums
from losses.triton_sums import TritonSums

SPEC = importlib.util.spec_from_file_location("tables", Path(__file__).with_name("test_pixel_sums.py"))
assert SPEC and SPEC.loader
tables = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tables)
SMOOTHING = 0.1
kernels.ROWS = 2  # the interpreter is slow


def triton_sums(logits, labels, weights, align_corners: bool) -> PixelSums:
    down, across = (
        taps(size, source, align_corners, logits.device, weights.dtype)
        for size, source in zip(labels.shape[1:], logits.shape[2:], strict=True)
    )
    sharp, smooth = weights * (1 - SMOOTHING), weights * SMOOTHING / len(weights)
    cost, intersection, predicted, labelled = TritonSums.apply(
        logits, labels, sharp, smooth, tables.VOID, down, across
    )
    return PixelSums(cost, labelled @ weights, intersection, predicted, labelled)


CASES = [
    ((4, 5), (16, 20), False),
    ((3, 2), (7, 5), True),
    ((8, 8), (5, 6), False),
]
for source, size, align_corners in CASES:
    logits, labels, weights = tables.draw(source, size, num_classes=5)
    found = []
    for compute in (triton_sums, lambda *a: pixel_sums(*a[:2], tables.VOID, a[2], SMOOTHING, a[3])):
        leaf = logits.clone().requires_grad_()
        sums = compute(leaf, labels, weights, align_corners)
        tables.combined(sums).backward()
        found.append([*(value.detach() for value in sums), leaf.grad])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)
    print("same", source, size)

# Against cross-entropy and Dice of upsampled logits, by torch in float64 from the same rounded values.
TOLERANCES = {
    torch.float32: 1e-5,
    torch.bfloat16: 2**-7,
    torch.float16: 2**-10,
}  # of the gradient's own scale
for num_classes, (dtype, tolerance) in product((1, 2, 5, 21, 150), TOLERANCES.items()):
    drawn, labels, weights = tables.draw((2, 2), (2, 3), seed=num_classes, num_classes=num_classes)
    logits = drawn.to(dtype)
    leaf, exact = logits.clone().requires_grad_(), logits.double().requires_grad_()
    sums = triton_sums(leaf, labels, weights.float(), False)
    expected = tables.whole_sums(exact, labels, tables.VOID, weights, SMOOTHING)
    for ours, theirs in zip(sums, expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-5)
    for each in (sums, expected):
        tables.combined(PixelSums(*(value.double() for value in each))).backward()
    assert leaf.grad.dtype == dtype
    scale = max(float(exact.grad.abs().max()), 0.1)  # of one class the gradient is 0
    torch.testing.assert_close(leaf.grad.double(), exact.grad, rtol=tolerance, atol=tolerance * scale)
    print("same", num_classes, dtype)

for num_classes in (4, 40):
    logits, labels, weights = tables.draw((2, 2), (4, 4), num_classes=num_classes)
    labels[1, 2, 3] = num_classes
    sums = triton_sums(logits, labels, weights, False)
    assert sums.cost.isnan(), "an id outside the classes must not pass"
