"""Folds BatchNorm into the convolution before it, which is faster on a CPU; and models in eval mode."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

TOLERANCE = 1e-4  # of the largest logit; float32 rounds to about a tenth of that


@torch.no_grad()
def with_folded_norms(model: nn.Module, image: Tensor) -> nn.Module:
    """A copy whose BatchNorm layers are folded into the convolutions that they directly follow.

    It shares all other tensors with the model, and its hooks, also those that are registered later.

    Args:
        model: in eval mode. Where nothing can be folded, or the logits of the copy differ in float32, it is
            returned itself.
        image: (1, n, h, w), with which the layers are found and the logits compared.
    """
    logits, pairs = _pairs(model, image)
    if not pairs:
        return model
    hooks = (value for each in model.modules() for name, value in vars(each).items() if "hooks" in name)
    shared = {id(value): value for value in (*model.parameters(), *model.buffers(), *hooks)}
    copy = deepcopy(model, shared)
    for conv, norm in ((copy.get_submodule(of_conv), copy.get_submodule(name)) for of_conv, name in pairs):
        conv.weight, conv.bias = _fused(conv, norm)
    for _, name in pairs:
        act = getattr(copy.get_submodule(name), "act", None)  # of timm's BatchNormAct2d
        copy.set_submodule(name, nn.Identity() if act is None else act)
    is_equal = (copy(image) - logits).abs().max() <= TOLERANCE * logits.abs().max()
    return copy if is_equal else model


def _fused(conv: Any, norm: Any) -> tuple[nn.Parameter, nn.Parameter]:
    """Weight and bias of a convolution with its norm folded into it."""
    moments, affine = (norm.running_mean, norm.running_var, norm.eps), (norm.weight, norm.bias)
    return fuse_conv_bn_weights(conv.weight, conv.bias, *moments, *affine)


def _pairs(model: nn.Module, image: Tensor) -> tuple[Tensor, list[tuple[str, str]]]:
    """The logits of an image, and by name each convolution with the BatchNorm that reads its output."""
    outputs: dict[int, tuple[str, Tensor]] = {}  # with the tensor, so that no other one takes its id
    pairs = []

    def after(name: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
        outputs[id(output)] = name, output

    def before(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if id(inputs[0]) in outputs:
            pairs.append((outputs[id(inputs[0])][0], name))

    with ExitStack() as stack:
        for name, module in model.named_modules():
            if module._forward_hooks:  # somebody looks at its output, which would be another one
                continue
            if isinstance(module, nn.Conv2d):
                handle = module.register_forward_hook(partial(after, name))
            elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
                handle = module.register_forward_pre_hook(partial(before, name))
            else:
                continue
            stack.callback(handle.remove)
        return model(image), pairs


def for_predictions(model: nn.Module) -> nn.Module:
    """The module to predict with while the weights of a model do not change.

    It is the model itself, or a faster copy of it in eval mode.
    """
    prepare: Any = getattr(model, "for_predictions", None)
    if prepare is None:
        return model
    with evaluating(model):
        prepared: nn.Module = prepare()
    return prepared


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """A context with the model in eval mode; afterwards it is in the mode that it was in before."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
