"""Lovasz-softmax against the definition of the extension of a set function, not against its sorted form."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional as F

from losses.lovasz import lovasz

VOID = 255


def jaccard_cost(wrong: NDArray[np.bool_], own: NDArray[np.bool_]) -> float:
    """1 - IoU of a class, where the pixels `own` have the label and the pixels `wrong` are wrong."""
    predicted = own ^ wrong
    union = (own | predicted).sum()
    return 1 - float((own & predicted).sum() / union) if union else 0.0


def extension(errors: NDArray[np.float64], own: NDArray[np.bool_]) -> float:
    """The Choquet integral: over all thresholds t, the cost of the pixels with an error of t or more."""
    levels = [0.0, *np.unique(errors)]
    return sum((high - low) * jaccard_cost(errors >= high, own) for low, high in pairwise(levels))


def reference(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Of the batch as a whole."""
    valid = labels != VOID
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    costs = []
    for c in np.unique(labels[valid]):
        own = (labels == c)[valid]
        costs.append(extension(np.abs(own - probabilities[:, c][valid]), own))
    return float(np.mean(costs)) if costs else 0.0


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([0], 0.25),  # of one pixel, its error: class 0 is missed by 1/4
        ([1], 0.75),
        # both classes have the errors 1/4 and 3/4. Class 0: the other's pixel errs first, IoU 1 -> 1/2 -> 0;
        # class 1: its own pixel errs first, IoU 1 -> 0 -> 0
        ([0, 1], ((0.75 / 2 + 0.25 / 2) + 0.75) / 2),
        ([0, 1, VOID], ((0.75 / 2 + 0.25 / 2) + 0.75) / 2),
        # class 0: IoU 1 -> 2/3 -> 1/3 -> 0 in steps of 1/3; class 1: its own pixel first, IoU 0
        ([0, 0, 1], ((0.75 + 0.25 + 0.25) / 3 + 0.75) / 2),
        ([VOID], 0.0),
    ],
)
def test_hand_computed(labels: list[int], expected: float) -> None:
    """Each pixel gives probability 3/4 to class 0, 1/4 to class 1, and none to class 2, which is absent."""
    logits = torch.tensor([math.log(3), 0.0, -1e9], dtype=torch.float64).view(1, 3, 1, 1)
    loss = lovasz(logits.repeat(1, 1, 1, len(labels)), torch.tensor([[labels]]), VOID)
    assert loss.item() == pytest.approx(expected, abs=1e-12)


@given(seed=st.integers(0, 2**32 - 1), num_ids=st.integers(1, 5), ties=st.booleans())
def test_equals_the_reference(seed: int, num_ids: int, ties: bool) -> None:
    """Also where many pixels have the same error, in any order."""
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 3, (2, 4, 3, 5)), rng.choice([VOID, 0, 1, 2, 3][:num_ids], (2, 3, 5))
    if ties:
        logits = np.round(logits / 3)
    loss = lovasz(torch.from_numpy(logits), torch.from_numpy(labels), VOID)
    assert loss.item() == pytest.approx(reference(logits, labels), abs=1e-12)


@given(seed=st.integers(0, 2**32 - 1))
def test_per_image_is_the_mean_of_the_images_with_a_label(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 3, (4, 4, 3, 5)), rng.choice([VOID, 0, 1, 2, 3], (4, 3, 5))
    labels[1], labels[2, 1:] = VOID, VOID
    loss = lovasz(torch.from_numpy(logits), torch.from_numpy(labels), VOID, per_image=True)
    seen = [n for n in range(4) if (labels[n] != VOID).any()]
    expected = np.mean([reference(logits[[n]], labels[[n]]) for n in seen])
    assert loss.item() == pytest.approx(expected, abs=1e-12)


@given(seed=st.integers(0, 2**32 - 1))
def test_for_one_hot_probabilities_it_is_one_minus_iou(seed: int) -> None:
    """The extension equals the set function for probabilities of 0 and 1."""
    rng = np.random.default_rng(seed)
    predicted, labels = rng.integers(0, 4, (2, 3, 5)), rng.choice([0, 1, 2, 3, VOID], (2, 3, 5))
    logits = 2000 * F.one_hot(torch.from_numpy(predicted), 4).permute(0, 3, 1, 2).double()
    valid = labels != VOID
    costs = [
        1 - ((predicted == c) & (labels == c)).sum() / (((predicted == c) & valid) | (labels == c)).sum()
        for c in np.unique(labels[valid])
    ]
    assert lovasz(logits, torch.from_numpy(labels), VOID).item() == pytest.approx(np.mean(costs), abs=1e-12)


def test_float32_is_accurate_over_a_million_pixels() -> None:
    """The growth of 1 - IoU by one pixel is about 1e-6 here, near what float32 loses in a subtraction."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 2, 1024, 1024, generator=generator)
    labels = torch.randint(0, 2, (1, 1024, 1024), generator=generator)
    gradients = []
    for dtype in (torch.float32, torch.float64):
        leaf = logits.to(dtype, copy=True).requires_grad_()
        lovasz(leaf, labels, VOID).backward()
        assert leaf.grad is not None
        gradients.append(leaf.grad.double())
    differences = (gradients[0] - gradients[1]).abs()
    assert differences.mean() < 1e-5 * gradients[1].abs().mean()
