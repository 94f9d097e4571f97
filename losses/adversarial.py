"""The losses of the discriminator and of the generator (the segmentation model), of patch logits.

Labels are the real samples, predictions the fake ones. Each patch is weighted by the share of its pixels that
are not void.

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
    """Elementwise losses of patch logits.

    real, fake: of the discriminator, for a real and for a fake patch.
    generator: of the generator, for a patch of its prediction.
    threshold: the logit above which a patch is classified as real. The scores of a critic have no fixed one:
        None takes the midpoint between the mean of the real and that of the fake patches.
    penalty: the weight of `gradient_penalty` in the discriminator's loss.
    """

    real: Callable[[Tensor], Tensor]
    fake: Callable[[Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]
    threshold: float | None
    penalty: float = 0.0


OBJECTIVES = {
    # Goodfellow et al. 2014, arXiv 1406.2661, with the non-saturating generator loss of its section 3
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
    """The mean loss of the real patches plus that of the fake ones, scalar; either is 0 if all is void.

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
    """The mean loss of the generator, scalar; 0 if all is void.

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
    """Mean over the samples of (|gradient of the score| - 1)^2 at a point between real and fake; a scalar.

    arXiv 1704.00028, eq. 3. The score of a sample is the weighted mean of its patch logits, as in the loss; a
    sample without valid pixels is ignored.

    Args:
        score: (B, K, H, W) probabilities -> patch logits and weights.
        real, fake: (B, K, H, W) probabilities.
        share: (B, 1, 1, 1) in 0..1: the weight of `real` in the point at which the gradient is taken.
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
    """Soft labels for the discriminator, which could tell labels from predictions by their being one-hot.

    Luc et al. 2016, arXiv 1611.08408, section 3.3 ("scaling"): the class of the label gets the probability of
    the model, but at least `least`; the rest is divided among the other classes in proportion to the model's
    probabilities.

    Args:
        probabilities: (B, K, H, W), of the model.
        labels: (B, H, W) int64, 0..K-1 everywhere.
        least: the smallest probability of the label's class, below 1.

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
    threshold: float | Tensor | None = _objective(objective).threshold
    if threshold is None:
        of_real, of_fake = (
            _weighted_mean(side, weight, reduce)
            for side, weight in ((real, real_weight), (fake, fake_weight))
        )
        threshold = (of_real + of_fake) / 2
    return (
        _weighted_mean((real > threshold).float(), real_weight, reduce),
        _weighted_mean((fake <= threshold).float(), fake_weight, reduce),
    )


def _objective(name: str) -> Objective:
    if name not in OBJECTIVES:
        raise LossError(str(unknown("adversarial objective", name, OBJECTIVES)))
    return OBJECTIVES[name]


def _weighted_mean(costs: Tensor, weight: Tensor, reduce: Reduce) -> Tensor:
    weight = weight.to(costs.dtype)
    return ratio_of_sums((weight * costs).sum(), weight.sum(), reduce)
