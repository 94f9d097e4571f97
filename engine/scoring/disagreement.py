"""Where the members of an ensemble disagree: mutual information and votes of each pixel.

Shapes: M members, C classes, an image of h x w pixels.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from engine.scoring.combining import LEAST


class Disagreement(NamedTuple):
    """mutual_information: (h, w) float32, in bits. votes: (h, w) uint8, the members with the label."""

    mutual_information: Tensor
    votes: Tensor


def disagreement(members: Iterable[Tensor], labels: Tensor) -> Disagreement:
    """The entropy of the mean probability less the mean entropy (arXiv 1112.5745), and votes.

    It is the mutual information of class and member: 0 where all members give the same probabilities,
    however unsure they are; `most_bits` at most. Members count alike.

    Args:
        members: (C, h, w) probabilities of each, taken one after the other.
        labels: (h, w) class ids of the prediction that the votes are for.
    """
    total, entropy, count = torch.zeros(()), torch.zeros(()), 0
    votes = torch.zeros_like(labels, dtype=torch.uint8)
    for probabilities in members:
        total = total.to(probabilities) + probabilities
        entropy = entropy.to(probabilities) + entropy_bits(probabilities)
        votes += probabilities.argmax(dim=0) == labels
        count += 1
    information = (entropy_bits(total / count) - entropy / count).clamp(min=0)  # below 0 by rounding alone
    return Disagreement(information.float(), votes)


def most_bits(num_members: int, num_classes: int) -> float:
    """The highest mutual information: each member is sure of another class, as far as there are classes."""
    return math.log2(min(num_members, num_classes))


def entropy_bits(probabilities: Tensor) -> Tensor:
    """(C, h, w) -> (h, w), the entropy in bits."""
    return -(probabilities * probabilities.clamp(min=LEAST).log2()).sum(dim=0)
