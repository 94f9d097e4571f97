"""Finds weights that became NaN, which no training or prediction may start from."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def broken_tensor(model: nn.Module, tensors: Mapping[str, Tensor]) -> str | None:
    """The first of these tensors for `model` that has NaN, or that is a parameter and has infinite values.

    Buffers may be infinite, as an attention mask is.

    Args:
        tensors: by their names in the state dict of the model; others are checked as buffers are.
    """
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or tensor.is_meta:  # the latter has a shape and no values
            continue
        broken = ~torch.isfinite(tensor) if name in parameters else torch.isnan(tensor)
        if broken.any():
            return name
    return None
