"""`train.shard`: parameters, gradients and moments in shards, a part of each tensor in each process (FSDP2).

Each block of the encoder gathers its parameters when it runs, and frees them afterwards. Models are gathered
before they are scored or saved, so files and scores are the same as without sharding.
"""

from copy import deepcopy
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from engine.recipe import RecipeError
from engine.training.features import outputs_of
from models.blocks import encoder_blocks
from models.folding import evaluating


def shard(model: nn.Module, image: Tensor) -> None:
    """Replace the parameters of a model by the shards of this process; all processes call it together.

    Every process begins with the values of the first one, as with DDP.

    Args:
        image: (1, n, S, S), on which the model is tested before and after.

    Raises:
        RecipeError: the model cannot be sharded.
    """
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            dist.broadcast(tensor, 0)
    blocks = encoder_blocks(model)
    called = outputs_of(model, list(blocks), lambda: _try(model, image))
    try:
        for module in [*(blocks[name] for name in called), model]:
            fully_shard(module, reshard_after_forward=True)  # `model` too, so that it lists shards
            assert isinstance(module, FSDPModule)
            if image.device.type == "cpu":
                module.set_force_sum_reduction_for_comms(True)  # gloo has no average
        _try(model, image)
    except (RuntimeError, ValueError, NotImplementedError, AssertionError) as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):  # another process ended
            raise
        raise RecipeError(
            f"train.shard: this model cannot be sharded: {str(error).splitlines()[0]} Type train.shard=false."
        ) from error


@torch.no_grad()
def _try(model: nn.Module, image: Tensor) -> None:
    with evaluating(model):
        model(image)


def without_values(model: nn.Module) -> nn.Module:
    """A copy whose parameters have shapes but no values, to be filled by `gathered`."""
    shapes = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad) for p in model.parameters()
    }
    return deepcopy(model, shapes)


def gathered(model: nn.Module, empty: nn.Module) -> nn.Module:
    """The whole model from its shards, on each process; all processes call it together."""
    whole = deepcopy(empty)
    whole.load_state_dict({key: full(value) for key, value in model.state_dict().items()}, assign=True)
    return whole


def full(tensor: Tensor) -> Tensor:
    """The whole tensor; if it is sharded, all processes call it together."""
    if not isinstance(tensor, DTensor):
        return tensor
    whole: Tensor = tensor.full_tensor()
    return whole


def sharded_like(value: Any, like: Tensor | None) -> Any:
    """The shard of `value` for this process if `like`, of the same shape, is sharded; else `value` itself."""
    if not (isinstance(value, Tensor) and isinstance(like, DTensor) and value.shape == like.shape):
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
