"""Global settings of torch's kernels, set for a while and then restored."""

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


@contextmanager
def convolutions_as_they_come() -> Iterator[None]:
    """cuDNN chooses its kernels without trying them. Also a decorator.

    A training has one shape, for which the trials pay; images to score have many, and each would be tried.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
