"""A soup: one model whose weights are the mean of several members' (Wortsman et al. 2022, arXiv 2203.05482).

It costs what one member costs. Knows nothing of scores.
"""

import copy
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from engine.recipe import Recipe

CALIBRATION_IMAGES = 128  # of the training split, augmented as in training


def architecture(recipe: Recipe) -> tuple[object, ...]:
    """What has to agree for the mean of two models' weights to mean anything."""
    model = recipe.model
    return model.arch, model.variant, model.encoder, model.decoder_width, model.head


def mean_weights(models: Sequence[nn.Module]) -> nn.Module:
    """A new model in eval mode with the mean of what is a number with a fraction; the rest is of the first.

    Its BatchNorm statistics are those of no model: see `recalibrate`.
    """
    soup = copy.deepcopy(models[0]).eval()
    states = [model.state_dict() for model in models]
    soup.load_state_dict({key: _mean([state[key] for state in states]) for key in states[0]})
    return soup


@torch.no_grad()
def recalibrate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Running statistics of every BatchNorm from these images (B, 3, h, w) alone, each batch alike.

    As `torch.optim.swa_utils.update_bn`, but dropout and stochastic depth stay off, so it is repeatable and
    sees what predicting sees.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative mean
        norm.train()
    for images in batches:
        model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    if not tensors[0].is_floating_point():
        return tensors[0]
    return torch.stack(list(tensors)).mean(dim=0)
