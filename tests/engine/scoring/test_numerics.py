import pytest
import torch

from engine.scoring.numerics import full_float32


def test_the_precision_is_set_in_the_block_and_restored_even_after_an_error() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with pytest.raises(ZeroDivisionError), full_float32():
            assert torch.get_float32_matmul_precision() == "highest"
            raise ZeroDivisionError
        assert torch.get_float32_matmul_precision() == "high"
        assert full_float32()(torch.get_float32_matmul_precision)() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
