"""Tversky and focal Tversky against hand-computed values, a float64 reference, Dice and Jaccard."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional as F

from losses.overlap import dice, jaccard, tversky

VOID = 255


def reference(
    logits: NDArray[np.float64], labels: NDArray[np.int64], alpha: float, beta: float, gamma: float
) -> float:
    """Class by class, from true positives, false positives and false negatives."""
    valid = labels != VOID
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    costs = []
    for c in np.unique(labels[valid]):
        p, own = probabilities[:, c][valid], (labels == c)[valid]
        hit, false_positive, false_negative = p[own].sum(), p[~own].sum(), (1 - p[own]).sum()
        index = hit / (hit + alpha * false_positive + beta * false_negative)
        costs.append((1 - index) ** (1 / gamma))
    return float(np.mean(costs)) if costs else 0.0


@pytest.mark.parametrize(
    ("labels", "alpha", "beta", "gamma", "expected"),
    [
        ([0], 0.3, 0.7, 1, 1 - 0.75 / (0.75 + 0.7 * 0.25)),  # no false positive
        ([0, 1], 0.3, 0.7, 1, 1 - (0.75 / (0.75 + 0.3 * 0.75 + 0.7 * 0.25) + 0.25 / (0.25 + 0.6)) / 2),
        ([0, 1], 0, 1, 1, 1 - (0.75 + 0.25) / 2),  # the recall of each class
        ([0, 1, VOID], 0, 1, 1, 1 - (0.75 + 0.25) / 2),
        ([1], 0, 1, 2, math.sqrt(0.75)),
        ([0, 1], 0, 1, 2, (math.sqrt(0.25) + math.sqrt(0.75)) / 2),  # the power of each class, then the mean
        ([0, 1], 0, 1, 0.5, (0.25**2 + 0.75**2) / 2),
        ([VOID], 0.3, 0.7, 4 / 3, 0.0),
    ],
)
def test_hand_computed(labels: list[int], alpha: float, beta: float, gamma: float, expected: float) -> None:
    """Each pixel gives probability 3/4 to class 0, 1/4 to class 1, and none to class 2, which is absent."""
    logits = torch.tensor([math.log(3), 0.0, -1e9], dtype=torch.float64).view(1, 3, 1, 1)
    loss = tversky(logits.repeat(1, 1, 1, len(labels)), torch.tensor([[labels]]), VOID, alpha, beta, gamma)
    assert loss.item() == pytest.approx(expected, abs=1e-12)


@given(
    seed=st.integers(0, 2**32 - 1),
    num_ids=st.integers(1, 5),
    alpha=st.floats(0, 3),
    beta=st.floats(0.01, 3),
    gamma=st.floats(0.3, 3),
)
def test_equals_the_reference(seed: int, num_ids: int, alpha: float, beta: float, gamma: float) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 3, (2, 4, 3, 5)), rng.choice([VOID, 0, 1, 2, 3][:num_ids], (2, 3, 5))
    loss = tversky(torch.from_numpy(logits), torch.from_numpy(labels), VOID, alpha, beta, gamma)
    assert loss.item() == pytest.approx(reference(logits, labels, alpha, beta, gamma), abs=1e-10)


@given(seed=st.integers(0, 2**32 - 1))
def test_halves_give_dice_and_ones_give_jaccard(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 4, 3, 5, dtype=torch.float64, generator=generator)
    labels = torch.randint(0, 4, (2, 3, 5), generator=generator)
    assert tversky(logits, labels, VOID, 0.5, 0.5) == dice(logits, labels, VOID)
    assert tversky(logits, labels, VOID, 1.0, 1.0) == jaccard(logits, labels, VOID)


@pytest.mark.parametrize("gamma", [0.5, 4 / 3, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_perfect_prediction_has_a_finite_gradient(gamma: float, dtype: torch.dtype) -> None:
    """A power below 1 has an infinite slope at cost 0, and is undefined below, where rounding may lead."""
    labels = torch.arange(100).view(1, 10, 10) % 3
    logits = (200 * F.one_hot(labels, 3).permute(0, 3, 1, 2).to(dtype)).requires_grad_()
    loss = tversky(logits, labels, VOID, 0.3, 0.7, gamma)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=torch.finfo(dtype).eps ** (1 / 3))
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("gamma", [1.0, 4 / 3, 0.5])
def test_gradcheck(gamma: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 2, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, VOID, 2, 2, 0] * 2).view(2, 2, 3)  # class 3 is absent
    assert torch.autograd.gradcheck(lambda x: tversky(x, labels, VOID, 0.3, 0.7, gamma), logits)
