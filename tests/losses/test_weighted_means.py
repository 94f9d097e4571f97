"""Class weights of the losses that are a mean over classes: hand-computed, and against weights of 1."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

import losses
from losses import LossError, build_loss
from losses.overlap import mean_over_groups, mean_over_present

VOID = 255
NAMES = ("dice", "jaccard", "tversky", "lovasz", "mcc")


@pytest.mark.parametrize(
    ("costs", "present", "weights", "expected"),
    [
        ([0.2, 0.8], [1, 1], [1, 1], 0.5),
        ([0.2, 0.8], [1, 1], [1, 3], (0.2 + 3 * 0.8) / 4),
        ([0.2, 0.8], [1, 0], [1, 3], 0.2),  # the weight of an absent class does not count
        ([0.2, 0.8], [1, 1], [0, 3], 0.8),
        ([0.2, 0.8], [1, 0], [0, 3], 0.0),
        ([0.2, 0.8], [0, 0], [1, 3], 0.0),
    ],
)
def test_hand_computed(costs: list[float], present: list[int], weights: list[float], expected: float) -> None:
    found = mean_over_present(
        torch.tensor(costs), torch.tensor(present).bool(), torch.tensor(weights, dtype=torch.float32)
    )
    assert found.item() == pytest.approx(expected)


def test_an_image_whose_classes_all_have_the_weight_0_is_not_in_the_mean() -> None:
    costs, present = torch.tensor([[0.5, 0.9], [0.1, 0.3]]), torch.tensor([[True, False], [True, True]])
    assert mean_over_groups(costs, present, class_weights=torch.tensor([0.0, 1.0])).item() == pytest.approx(
        0.3
    )
    labels = torch.tensor([[[0, VOID]], [[0, 1]]])
    term = losses.Dice(VOID, per_image=True, class_weights=[0.0, 1.0])
    assert term.denominator(labels) == 1


def batch(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, 3, 6, 5, dtype=torch.float64, generator=generator)
    labels = torch.randint(0, 4, (2, 6, 5), generator=generator)
    return logits, labels.where(labels < 3, VOID)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), factor=st.sampled_from([0.01, 1.0, 50.0]))
def test_only_the_ratios_of_the_weights_count(name: str, seed: int, factor: float) -> None:
    logits, labels = batch(seed)

    def value(*weights: float) -> Tensor:
        return build_loss([{"name": name, "class_weights": list(weights)}], 3, VOID)(logits, labels)["loss"]

    plain = build_loss([{"name": name}], 3, VOID)(logits, labels)["loss"]
    torch.testing.assert_close(value(factor, factor, factor), plain)
    torch.testing.assert_close(value(factor, 2 * factor, 0.0), value(1.0, 2.0, 0.0))
    alone = [value(*(float(c == one) for c in range(3))) for one in range(3)]
    if all((labels == c).any() for c in range(3)):  # the cost of each class, by which the mean is
        torch.testing.assert_close(value(1.0, 2.0, 5.0), (alone[0] + 2 * alone[1] + 5 * alone[2]) / 8)


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_number_of_weights_is_refused(name: str) -> None:
    with pytest.raises(LossError, match="class_weights has 2 numbers, but there are 3 classes"):
        build_loss([{"name": name, "class_weights": [1.0, 2.0]}], 3, VOID)


def costs_by_class(name: str, logits: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[int, float]:
    """By class with a cost, in numpy and by the formulas of the papers: counts of the confusion, and for
    Lovasz the sorted errors times the growth of 1 - IoU, pixel by pixel."""
    valid = labels != VOID
    powers = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = powers / powers.sum(1, keepdims=True)
    costs = {}
    for c in np.unique(labels[valid]):
        p, y = probabilities[:, c][valid], (labels == c)[valid].astype(float)
        tp, fp, fn, tn = (p * y).sum(), (p * (1 - y)).sum(), ((1 - p) * y).sum(), ((1 - p) * (1 - y)).sum()
        if name == "lovasz":
            errors = np.where(y > 0, 1 - p, p)
            order, lost = np.argsort(-errors), [0.0]
            for end in range(1, len(order) + 1):
                wrong = order[:end]
                missed, added = y[wrong].sum(), (1 - y[wrong]).sum()
                lost.append(1 - (y.sum() - missed) / (y.sum() + added))
            costs[c] = float((errors[order] * np.diff(lost)).sum())
        elif name == "mcc":
            if not y.all():
                costs[c] = 1 - (tp * tn - fp * fn) / np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
        else:
            alpha, beta = {"dice": (0.5, 0.5), "jaccard": (1, 1), "tversky": (0.3, 0.7)}[name]
            costs[c] = 1 - tp / (tp + alpha * fp + beta * fn)
    return costs


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("drawn", ["all classes", "two classes", "one class", "an image of void", "all void"])
def test_equals_the_formulas_in_numpy(name: str, dtype: torch.dtype, drawn: str) -> None:
    """Of logits in bf16 too, which are counted in float32, and with a weight of 0."""
    logits, labels = batch(7)
    logits, weights = logits.to(dtype), [0.5, 2.0, 0.0]
    if drawn == "two classes":
        labels = labels.where(labels != 2, VOID)
    elif drawn == "one class":
        labels = labels.where(labels == 1, VOID)
    elif drawn != "all classes":
        labels[: 1 if drawn == "an image of void" else 2] = VOID
    costs = costs_by_class(name, logits.double().numpy(), labels.numpy())
    total = sum(weights[c] for c in costs)
    expected = sum(weights[c] * cost for c, cost in costs.items()) / total if total else 0.0
    loss = build_loss([{"name": name, "class_weights": weights}], 3, VOID)(logits, labels)["loss"]
    assert loss.item() == pytest.approx(expected, rel=1e-12 if dtype == torch.float64 else 1e-5)
