"""Run by test_pixel_sums.py with TRITON_INTERPRET=1: the kernels against the strips, on the CPU."""

import importlib.util
from pathlib import Path

import torch

from losses.interpolation import taps
from losses.pixel_sums import PixelSums, pixel_sums
from losses.triton_sums import TritonSums

SPEC = importlib.util.spec_from_file_location("tables", Path(__file__).with_name("test_pixel_sums.py"))
assert SPEC and SPEC.loader
tables = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tables)
SMOOTHING = 0.1


def triton_sums(logits, labels, weights, align_corners: bool) -> PixelSums:
    down, across = (
        taps(size, source, align_corners, logits.device, logits.dtype)
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
]  # the interpreter is slow
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

logits, labels, weights = tables.draw((2, 2), (4, 4))
labels[1, 2, 3] = 4
assert triton_sums(logits, labels, weights, False).cost.isnan(), "an id outside the classes must not pass"
