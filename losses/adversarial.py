"""What the discriminator and the generator (the segmentation model) minimise, on patch logits.

A patch counts by its weight, the share of its pixels that are not void. Labels are real, predictions fake.
Knows nothing of either network.

Shapes: patch logits and weights (B, 1, h, w).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from losses.errors import choose
from losses.statistics import Reduce, full_precision, identity, ratio_of_sums


class Objective(NamedTuple):
    """The cost of each patch logit, element by element, and the logit between "fake" and "real"."""

    real: Callable[[Tensor], Tensor]  # to the discriminator, of a real patch
    fake: Callable[[Tensor], Tensor]  # to the discriminator, of a fake patch
    generator: Callable[[Tensor], Tensor]  # to the generator, of its own patch
    boundary: float


OBJECTIVES = {
    # Goodfellow et al. 2014, arXiv 1406.2661, with the generator of its section 3 that does not saturate
    "bce": Objective(lambda x: F.softplus(-x), F.softplus, lambda x: F.softplus(-x), 0.0),
    # Mao et al. 2016, arXiv 1611.04076, eq. 9: fake is 0, real is 1
    "lsgan": Objective(lambda x: (x - 1) ** 2 / 2, lambda x: x**2 / 2, lambda x: (x - 1) ** 2 / 2, 0.5),
    # Lim and Ye 2017, arXiv 1705.02894; Miyato et al. 2018, arXiv 1802.05957, eq. 16 and 17
    "hinge": Objective(lambda x: F.relu(1 - x), lambda x: F.relu(1 + x), torch.neg, 0.0),
}


def discriminator_loss(
    objective: str,
    real: Tensor,
    fake: Tensor,
    real_weight: Tensor,
    fake_weight: Tensor,
    reduce: Reduce = identity,
) -> Tensor:
    """The mean cost of the real patches plus that of the fake ones, a scalar; 0 for a side that is all void.

    Args:
        objective: "bce", "lsgan" or "hinge"; LossError for any other.
        real, fake: patch logits.
        real_weight, fake_weight: patch weights, 0..1.
        reduce: sums over all processes.
    """
    costs = choose(OBJECTIVES, objective, "adversarial objective")
    return _weighted_mean(costs.real(full_precision(real)), real_weight, reduce) + _weighted_mean(
        costs.fake(full_precision(fake)), fake_weight, reduce
    )


def generator_loss(objective: str, fake: Tensor, fake_weight: Tensor, reduce: Reduce = identity) -> Tensor:
    """The mean cost of not being taken for real, a scalar; 0 if all is void. Arguments as above."""
    costs = choose(OBJECTIVES, objective, "adversarial objective")
    return _weighted_mean(costs.generator(full_precision(fake)), fake_weight, reduce)


def discriminator_accuracy(objective: str, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """The shares of real patches taken for real and of fake ones for fake; void patches count too."""
    boundary = choose(OBJECTIVES, objective, "adversarial objective").boundary
    return (real > boundary).float().mean(), (fake <= boundary).float().mean()


def _weighted_mean(costs: Tensor, weight: Tensor, reduce: Reduce) -> Tensor:
    weight = weight.to(costs.dtype)
    return ratio_of_sums((weight * costs).sum(), weight.sum(), reduce)
