"""Cross-entropy against hand-computed values, a float64 reference and torch."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional as F

from losses.cross_entropy import CrossEntropy, cross_entropy
from losses.pixel_sums import pixel_sums
from losses.terms import Ohem

VOID = 255
RIGHT, WRONG = math.log(4 / 3), math.log(4)  # the costs of probability 3/4 and 1/4


def reference(
    logits: NDArray[np.float64], labels: NDArray[np.int64], weights: NDArray[np.float64], smoothing: float
) -> float:
    """Pixel by pixel, from the definition."""
    total, weight = 0.0, 0.0
    for b, y, x in np.argwhere(labels != VOID):
        z = logits[b, :, y, x]
        cost = np.log(np.exp(z - z.max()).sum()) + z.max() - z  # (C,)
        label = labels[b, y, x]
        total += (1 - smoothing) * weights[label] * cost[label] + smoothing * (weights * cost).mean()
        weight += weights[label]
    return total / weight if weight else 0.0


@pytest.mark.parametrize(
    ("labels", "weights", "smoothing", "expected"),
    [
        ([0], None, 0.0, RIGHT),
        ([1], None, 0.0, WRONG),
        ([0, 1], None, 0.0, (RIGHT + WRONG) / 2),
        ([0, 1, VOID], None, 0.0, (RIGHT + WRONG) / 2),
        ([0, 1, VOID], [1.0, 3.0], 0.0, (RIGHT + 3 * WRONG) / 4),
        ([0, 0, 1], [1.0, 0.0], 0.0, RIGHT),
        ([1, 1], [1.0, 0.0], 0.0, 0.0),  # all weights are 0
        ([0], None, 0.2, 0.9 * RIGHT + 0.1 * WRONG),
        ([VOID, VOID], None, 0.2, 0.0),
    ],
)
def test_hand_computed(
    labels: list[int], weights: list[float] | None, smoothing: float, expected: float
) -> None:
    """Each pixel gives probability 3/4 to class 0 and 1/4 to class 1."""
    logits = (
        torch.tensor([math.log(3), 0.0], dtype=torch.float64).view(1, 2, 1, 1).repeat(1, 1, 1, len(labels))
    )
    class_weights = None if weights is None else torch.tensor(weights)
    loss = cross_entropy(logits, torch.tensor([[labels]]), VOID, class_weights, smoothing)
    assert loss.item() == pytest.approx(expected, abs=1e-12)


@given(seed=st.integers(0, 2**32 - 1), smoothing=st.floats(0, 0.9), weighted=st.booleans())
def test_equals_the_reference(seed: int, smoothing: float, weighted: bool) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 5, (2, 4, 3, 5)), rng.choice([0, 1, 2, 3, VOID], (2, 3, 5))
    weights = rng.uniform(0, 3, 4) if weighted else np.ones(4)
    class_weights = torch.from_numpy(weights) if weighted else None
    loss = cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels), VOID, class_weights, smoothing)
    assert loss.item() == pytest.approx(reference(logits, labels, weights, smoothing), abs=1e-12)


def test_equals_torch_where_torch_is_finite() -> None:
    torch.manual_seed(0)
    logits, weights = torch.randn(2, 4, 3, 5, dtype=torch.float64), torch.rand(4, dtype=torch.float64)
    labels = torch.randint(0, 4, (2, 3, 5)).index_fill(2, torch.tensor([1]), VOID)
    expected = F.cross_entropy(logits, labels, weights, ignore_index=VOID, label_smoothing=0.1)
    torch.testing.assert_close(
        cross_entropy(logits, labels, VOID, weights, 0.1), expected, rtol=0, atol=1e-14
    )


@pytest.mark.parametrize("ohem", [None, Ohem()])
def test_pixels_whose_classes_all_have_the_weight_0_cost_0(ohem) -> None:
    """The cost of smoothing would else be a sum over pixels, divided by 1."""
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    labels = torch.zeros(2, 4, 4, dtype=torch.int64)
    weights = torch.tensor([0.0, 1.0, 1.0])
    loss = cross_entropy(logits, labels, 255, weights, label_smoothing=0.1, ohem=ohem)
    assert loss == 0
    assert (torch.autograd.grad(loss, logits)[0] == 0).all()
    whole = CrossEntropy(255, class_weights=[0.0, 1.0, 1.0], label_smoothing=0.1)
    assert whole.of_sums(pixel_sums(logits, labels, 255, **whole.sum_options)) == 0


def test_a_class_weight_of_0_divides_by_the_other_pixels() -> None:
    """By hand: two pixels of weight 1 of the three."""
    logits = torch.randn(1, 3, 1, 3)
    labels = torch.tensor([[[0, 1, 2]]])
    loss = cross_entropy(logits, labels, 255, torch.tensor([0.0, 1.0, 1.0]))
    log_p = logits.log_softmax(1)
    assert loss == pytest.approx(-(log_p[0, 1, 0, 1] + log_p[0, 2, 0, 2]).item() / 2)
