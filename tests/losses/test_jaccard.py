"""Jaccard against hand-computed values and a float64 reference."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from losses.overlap import dice, jaccard

VOID = 255


def reference(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Class by class: the union of a probability p and a label y is p + y - p y."""
    valid = labels != VOID
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    costs = []
    for c in np.unique(labels[valid]):
        p, y = probabilities[:, c][valid], (labels == c)[valid].astype(float)
        costs.append(1 - (p * y).sum() / (p + y - p * y).sum())
    return float(np.mean(costs)) if costs else 0.0


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([0], 1 - 0.75 / 1),  # I 3/4, P 3/4, Y 1
        ([1], 1 - 0.25 / 1),
        ([0, 1], 1 - (0.75 / 1.75 + 0.25 / 1.25) / 2),  # class 0: I 3/4, P 3/2; class 1: I 1/4, P 1/2
        ([0, 1, VOID, VOID], 1 - (0.75 / 1.75 + 0.25 / 1.25) / 2),
        ([0, 0, 0, 1], 1 - (2.25 / 3.75 + 0.25 / 1.75) / 2),  # a mean over classes, not over pixels
        ([VOID], 0.0),
    ],
)
def test_hand_computed(labels: list[int], expected: float) -> None:
    """Each pixel gives probability 3/4 to class 0, 1/4 to class 1, and none to class 2, which is absent."""
    logits = torch.tensor([math.log(3), 0.0, -1e9], dtype=torch.float64).view(1, 3, 1, 1)
    loss = jaccard(logits.repeat(1, 1, 1, len(labels)), torch.tensor([[labels]]), VOID)
    assert loss.item() == pytest.approx(expected, abs=1e-12)


@given(seed=st.integers(0, 2**32 - 1), num_ids=st.integers(1, 5))
def test_equals_the_reference(seed: int, num_ids: int) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 5, (2, 4, 3, 5)), rng.choice([VOID, 0, 1, 2, 3][:num_ids], (2, 3, 5))
    loss = jaccard(torch.from_numpy(logits), torch.from_numpy(labels), VOID)
    assert loss.item() == pytest.approx(reference(logits, labels), abs=1e-12)


@given(seed=st.integers(0, 2**32 - 1))
def test_jaccard_and_dice_are_related_by_their_formula(seed: int) -> None:
    """Of one class, J = D / (2 - D) for the indices; with one class present the mean changes nothing."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, 3, 4, 4, dtype=torch.float64, generator=generator)
    labels = torch.where(torch.rand(1, 4, 4, generator=generator) < 0.5, 1, VOID)
    index = 1 - dice(logits, labels, VOID)
    expected = 1 - index / (2 - index) if (labels == 1).any() else torch.zeros_like(index)
    torch.testing.assert_close(jaccard(logits, labels, VOID), expected)


def test_gradcheck() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 2, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, VOID, 2, 2, 0] * 2).view(2, 2, 3)  # class 3 is absent
    assert torch.autograd.gradcheck(lambda x: jaccard(x, labels, VOID), logits)
