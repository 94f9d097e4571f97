"""The precision of float32 matrix products, set for a while and then restored."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal

import torch


@contextmanager
def float32_products(precision: Literal["highest", "high"]) -> Iterator[None]:
    """`high` allows TF32 on GPUs, `highest` does not. Also a decorator."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


full_float32 = partial(float32_products, "highest")  # scores are the same, whichever command computes them
