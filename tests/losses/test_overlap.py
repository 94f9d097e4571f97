"""Dice, Jaccard and Tversky against hand-computed values, a float64 reference and each other."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional as F

from losses import Dice, Jaccard
from losses.overlap import tversky

VOID = 255
# Each pixel gives probability 3/4 to class 0, 1/4 to class 1, and none to class 2, which is absent.
LOGITS = torch.tensor([math.log(3), 0.0, -1e9], dtype=torch.float64).view(1, 3, 1, 1)


def reference(
    logits: NDArray[np.float64], labels: NDArray[np.int64], alpha: float, beta: float, gamma: float = 1.0
) -> float:
    """Tversky, class by class, from true positives, false positives and false negatives."""
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
    ("loss", "labels", "expected"),
    [
        (Dice, [0], 1 - 1.5 / 1.75),  # I 3/4, P 3/4, Y 1
        (Dice, [1], 1 - 0.5 / 1.25),  # I 1/4, P 1/4, Y 1
        (Dice, [0, 1], 1 - (1.5 / 2.5 + 0.5 / 1.5) / 2),  # class 0: I 3/4, P 3/2; class 1: I 1/4, P 1/2
        (Dice, [0, 1, VOID, VOID], 1 - (1.5 / 2.5 + 0.5 / 1.5) / 2),
        (Dice, [0, 0, 0, 1], 1 - (4.5 / 6 + 0.5 / 2) / 2),  # a mean over classes, not over pixels
        (Dice, [VOID], 0.0),
        (Jaccard, [0], 1 - 0.75 / 1),
        (Jaccard, [1], 1 - 0.25 / 1),
        (Jaccard, [0, 1], 1 - (0.75 / 1.75 + 0.25 / 1.25) / 2),
        (Jaccard, [0, 1, VOID, VOID], 1 - (0.75 / 1.75 + 0.25 / 1.25) / 2),
        (Jaccard, [0, 0, 0, 1], 1 - (2.25 / 3.75 + 0.25 / 1.75) / 2),
        (Jaccard, [VOID], 0.0),
    ],
)
def test_dice_and_jaccard_hand_computed(
    loss: type[Dice | Jaccard], labels: list[int], expected: float
) -> None:
    found = loss(VOID)(LOGITS.repeat(1, 1, 1, len(labels)), torch.tensor([[labels]]))
    assert found.item() == pytest.approx(expected, abs=1e-12)


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
def test_tversky_hand_computed(
    labels: list[int], alpha: float, beta: float, gamma: float, expected: float
) -> None:
    loss = tversky(LOGITS.repeat(1, 1, 1, len(labels)), torch.tensor([[labels]]), VOID, alpha, beta, gamma)
    assert loss.item() == pytest.approx(expected, abs=1e-12)


def test_dice_per_image_hand_computed() -> None:
    """Of three images one is void. The first has only class 0, so its mean is that of class 0."""
    labels = torch.tensor([[[0, VOID]], [[0, 1]], [[VOID, VOID]]])
    loss = Dice(VOID, per_image=True)(LOGITS.repeat(3, 1, 1, 2), labels)
    first, second = 1 - 1.5 / 1.75, 1 - (1.5 / 2.5 + 0.5 / 1.5) / 2
    assert loss.item() == pytest.approx((first + second) / 2, abs=1e-12)


@pytest.mark.parametrize(("num_present", "expected"), [(1, 1 - 2 / 22), (21, 1 - 1 / 21)])
def test_uniform_logits_cost_nearly_the_same_for_any_number_of_classes(
    num_present: int, expected: float
) -> None:
    labels = (torch.arange(21 * 21) % num_present).view(1, 21, 21)
    assert Dice(VOID)(torch.zeros(1, 21, 21, 21), labels).item() == pytest.approx(expected, abs=1e-6)


@given(
    seed=st.integers(0, 2**32 - 1),
    num_ids=st.integers(1, 5),
    alpha=st.floats(0, 3),
    beta=st.floats(0.01, 3),
    gamma=st.floats(0.3, 3),
)
def test_tversky_equals_the_reference(
    seed: int, num_ids: int, alpha: float, beta: float, gamma: float
) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 3, (2, 4, 3, 5)), rng.choice([VOID, 0, 1, 2, 3][:num_ids], (2, 3, 5))
    loss = tversky(torch.from_numpy(logits), torch.from_numpy(labels), VOID, alpha, beta, gamma)
    assert loss.item() == pytest.approx(reference(logits, labels, alpha, beta, gamma), abs=1e-10)


@given(seed=st.integers(0, 2**32 - 1), num_ids=st.integers(1, 5))
def test_dice_and_jaccard_equal_the_reference(seed: int, num_ids: int) -> None:
    """Per image, one without a label is left out of the mean."""
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 5, (2, 4, 3, 5)), rng.choice([VOID, 0, 1, 2, 3][:num_ids], (2, 3, 5))
    tensors = torch.from_numpy(logits), torch.from_numpy(labels)
    assert Dice(VOID)(*tensors).item() == pytest.approx(reference(logits, labels, 0.5, 0.5), abs=1e-12)
    assert Jaccard(VOID)(*tensors).item() == pytest.approx(reference(logits, labels, 1, 1), abs=1e-12)
    seen = [n for n in range(len(labels)) if (labels[n] != VOID).any()]
    each = [reference(logits[[n]], labels[[n]], 0.5, 0.5) for n in seen]
    per_image = Dice(VOID, per_image=True)(*tensors)
    assert per_image.item() == pytest.approx(np.mean(each) if each else 0.0, abs=1e-12)


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
