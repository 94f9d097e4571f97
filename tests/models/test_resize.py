"""Interpolation as matrix products against `F.interpolate`: values, gradients, and sums in bf16."""

import pytest
import torch
from torch.nn import functional as F

from models.segformer_heads import by_products, resize

SIZES = [((4, 5), (8, 10)), ((3, 4), (24, 32)), ((7, 9), (28, 31)), ((6, 6), (4, 5)), ((1, 2), (5, 2))]


@pytest.mark.parametrize(("source", "size"), SIZES)
def test_values_and_gradients_are_those_of_torch(source: tuple[int, int], size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, *source, dtype=torch.float64, generator=generator).requires_grad_()
    gradient = torch.randn(2, 3, *size, dtype=torch.float64, generator=generator)
    found, expected = by_products(x, size), F.interpolate(x, size, mode="bilinear")
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(
        *(torch.autograd.grad(y, x, gradient)[0] for y in (found, expected)), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_bf16_is_rounded_once_a_product(factor: int) -> None:
    """Against float64 from the same bf16 values: two products, so two roundings of 2^-9 each."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(1, 4, 8, 8, generator=generator).bfloat16().requires_grad_()
    gradient = torch.rand(1, 4, 8 * factor, 8 * factor, generator=generator).bfloat16()
    y = by_products(x, gradient.shape[2:])
    [found] = torch.autograd.grad(y, x, gradient)
    exact = x.detach().double().requires_grad_()
    whole = F.interpolate(exact, gradient.shape[2:], mode="bilinear")
    [expected] = torch.autograd.grad(whole, exact, gradient.double())
    torch.testing.assert_close(y.double(), whole, rtol=2**-7, atol=0)
    torch.testing.assert_close(found.double(), expected, rtol=2**-7, atol=0)


def test_on_a_cpu_it_is_that_of_torch_bit_for_bit() -> None:
    x = torch.randn(2, 3, 4, 5, requires_grad=True)
    assert resize(x, (9, 11)).equal(F.interpolate(x, (9, 11), mode="bilinear"))
    assert resize(x, x.shape[2:]) is x


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("factor", [2, 8])
def test_on_a_gpu_the_gradient_is_the_same_twice(factor: int) -> None:
    x = torch.randn(2, 64, 16, 16, device="cuda", dtype=torch.bfloat16).requires_grad_()
    gradient = torch.randn(2, 64, 16 * factor, 16 * factor, device="cuda", dtype=torch.bfloat16)
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (torch.autograd.grad(resize(x, gradient.shape[2:]), x, gradient)[0] for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert first.equal(second)
