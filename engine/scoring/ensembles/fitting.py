"""Weights, temperatures and a greedy order of members, fitted on sampled pixels.

Shapes: P pixels, M members, C classes.
"""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional as F

from engine.scoring.combining import LEAST, Combination
from engine.scoring.confusion import confusion_matrices
from engine.scoring.ensembles.observations import PixelSamples
from engine.scoring.metrics import mean_iou_of_overlaps, overlaps

MAX_STEPS = 100
TEMPERATURES = (0.05, 20.0)  # outside, probabilities are nearly one-hot or uniform


class Added(NamedTuple):
    """A member that the greedy selection added, and the mIoU of the mean of all members added so far."""

    member: int
    mIoU: float


def fit_weights(samples: PixelSamples, by_class: bool = False) -> Combination:
    """The weighted mean of probabilities of least log-loss: a weight per member, or per member and class.

    Weights are a softmax over the members, so they are positive and add up to 1; L-BFGS starts from the mean.
    """
    M, C = samples.probabilities.shape[1:]
    flat = samples.probabilities.flatten(1)  # (P, M * C)
    of_label = _at_labels(samples)  # (P, M)
    free = torch.zeros(M, C if by_class else 1, requires_grad=True)

    def log_loss() -> Tensor:
        weights = free.softmax(dim=0)  # (M, C or 1)
        chosen = weights[:, samples.labels].T if by_class else weights[:, 0]
        likelihood = (of_label * chosen).sum(dim=1).clamp(min=LEAST).log()
        total = (
            (flat @ weights.flatten()).log() if by_class else 0.0
        )  # one weight per member: they add up to 1
        return (total - likelihood).mean()

    _minimise(log_loss, free)
    rows = free.detach().double().softmax(dim=0)
    return Combination("probability", tuple(map(tuple, rows.tolist())), (1.0,) * M)


def fit_temperatures(samples: PixelSamples) -> tuple[float, ...]:
    """For each member the temperature with the least log-loss (Guo et al. 2017, arXiv 1706.04599).

    The log-loss is convex in 1 / temperature, so there is one minimum.
    """
    return tuple(
        best_temperature(samples.probabilities[:, member].clamp(min=LEAST).log(), samples.labels)
        for member in range(samples.num_members)
    )


def greedy_order(samples: PixelSamples) -> list[Added]:
    """All members; each next one is the member whose mean with those before it has the highest mIoU.

    Forward selection as of Caruana et al. (2004), "Ensemble selection from libraries of models", without
    replacement: taking a member twice would only double its weight, and weights are what `fit_weights` fits.
    """
    total = torch.zeros_like(samples.probabilities[:, 0])  # (P, C)
    left = list(range(samples.num_members))
    order: list[Added] = []
    while left:
        best = max(_added(left, total, samples), key=lambda added: added.mIoU)
        total += samples.probabilities[:, best.member]
        left.remove(best.member)
        order.append(best)
    return order


def diverse_order(samples: PixelSamples) -> list[Added]:
    """The best member; then, repeatedly, the one that disagrees most among those that raise the mIoU.

    A member disagrees on a pixel if its class differs from the class of the mean of those added before.
    """
    each = samples.probabilities.argmax(dim=2)  # (P, M)
    total = torch.zeros_like(samples.probabilities[:, 0])  # (P, C)
    order = [max(_added(range(samples.num_members), total, samples), key=lambda added: added.mIoU)]
    total += samples.probabilities[:, order[0].member]
    while True:
        left = set(range(samples.num_members)) - {added.member for added in order}
        better = [added for added in _added(left, total, samples) if added.mIoU > order[-1].mIoU]
        if not better:
            return order
        taken = total.argmax(dim=1)  # (P,)
        best = max(better, key=lambda added: int((each[:, added.member] != taken).sum()))
        total += samples.probabilities[:, best.member]
        order.append(best)


def _at_labels(samples: PixelSamples) -> Tensor:
    """(P, M): the probability that each member gives to the label."""
    index = samples.labels.view(-1, 1, 1).expand(-1, samples.num_members, 1)
    return samples.probabilities.gather(2, index)[:, :, 0]


def _minimise(loss: Callable[[], Tensor], parameter: Tensor) -> None:
    optimizer = torch.optim.LBFGS([parameter], max_iter=MAX_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]


def best_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature with the least log-loss, of logits (P, C) and labels (P,)."""

    def log_loss(log_temperature: float) -> float:
        return float(F.cross_entropy(logits / math.exp(log_temperature), labels))

    bounds = tuple(map(math.log, TEMPERATURES))
    return math.exp(minimize_scalar(log_loss, bounds=bounds, method="bounded", options={"xatol": 1e-3}).x)


def _added(members: Iterable[int], total: Tensor, samples: PixelSamples) -> list[Added]:
    """Each of the members, added alone to a sum of probabilities (P, C)."""
    return [Added(m, _sampled_iou(total + samples.probabilities[:, m], samples.labels)) for m in members]


def _sampled_iou(probabilities: Tensor, labels: Tensor) -> float:
    num_classes = probabilities.shape[1]
    predictions = probabilities.argmax(dim=1)
    [matrix] = confusion_matrices(predictions[None, None], labels[None, None], num_classes, ignore_index=-1)
    return mean_iou_of_overlaps(overlaps(matrix.numpy()))
