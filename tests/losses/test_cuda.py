"""On a CUDA device: the values of the CPU, the same bits twice, and no wait of the host for the device."""

import pytest
import torch
from torch import Tensor

import losses
from losses import MixedLoss, build_loss

TERMS = [
    {
        "name": "cross_entropy",
        "class_weights": [1, 2, 3, 4, 5],
        "label_smoothing": 0.1,
        "ohem": {"thresh": 0.3, "min_kept": 1000},
    },
    *({"name": name} for name in losses.TERMS if name != "cross_entropy"),
]

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def loss_and_gradient(loss: MixedLoss, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.detach().clone().requires_grad_()
    total = loss(leaf, labels)["loss"]
    total.backward()
    assert leaf.grad is not None
    return total.detach(), leaf.grad


def batch() -> tuple[MixedLoss, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 16, 16, generator=generator)
    labels = torch.randint(0, 5, (2, 64, 64), generator=generator)
    labels[:, :10] = 255
    return build_loss(TERMS, 5), logits, labels


def on_device() -> tuple[MixedLoss, Tensor, Tensor]:
    loss, logits, labels = batch()
    return loss.cuda(), logits.cuda(), labels.cuda()


def test_the_loss_of_the_cpu_and_the_same_bits_twice() -> None:
    torch.use_deterministic_algorithms(True)  # an operation without a deterministic form raises
    try:
        first, second = loss_and_gradient(*on_device()), loss_and_gradient(*on_device())
    finally:
        torch.use_deterministic_algorithms(False)
    for x, y, expected in zip(first, second, loss_and_gradient(*batch()), strict=True):
        assert x.equal(y)
        torch.testing.assert_close(x.cpu(), expected, rtol=1e-4, atol=1e-6)


def test_the_host_never_waits() -> None:
    loss, logits, labels = on_device()
    loss_and_gradient(loss, logits, labels)  # what is set up once may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        value, _ = loss_and_gradient(loss, logits, labels)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert value.isfinite()
