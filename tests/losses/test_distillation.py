"""The divergence from a teacher, against a sum in numpy."""

import numpy as np
import pytest
import torch

from losses.distillation import distillation_loss, softened


def drawn(seed: int) -> torch.Tensor:
    return torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_it_is_the_mean_divergence_over_valid_pixels_times_the_squared_temperature(
    temperature: float, dtype: torch.dtype
) -> None:
    """Of logits in bf16 too, which are counted in float32."""
    student, teacher = drawn(0).to(dtype), drawn(1).to(dtype)
    valid = torch.tensor([[[True, True], [False, True]], [[True, False], [True, True]]])

    def softmax(logits: np.ndarray) -> np.ndarray:
        powers = np.exp(logits / temperature)
        return powers / powers.sum(axis=1, keepdims=True)

    p, q = softmax(teacher.double().numpy()), softmax(student.double().numpy())
    per_pixel = (p * np.log(p / q)).sum(axis=1)
    expected = temperature**2 * per_pixel[valid.numpy()].sum() / 6
    found = distillation_loss(student, softened(teacher, temperature), temperature, valid)
    assert found.item() == pytest.approx(expected, rel=1e-12 if dtype == torch.float64 else 1e-5)


def test_it_is_zero_where_both_agree_or_nothing_is_valid() -> None:
    logits = drawn(0)
    everywhere = torch.ones(2, 2, 2, dtype=torch.bool)
    assert distillation_loss(logits, softened(logits, 2.0), 2.0, everywhere).abs() < 1e-12
    assert distillation_loss(logits, softened(drawn(1), 2.0), 2.0, ~everywhere) == 0


def test_at_a_high_temperature_it_compares_the_logits() -> None:
    """As T grows, T^2 KL becomes half the variance of the difference over the classes (arXiv 1503.02531)."""
    student, teacher = drawn(0), drawn(1)
    valid = torch.ones(2, 2, 2, dtype=torch.bool)
    found = distillation_loss(student, softened(teacher, 1000.0), 1000.0, valid)
    difference = (student - teacher).numpy()
    assert found.item() == pytest.approx(difference.var(axis=1).mean() / 2, rel=1e-2)
