"""What the discriminator and the generator (the segmentation model) minimise, on patch logits.

Each patch is weighted by the share of its pixels that are not void. Labels are real, predictions fake.

Shapes: B samples, K classes; patch logits and weights (B, 1, h, w).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.components import unknown
from losses.statistics import Reduce, full_precision, identity, ratio_of_sums
from losses.terms import LossError


class Objective(NamedTuple):
    """The cost of each patch logit, element by element, and the logit between "fake" and "real"."""

    real: Callable[[Tensor], Tensor]  # to the discriminator, of a real patch
    fake: Callable[[Tensor], Tensor]  # to the discriminator, of a fake patch
    generator: Callable[[Tensor], Tensor]  # to the generator, of its own patch
    boundary: (
        float | None
    )  # None: the scores of a critic have no fixed zero; the midpoint between both means is used
    penalty: float = 0.0  # factor of `gradient_penalty` in the discriminator's loss


OBJECTIVES = {
    # Goodfellow et al. 2014, arXiv 1406.2661, with the generator of its section 3 that does not saturate
    "bce": Objective(lambda x: F.softplus(-x), F.softplus, lambda x: F.softplus(-x), 0.0),
    # Mao et al. 2016, arXiv 1611.04076, eq. 9: fake is 0, real is 1
    "lsgan": Objective(lambda x: (x - 1) ** 2 / 2, lambda x: x**2 / 2, lambda x: (x - 1) ** 2 / 2, 0.5),
    # Lim and Ye 2017, arXiv 1705.02894; Miyato et al. 2018, arXiv 1802.05957, eq. 16 and 17
    "hinge": Objective(lambda x: F.relu(1 - x), lambda x: F.relu(1 + x), torch.neg, 0.0),
    # Gulrajani et al. 2017, arXiv 1704.00028, eq. 3 and section 4
    "wgan_gp": Objective(torch.neg, lambda x: x, torch.neg, None, penalty=10.0),
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
        objective: a key of OBJECTIVES; LossError for any other.
        real, fake: patch logits.
        real_weight, fake_weight: patch weights, 0..1.
        reduce: sums over all processes.
    """
    costs = _objective(objective)
    return _weighted_mean(costs.real(full_precision(real)), real_weight, reduce) + _weighted_mean(
        costs.fake(full_precision(fake)), fake_weight, reduce
    )


def generator_loss(objective: str, fake: Tensor, fake_weight: Tensor, reduce: Reduce = identity) -> Tensor:
    """The mean cost to the generator of its own patches, a scalar; 0 if all is void.

    The arguments are those of `discriminator_loss`.
    """
    costs = _objective(objective)
    return _weighted_mean(costs.generator(full_precision(fake)), fake_weight, reduce)


def gradient_penalty(
    score: Callable[[Tensor], tuple[Tensor, Tensor]],
    real: Tensor,
    fake: Tensor,
    share: Tensor,
    reduce: Reduce = identity,
) -> Tensor:
    """Mean over the samples of (|gradient of the sample's score| - 1)^2, between real and fake; a scalar.

    arXiv 1704.00028, eq. 3. The score of a sample is the weighted mean of its patch logits, as in the loss; a
    sample without valid pixels is ignored.

    Args:
        score: (B, K, H, W) probabilities -> patch logits and weights.
        real, fake: (B, K, H, W) probabilities.
        share: (B, 1, 1, 1) in 0..1, of `real` in the point where the gradient is taken.
        reduce: sums over all processes.
    """
    between = torch.lerp(fake, real, share).requires_grad_()
    logits, weight = score(between)
    valid = weight.sum((1, 2, 3))  # (B,)
    scores = (logits * weight).sum((1, 2, 3)) / valid.clamp(min=torch.finfo(valid.dtype).eps)
    [gradient] = torch.autograd.grad(scores.sum(), between, create_graph=True)  # (B, K, H, W)
    counts = (valid > 0).to(scores.dtype)
    costs = (gradient.flatten(1).norm(dim=1) - 1) ** 2
    return ratio_of_sums((counts * costs).sum(), counts.sum(), reduce)


def smoothed_labels(probabilities: Tensor, labels: Tensor, least: float) -> Tensor:
    """Labels for the real side, softened so that they do not differ from predictions by being one-hot.

    Luc et al. 2016, arXiv 1611.08408, section 3.3 ("scaling"): the class of the label has at least `least`,
    or what the model gives it if that is more; the others share the rest as the model's probabilities do.

    Args:
        probabilities: (B, K, H, W), of the model.
        labels: (B, H, W) int64, 0..K-1 everywhere.
        least: below 1.

    Returns:
        (B, K, H, W), summing to 1 over the classes.
    """
    index = labels.unsqueeze(1)  # (B, 1, H, W)
    own = probabilities.gather(1, index)
    rest = (1 - least) / (1 - own).clamp(min=1 - least)  # 1 where the model's probability is above `least`
    return (probabilities * rest).scatter_(1, index, own.clamp(min=least))


def discriminator_accuracy(
    objective: str,
    real: Tensor,
    fake: Tensor,
    real_weight: Tensor,
    fake_weight: Tensor,
    reduce: Reduce = identity,
) -> tuple[Tensor, Tensor]:
    """The shares of real patches classified as real and of fake ones as fake, weighted as in the loss."""
    boundary: float | Tensor | None = _objective(objective).boundary
    if boundary is None:
        of_real, of_fake = (
            _weighted_mean(side, weight, reduce)
            for side, weight in ((real, real_weight), (fake, fake_weight))
        )
        boundary = (of_real + of_fake) / 2
    return (
        _weighted_mean((real > boundary).float(), real_weight, reduce),
        _weighted_mean((fake <= boundary).float(), fake_weight, reduce),
    )


def _objective(name: str) -> Objective:
    if name not in OBJECTIVES:
        raise LossError(str(unknown("adversarial objective", name, OBJECTIVES)))
    return OBJECTIVES[name]


def _weighted_mean(costs: Tensor, weight: Tensor, reduce: Reduce) -> Tensor:
    weight = weight.to(costs.dtype)
    return ratio_of_sums((weight * costs).sum(), weight.sum(), reduce)
