"""Sums of upsampled logits: a NumPy reference, gradients, strips of every height, and the Triton kernels."""

import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from losses import pixel_sums as module
from losses.interpolation import interpolation_matrix
from losses.pixel_sums import PixelSums, _whole, pixel_sums

VOID = 255
SIZES = [  # (h, w) of the logits, (H, W) of the labels
    ((4, 5), (16, 20)),
    ((7, 9), (25, 31)),
    ((3, 3), (3, 3)),
    ((1, 1), (5, 4)),
    ((8, 8), (5, 6)),
    ((12, 2), (45, 70)),
]
every_size = pytest.mark.parametrize(("source", "size"), SIZES)


def draw(source: tuple[int, int], size: tuple[int, int], seed: int = 0, num_classes: int = 4):
    """Logits, labels with void, and class weights; float64."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, num_classes, *source, dtype=torch.float64, generator=generator)
    labels = torch.randint(0, num_classes, (2, *size), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.3] = VOID
    weights = torch.rand(num_classes, dtype=torch.float64, generator=generator)
    return logits, labels, weights


def reference(logits: Tensor, labels: Tensor, weights: Tensor, smoothing: float, align_corners: bool) -> list:
    """Pixel by pixel, in NumPy; upsampled by torch."""
    full = F.interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=align_corners).numpy()
    full = np.moveaxis(full, 1, -1)[labels.numpy() != VOID]  # (pixels, C)
    label, weight = labels[labels != VOID].numpy(), weights.numpy()
    p = np.exp(full) / np.exp(full).sum(1, keepdims=True)
    C = len(weight)
    cost = sum(
        -(1 - smoothing) * weight[y] * np.log(row[y]) - smoothing / C * (weight * np.log(row)).sum()
        for row, y in zip(p, label, strict=True)
    )
    intersection = [p[label == c, c].sum() for c in range(C)]
    return [cost, weight[label].sum(), intersection, p.sum(0), np.bincount(label, minlength=C)]


@every_size
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_sums_equal_those_of_numpy(source, size, align_corners, smoothing) -> None:
    logits, labels, weights = draw(source, size)
    expected = reference(logits, labels, weights, smoothing, align_corners)
    for compute in (pixel_sums, whole_sums):
        found = compute(logits, labels, VOID, weights, smoothing, align_corners)
        for value, known in zip(found, expected, strict=True):
            np.testing.assert_allclose(value.numpy(), known, rtol=1e-12, atol=1e-12)


def whole_sums(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int,
    weights: Tensor,
    smoothing: float = 0.0,
    align_corners: bool = False,
) -> PixelSums:
    """The computation on a device without its own kernel."""
    sharp, smooth = weights * (1 - smoothing), weights * smoothing / len(weights)
    cost, intersection, predicted, labelled = _whole(
        logits, labels, sharp, smooth, ignore_index, align_corners
    )
    return PixelSums(cost, labelled @ weights, intersection, predicted, labelled)


def combined(sums: PixelSums) -> Tensor:
    """A scalar in which every sum has its own weight."""
    factors = torch.linspace(-1, 2, len(sums.predicted), dtype=torch.float64)
    return 0.3 * sums.cost + (factors * sums.intersection).sum() + (factors.flip(0) * sums.predicted**2).sum()


@every_size
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_hand_written_gradient_equals_that_of_autograd(source, size, align_corners, smoothing) -> None:
    logits, labels, weights = draw(source, size)
    gradients = []
    for compute in (pixel_sums, whole_sums):
        leaf = logits.clone().requires_grad_()
        combined(compute(leaf, labels, VOID, weights, smoothing, align_corners)).backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-12)


def test_gradcheck() -> None:
    logits, labels, weights = draw((2, 3), (5, 7), num_classes=3)
    assert torch.autograd.gradcheck(
        lambda z: combined(pixel_sums(z, labels, VOID, weights, 0.1)), logits.requires_grad_()
    )


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 40))
def test_the_height_of_the_strips_does_not_matter(seed: int, rows: int) -> None:
    logits, labels, weights = draw((5, 4), (19, 13), seed)
    expected = pixel_sums(logits, labels, VOID, weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "STRIP_PX", rows * labels.shape[2])
        leaf = logits.clone().requires_grad_()
        found = pixel_sums(leaf, labels, VOID, weights)
        combined(found).backward()
    for value, other in zip(found, expected, strict=True):
        torch.testing.assert_close(value.detach(), other, rtol=1e-12, atol=1e-12)
    assert leaf.grad is not None and leaf.grad.isfinite().all()


def test_huge_logits_stay_finite() -> None:
    logits = torch.tensor([1e4, -1e4, 0.0]).view(1, 3, 1, 1).requires_grad_()
    sums = pixel_sums(logits, torch.ones(1, 4, 4, dtype=torch.int64), VOID)
    combined(PixelSums(*(value.double() for value in sums))).backward()
    assert sums.cost == 16 * 2e4
    assert logits.grad is not None and logits.grad.isfinite().all()


@pytest.mark.parametrize("wrong", [4, 254, -1])
def test_an_id_outside_the_classes_raises(wrong: int) -> None:
    logits, labels, _ = draw((2, 2), (4, 4))
    labels[1, 2, 3] = wrong
    with pytest.raises(RuntimeError, match="out of bounds"):
        pixel_sums(logits, labels, VOID)


@pytest.mark.parametrize(("size", "source"), [*product([1, 5, 12], [1, 3, 8])])
@pytest.mark.parametrize("align_corners", [False, True])
def test_the_matrix_is_linear_interpolation(size: int, source: int, align_corners: bool) -> None:
    values = torch.randn(2, 3, source, dtype=torch.float64)
    expected = F.interpolate(values, size, mode="linear", align_corners=align_corners)
    matrix = interpolation_matrix(size, source, align_corners)
    torch.testing.assert_close(values @ matrix.T, expected, rtol=0, atol=1e-14)


def test_the_triton_kernels_agree_in_their_interpreter() -> None:
    """In a process of its own, since Triton reads the variable when it loads."""
    pytest.importorskip("triton", reason="Triton is not installed: its kernels are not checked")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    script = Path(__file__).with_name("triton_in_its_interpreter.py")
    command = [sys.executable, script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("same") == 3 + 5 * 3
