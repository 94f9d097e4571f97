"""The adversarial objectives, against values computed by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from losses import LossError
from losses.adversarial import (
    OBJECTIVES,
    discriminator_accuracy,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    smoothed_labels,
)

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
        ("wgan_gp", -0.5, 2.0, 0.5 + 2.0, -2.0),
    ],
)
def test_hand_computed(
    objective: str, real: float, fake: float, expected_d: float, expected_g: float
) -> None:
    one = patches(1)
    d_loss = discriminator_loss(objective, patches(real), patches(fake), one, one)
    assert d_loss.item() == pytest.approx(expected_d, abs=1e-12)
    assert generator_loss(objective, patches(fake), one).item() == pytest.approx(expected_g, abs=1e-12)


def test_patches_are_weighted_and_each_side_is_averaged_separately() -> None:
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
    if real_weight.any():  # the score of a real patch rises
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
    [("bce", 2 / 3, 1 / 3), ("hinge", 2 / 3, 1 / 3), ("lsgan", 1 / 3, 2 / 3), ("wgan_gp", 1 / 3, 2 / 3)],
)
def test_accuracy(objective: str, on_real: float, on_fake: float) -> None:
    """The boundary is 0 for bce and hinge, 1/2 for lsgan, and the mean of all, 1.4 / 3, for wgan_gp."""
    sides, one = patches(-1, 0.4, 2), patches(1, 1, 1)
    accuracy = discriminator_accuracy(objective, sides, sides, one, one)
    assert [share.item() for share in accuracy] == pytest.approx([on_real, on_fake])


def test_accuracy_ignores_void_and_weights_the_other_patches() -> None:
    real, fake = patches(1, -1, 1), patches(1, -1, 1)
    accuracy = discriminator_accuracy("hinge", real, fake, patches(0.6, 0.2, 0), patches(0.5, 0.5, 0))
    assert [share.item() for share in accuracy] == pytest.approx([0.6 / 0.8, 0.5])


def test_the_penalty_of_a_linear_critic_is_known() -> None:
    """Sample 1 scores sum(3 x): its gradient is 3 at each of 8 places. Sample 2 is void and ignored."""

    def score(x: Tensor) -> tuple[Tensor, Tensor]:
        return 3 * x.sum((1, 2, 3), keepdim=True), torch.tensor([0.5, 0.0], dtype=x.dtype).view(2, 1, 1, 1)

    real, fake, share = (
        torch.rand(2, *shape, dtype=torch.float64) for shape in [(2, 2, 2)] * 2 + [(1, 1, 1)]
    )
    penalty = gradient_penalty(score, real, fake, share)
    assert penalty.item() == pytest.approx((3 * math.sqrt(8) - 1) ** 2, rel=1e-12)


def test_the_penalty_is_taken_between_real_and_fake_and_has_a_gradient() -> None:
    """Score a x^2 at x = (1 - s) 1 + s 3: gradient 2 a x, and the derivative by a is 2 (2 a x - 1) 2 x."""
    a = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    penalty = gradient_penalty(lambda x: (a * x**2, one), real=3 * one, fake=one, share=0.25 * one)
    penalty.backward()
    assert penalty.item() == pytest.approx((2 * 0.7 * 1.5 - 1) ** 2, rel=1e-12)
    assert a.grad is not None
    assert a.grad.item() == pytest.approx(2 * (2 * 0.7 * 1.5 - 1) * 2 * 1.5, rel=1e-12)


def test_smoothed_labels_by_hand() -> None:
    """At least 0.9 for the label, the rest by the model's probabilities; unchanged where it gives more."""
    probabilities = torch.tensor([[0.2, 0.6, 0.2], [0.95, 0.04, 0.01], [0.0, 0.0, 1.0]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 1])
    real = smoothed_labels(probabilities.T.reshape(1, 3, 1, 3), labels.view(1, 1, 3), least=0.9)
    expected = [[0.9, 0.075, 0.025], [0.95, 0.04, 0.01], [0.0, 0.9, 0.1]]
    torch.testing.assert_close(
        real.view(3, 3).T, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12
    )


@given(seed=st.integers(0, 2**32 - 1))
def test_smoothed_labels_are_probabilities_with_the_label_first(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    probabilities = (8 * torch.randn(2, 5, 3, 4, dtype=torch.float64, generator=generator)).softmax(1)
    labels = torch.randint(0, 5, (2, 3, 4), generator=generator)
    real = smoothed_labels(probabilities, labels, least=0.9)
    torch.testing.assert_close(real.sum(1), torch.ones(2, 3, 4, dtype=torch.float64))
    assert (real >= 0).all()
    assert real.argmax(1).equal(labels)


def test_an_unknown_objective_is_refused_with_the_choices() -> None:
    message = "'hing'. Did you mean hinge\\? Choices: bce, lsgan, hinge, wgan_gp."
    with pytest.raises(LossError, match=message):
        generator_loss("hing", patches(1), patches(1))
