"""Dice against hand-computed values and a float64 reference."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from losses.overlap import dice

VOID = 255


def reference(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Class by class, from the definition."""
    valid = labels != VOID
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    costs = []
    for c in np.unique(labels[valid]):
        p = probabilities[:, c]
        costs.append(1 - 2 * p[labels == c].sum() / (p[valid].sum() + (labels == c).sum()))
    return float(np.mean(costs)) if costs else 0.0


def reference_per_image(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Image by image; one without valid pixels is ignored."""
    seen = [n for n in range(len(labels)) if (labels[n] != VOID).any()]
    return float(np.mean([reference(logits[[n]], labels[[n]]) for n in seen])) if seen else 0.0


def certain(labels: Tensor, num_classes: int) -> Tensor:
    """Logits (B, C, H, W) that give all probability to the label, and to class 0 where it is void."""
    return 200 * F.one_hot(labels.where(labels != VOID, 0), num_classes).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([0], 1 - 1.5 / 1.75),  # I 3/4, P 3/4, Y 1
        ([1], 1 - 0.5 / 1.25),  # I 1/4, P 1/4, Y 1
        ([0, 1], 1 - (1.5 / 2.5 + 0.5 / 1.5) / 2),  # class 0: I 3/4, P 3/2; class 1: I 1/4, P 1/2
        ([0, 1, VOID, VOID], 1 - (1.5 / 2.5 + 0.5 / 1.5) / 2),
        ([0, 0, 0, 1], 1 - (4.5 / 6 + 0.5 / 2) / 2),  # a mean over classes, not over pixels
        ([VOID], 0.0),
    ],
)
def test_hand_computed(labels: list[int], expected: float) -> None:
    """Each pixel gives probability 3/4 to class 0, 1/4 to class 1, and none to class 2, which is absent."""
    logits = torch.tensor([math.log(3), 0.0, -1e9], dtype=torch.float64).view(1, 3, 1, 1)
    loss = dice(logits.repeat(1, 1, 1, len(labels)), torch.tensor([[labels]]), VOID)
    assert loss.item() == pytest.approx(expected, abs=1e-12)


def test_hand_computed_per_image() -> None:
    """Of three images one is void. The first has only class 0, so its mean is that of class 0."""
    logits = torch.tensor([math.log(3), 0.0, -1e9], dtype=torch.float64).view(1, 3, 1, 1).repeat(3, 1, 1, 2)
    labels = torch.tensor([[[0, VOID]], [[0, 1]], [[VOID, VOID]]])
    loss = dice(logits, labels, VOID, per_image=True)
    first, second = 1 - 1.5 / 1.75, 1 - (1.5 / 2.5 + 0.5 / 1.5) / 2
    assert loss.item() == pytest.approx((first + second) / 2, abs=1e-12)


def test_a_perfect_prediction_costs_nothing_with_any_void() -> None:
    labels = torch.arange(100).view(1, 10, 10) % 5
    labels[:, ::5] = VOID  # 20 %
    assert dice(certain(labels, 5), labels, VOID).item() == 0


@pytest.mark.parametrize(("num_present", "expected"), [(1, 1 - 2 / 22), (21, 1 - 1 / 21)])
def test_uniform_logits_cost_nearly_the_same_for_any_number_of_classes(
    num_present: int, expected: float
) -> None:
    labels = (torch.arange(21 * 21) % num_present).view(1, 21, 21)
    assert dice(torch.zeros(1, 21, 21, 21), labels, VOID).item() == pytest.approx(expected, abs=1e-6)


@given(seed=st.integers(0, 2**32 - 1), num_ids=st.integers(1, 5))
def test_equals_the_reference(seed: int, num_ids: int) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 5, (2, 4, 3, 5)), rng.choice([VOID, 0, 1, 2, 3][:num_ids], (2, 3, 5))
    loss = dice(torch.from_numpy(logits), torch.from_numpy(labels), VOID)
    assert loss.item() == pytest.approx(reference(logits, labels), abs=1e-12)
    per_image = dice(torch.from_numpy(logits), torch.from_numpy(labels), VOID, per_image=True)
    assert per_image.item() == pytest.approx(reference_per_image(logits, labels), abs=1e-12)


@pytest.mark.parametrize("per_image", [False, True])
def test_gradcheck(per_image: bool) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 2, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, VOID, 2, 2, 0] * 2).view(2, 2, 3)  # class 3 is absent
    assert torch.autograd.gradcheck(lambda x: dice(x, labels, VOID, per_image=per_image), logits)
