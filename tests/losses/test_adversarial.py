"""The adversarial objectives against hand-computed values."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from losses import LossError
from losses.adversarial import OBJECTIVES, discriminator_accuracy, discriminator_loss, generator_loss

LN2 = math.log(2)
every_objective = pytest.mark.parametrize("objective", OBJECTIVES)


def patches(*values: float) -> Tensor:
    """(1, 1, 1, n)"""
    return torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


@pytest.mark.parametrize(
    ("objective", "real", "fake", "expected_d", "expected_g"),
    [
        ("bce", 0.0, 0.0, 2 * LN2, LN2),
        ("bce", 2.0, -3.0, softplus(-2) + softplus(-3), softplus(3)),
        ("lsgan", 1.0, 0.0, 0.0, 0.5),
        ("lsgan", 0.0, 2.0, 0.5 + 2.0, 0.5),
        ("hinge", 1.0, -1.0, 0.0, 1.0),
        ("hinge", 3.0, -4.0, 0.0, 4.0),
        ("hinge", -0.5, 0.5, 1.5 + 1.5, -0.5),
    ],
)
def test_hand_computed(
    objective: str, real: float, fake: float, expected_d: float, expected_g: float
) -> None:
    one = patches(1)
    d_loss = discriminator_loss(objective, patches(real), patches(fake), one, one)
    assert d_loss.item() == pytest.approx(expected_d, abs=1e-12)
    assert generator_loss(objective, patches(fake), one).item() == pytest.approx(expected_g, abs=1e-12)


def test_a_patch_counts_by_its_weight_and_each_side_by_itself() -> None:
    """hinge: the real patches cost 1, 2, 3 and the fake ones 1, 0, 5."""
    real, real_weight = patches(0, -1, -2), patches(1, 0.5, 0)
    fake, fake_weight = patches(0, -1, 4), patches(0.2, 0.6, 0)
    loss = discriminator_loss("hinge", real, fake, real_weight, fake_weight)
    assert loss.item() == pytest.approx((1 + 0.5 * 2) / 1.5 + 0.2 / 0.8, abs=1e-12)
    assert generator_loss("hinge", fake, fake_weight).item() == pytest.approx(0.6 / 0.8, abs=1e-12)


@every_objective
@given(seed=st.integers(0, 2**32 - 1))
def test_void_patches_get_no_gradient(objective: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    real, fake = (torch.from_numpy(rng.normal(0, 2, (2, 1, 3, 4))).requires_grad_() for _ in range(2))
    real_weight, fake_weight = (torch.from_numpy(rng.choice([0, 0.3, 1.0], (2, 1, 3, 4))) for _ in range(2))
    loss = discriminator_loss(objective, real, fake, real_weight, fake_weight)
    (loss + generator_loss(objective, fake, fake_weight)).backward()
    for logits, weight in ((real, real_weight), (fake, fake_weight)):
        assert logits.grad is not None
        assert logits.grad[weight == 0].eq(0).all()
    if real_weight.any():  # a loss that is too low for reality pulls the real logits up
        assert real.grad is not None
        assert (real.grad[real < 0.5] <= 0).all()


@every_objective
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_void_costs_nothing(objective: str, dtype: torch.dtype) -> None:
    logits = torch.full((2, 1, 3, 3), 7.0, dtype=dtype, requires_grad=True)
    nothing = torch.zeros(2, 1, 3, 3)
    loss = discriminator_loss(objective, logits, logits, nothing, nothing)
    total = loss + generator_loss(objective, logits, nothing)
    total.backward()
    assert total == 0
    assert total.dtype == torch.float32
    assert logits.grad is not None
    assert logits.grad.eq(0).all()


@every_objective
def test_a_split_batch_gives_the_loss_of_the_whole(objective: str) -> None:
    """The sums of the second part are added to those of the first."""
    torch.manual_seed(0)
    real, fake = torch.randn(2, 3, 1, 2, 2, dtype=torch.float64)
    real_weight, fake_weight = torch.rand(2, 3, 1, 2, 2, dtype=torch.float64)
    sums: list[Tensor] = []

    def listen(x: Tensor) -> Tensor:
        sums.append(x)
        return x

    arguments = real, fake, real_weight, fake_weight
    whole = discriminator_loss(objective, *arguments) + generator_loss(objective, fake, fake_weight)
    discriminator_loss(objective, *(x[1:] for x in arguments), reduce=listen)
    generator_loss(objective, fake[1:], fake_weight[1:], reduce=listen)
    part = discriminator_loss(objective, *(x[:1] for x in arguments), reduce=lambda x: x + sums.pop(0))
    part = part + generator_loss(objective, fake[:1], fake_weight[:1], reduce=lambda x: x + sums.pop(0))
    torch.testing.assert_close(part, whole, rtol=0, atol=1e-12)


@every_objective
def test_gradcheck(objective: str) -> None:
    torch.manual_seed(0)
    real, fake = (x.requires_grad_() for x in torch.randn(2, 2, 1, 2, 3, dtype=torch.float64).unbind())
    weight = torch.rand(2, 1, 2, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda r, f: discriminator_loss(objective, r, f, weight, weight), (real, fake)
    )
    assert torch.autograd.gradcheck(lambda f: generator_loss(objective, f, weight), fake)


@pytest.mark.parametrize(
    ("objective", "on_real", "on_fake"),
    [("bce", 2 / 3, 1 / 3), ("hinge", 2 / 3, 1 / 3), ("lsgan", 1 / 3, 2 / 3)],
)
def test_accuracy(objective: str, on_real: float, on_fake: float) -> None:
    """The boundary is 0 for bce and hinge, and 1/2 for lsgan, which lies above 0.4."""
    accuracy = discriminator_accuracy(objective, patches(-1, 0.4, 2), patches(-1, 0.4, 2))
    assert [share.item() for share in accuracy] == pytest.approx([on_real, on_fake])


def test_an_unknown_objective_is_refused_with_the_choices() -> None:
    said = "no adversarial objective 'hing'. Did you mean hinge\\? Choices: bce, lsgan, hinge."
    with pytest.raises(LossError, match=said):
        generator_loss("hing", patches(1), patches(1))
