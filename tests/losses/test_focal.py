"""Focal loss against hand-computed values, a float64 reference and cross-entropy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from losses.cross_entropy import cross_entropy
from losses.focal import focal

VOID = 255
RIGHT, WRONG = math.log(4 / 3), math.log(4)  # -log of probability 3/4 and 1/4


def reference(
    logits: NDArray[np.float64], labels: NDArray[np.int64], gamma: float, weights: NDArray[np.float64]
) -> float:
    """Pixel by pixel, from the definition."""
    total, weight = 0.0, 0.0
    for b, y, x in np.argwhere(labels != VOID):
        z = logits[b, :, y, x]
        p = np.exp(z[labels[b, y, x]]) / np.exp(z).sum()
        total += weights[labels[b, y, x]] * (1 - p) ** gamma * -np.log(p)
        weight += weights[labels[b, y, x]]
    return total / weight if weight else 0.0


@pytest.mark.parametrize(
    ("labels", "gamma", "weights", "expected"),
    [
        ([0], 2.0, None, RIGHT / 16),
        ([1], 2.0, None, WRONG * 9 / 16),
        ([0], 0.5, None, RIGHT / 2),
        ([0, 1], 1.0, None, (RIGHT / 4 + WRONG * 3 / 4) / 2),
        ([0, 1, VOID], 1.0, None, (RIGHT / 4 + WRONG * 3 / 4) / 2),
        ([0, 1, VOID], 1.0, [1.0, 3.0], (RIGHT / 4 + 3 * WRONG * 3 / 4) / 4),
        ([1, 1], 2.0, [1.0, 0.0], 0.0),  # all weights are 0
        ([VOID, VOID], 2.0, None, 0.0),
    ],
)
def test_hand_computed(labels: list[int], gamma: float, weights: list[float] | None, expected: float) -> None:
    """Each pixel gives probability 3/4 to class 0 and 1/4 to class 1."""
    logits = torch.tensor([math.log(3), 0.0], dtype=torch.float64).view(1, 2, 1, 1)
    class_weights = None if weights is None else torch.tensor(weights)
    loss = focal(logits.repeat(1, 1, 1, len(labels)), torch.tensor([[labels]]), VOID, gamma, class_weights)
    assert loss.item() == pytest.approx(expected, abs=1e-12)


@given(seed=st.integers(0, 2**32 - 1), gamma=st.floats(0, 5), weighted=st.booleans())
def test_equals_the_reference(seed: int, gamma: float, weighted: bool) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 3, (2, 4, 3, 5)), rng.choice([0, 1, 2, 3, VOID], (2, 3, 5))
    weights = rng.uniform(0, 3, 4) if weighted else np.ones(4)
    class_weights = torch.from_numpy(weights) if weighted else None
    loss = focal(torch.from_numpy(logits), torch.from_numpy(labels), VOID, gamma, class_weights)
    assert loss.item() == pytest.approx(reference(logits, labels, gamma, weights), abs=1e-12)


@given(seed=st.integers(0, 2**32 - 1), weighted=st.booleans())
def test_gamma_0_is_cross_entropy_and_more_gamma_costs_less(seed: int, weighted: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, 4, 3, 5, dtype=torch.float64, generator=generator)
    labels = torch.randint(0, 4, (2, 3, 5), generator=generator)
    weights = torch.rand(4, dtype=torch.float64, generator=generator) if weighted else None
    costs = [focal(logits, labels, VOID, gamma, weights) for gamma in (0.0, 0.5, 2.0)]
    torch.testing.assert_close(costs[0], cross_entropy(logits, labels, VOID, weights))
    assert costs[0] > costs[1] > costs[2]


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_certain_pixel_has_a_finite_gradient(gamma: float, dtype: torch.dtype) -> None:
    """Where p is 1, (1 - p)^gamma has an infinite slope for a gamma below 1; where p is 0, log p has."""
    logits = torch.tensor([200.0, 0.0], dtype=dtype).view(1, 2, 1, 1).requires_grad_()
    right = focal(logits, torch.tensor([[[0]]]), VOID, gamma)
    right.backward()
    assert right == 0
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-30
    wrong = focal(logits, torch.tensor([[[1]]]), VOID, gamma)
    wrong.backward()
    assert wrong.item() == pytest.approx(200)
    assert logits.grad.flatten().tolist() == pytest.approx([1, -1])
