"""MCC against hand-computed values and a float64 reference from counts."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from losses.mcc import mcc

VOID = 255


def reference(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Class by class, from the soft counts of the confusion of a class with the rest."""
    valid = labels != VOID
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    costs = []
    for c in np.unique(labels[valid]):
        p, y = probabilities[:, c][valid], (labels == c)[valid].astype(float)
        if y.all():
            continue
        tp, fp, fn, tn = (p * y).sum(), (p * (1 - y)).sum(), ((1 - p) * y).sum(), ((1 - p) * (1 - y)).sum()
        costs.append(1 - (tp * tn - fp * fn) / np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)))
    return float(np.mean(costs)) if costs else 0.0


@pytest.mark.parametrize(
    ("p", "labels", "expected"),
    [
        ([1, 1, 0, 0], [0, 0, 1, 1], 0.0),
        ([0, 0, 1, 1], [0, 0, 1, 1], 2.0),  # always wrong
        ([0.7, 0.7, 0.7, 0.7], [0, 0, 1, 1], 1.0),  # the same whatever the label
        ([1, 0, 0, 0], [0, 0, 1, 1], 1 - 2 / math.sqrt(1 * 2 * 2 * 3)),  # TP 1, FN 1, TN 2
        ([1, 0, 0, 0, 1], [0, 0, 1, 1, VOID], 1 - 2 / math.sqrt(12)),
        ([0.3, 0.2], [0, 0], 0.0),  # one class everywhere: nothing to compare it with
        ([0.3], [VOID], 0.0),
    ],
)
def test_hand_computed(p: list[float], labels: list[int], expected: float) -> None:
    """p is the probability of class 0; the other class has the same coefficient."""
    both = torch.tensor([p, [1 - x for x in p]], dtype=torch.float64).log().clamp(min=-1e3)
    loss = mcc(both.view(1, 2, 1, -1), torch.tensor([[labels]]), VOID)
    assert loss.item() == pytest.approx(expected, abs=1e-12)


@given(seed=st.integers(0, 2**32 - 1), num_ids=st.integers(1, 5))
def test_equals_the_reference(seed: int, num_ids: int) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 5, (2, 4, 3, 5)), rng.choice([VOID, 0, 1, 2, 3][:num_ids], (2, 3, 5))
    loss = mcc(torch.from_numpy(logits), torch.from_numpy(labels), VOID)
    assert loss.item() == pytest.approx(reference(logits, labels), abs=1e-9)
