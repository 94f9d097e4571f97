"""On a CUDA device: the values of the CPU, deterministic results, and no synchronisation."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import losses
from losses import MixedLoss, build_loss

CE_AND_DICE: list[dict[str, Any]] = [
    {"name": "cross_entropy", "class_weights": [1, 2, 3, 4, 5], "label_smoothing": 0.1},
    {"name": "dice"},
]
EVERY_TERM: list[dict[str, Any]] = [
    {**CE_AND_DICE[0], "ohem": {"thresh": 0.3, "min_kept": 1000}},
    *({"name": name} for name in losses.TERMS if name != "cross_entropy"),
]

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture
def deterministic() -> Iterator[None]:
    """An operation without a deterministic form raises."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def loss_and_gradient(loss: MixedLoss, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.detach().clone().requires_grad_()
    total = loss(leaf, labels)["loss"]
    total.backward()
    assert leaf.grad is not None
    return total.detach(), leaf.grad


def batch(terms: list[dict[str, Any]], dtype: torch.dtype) -> tuple[MixedLoss, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 16, 16, generator=generator).to(dtype)
    labels = torch.randint(0, 5, (2, 64, 64), generator=generator)
    labels[:, :10] = 255
    return build_loss(terms, 5), logits, labels


def on_device(
    terms: list[dict[str, Any]], dtype: torch.dtype = torch.float32
) -> tuple[MixedLoss, Tensor, Tensor]:
    loss, logits, labels = batch(terms, dtype)
    return loss.cuda(), logits.cuda(), labels.cuda()


@pytest.mark.parametrize("terms", [CE_AND_DICE, EVERY_TERM], ids=["ce+dice", "every"])
def test_the_same_bits_twice(deterministic: None, terms: list[dict[str, Any]]) -> None:
    first, second = loss_and_gradient(*on_device(terms)), loss_and_gradient(*on_device(terms))
    assert first[0].equal(second[0])
    assert first[1].equal(second[1])


@pytest.mark.parametrize(
    ("terms", "dtype", "tolerance"),
    [
        (CE_AND_DICE, torch.float32, 1e-4),
        (EVERY_TERM, torch.float64, 1e-9),  # in float32, rounding changes the order of pixels for Lovasz
    ],
    ids=["ce+dice", "every"],
)
def test_the_values_of_the_cpu(terms: list[dict[str, Any]], dtype: torch.dtype, tolerance: float) -> None:
    found, expected = loss_and_gradient(*on_device(terms, dtype)), loss_and_gradient(*batch(terms, dtype))
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x.cpu(), y, rtol=tolerance, atol=tolerance / 100)


@pytest.mark.parametrize("terms", [CE_AND_DICE, EVERY_TERM], ids=["ce+dice", "every"])
def test_there_is_no_synchronisation(terms: list[dict[str, Any]]) -> None:
    loss, logits, labels = on_device(terms)
    loss_and_gradient(loss, logits, labels)  # the first call may synchronise
    torch.cuda.set_sync_debug_mode("error")
    try:
        value, _ = loss_and_gradient(loss, logits, labels)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert value.isfinite()
