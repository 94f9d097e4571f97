"""Combines the predictions of several models: a pure function of their probabilities.

Shapes: M members, C classes; the probabilities of a member are (B, C, ...).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor

LEAST = 1e-12  # lower bound of a probability, so that its logarithm is finite


@dataclass(frozen=True)
class Combination:
    """A weighted mean over members, arithmetic ("probability") or geometric ("logit").

    The mean of logits is the geometric mean of probabilities: softmax does not depend on a constant added to
    all classes.

    Args:
        space: in which the mean is taken.
        weights: one row per member; a row has one number, or one per class. Rows add up to 1 in each column.
        temperatures: one per member; its logits are divided by it first (Guo et al. 2017, arXiv 1706.04599).
    """

    space: Literal["probability", "logit"]
    weights: tuple[tuple[float, ...], ...]
    temperatures: tuple[float, ...]

    @classmethod
    def mean(cls, num_members: int, space: Literal["probability", "logit"] = "probability") -> "Combination":
        """All members with the same weight."""
        return cls(space, ((1 / num_members,),) * num_members, (1.0,) * num_members)

    @property
    def used(self) -> list[int]:
        """The numbers of the members with a weight above 0, which a prediction has to run."""
        return [number for number, row in enumerate(self.weights) if any(row)]

    def of_used(self) -> "Combination":
        """The same combination of the used members only."""
        used = self.used
        return Combination(
            self.space,
            tuple(self.weights[number] for number in used),
            tuple(self.temperatures[number] for number in used),
        )

    def __call__(self, probabilities: Sequence[Tensor]) -> Tensor:
        """(B, C, ...) of each of the M members -> (B, C, ...), which add up to 1 over the classes."""
        assert len(probabilities) == len(self.weights), "one tensor of probabilities per member"
        if len(self.used) == 1 and self.temperatures[self.used[0]] == 1.0:
            return probabilities[self.used[0]]
        total = torch.zeros_like(probabilities[0])
        for number in self.used:
            total.addcmul_(self._member(probabilities[number], number), _column(self.weights[number], total))
        if self.space == "logit":
            return total.softmax(dim=1)
        return total if self._columns == 1 else total.div_(total.sum(dim=1, keepdim=True))

    def to_dict(self) -> dict[str, object]:
        """The arguments of `Combination(**values)` in a form that JSON can hold."""
        return asdict(self)

    @property
    def _columns(self) -> int:
        return len(self.weights[0])

    def _member(self, probabilities: Tensor, number: int) -> Tensor:
        """What is averaged: sharpened or softened probabilities, or their logarithms."""
        temperature = self.temperatures[number]
        if self.space == "probability" and temperature == 1.0:
            return probabilities
        logits = probabilities.clamp(min=LEAST).log() / temperature
        return logits.softmax(dim=1) if self.space == "probability" else logits.log_softmax(dim=1)


def _column(weights: tuple[float, ...], like: Tensor) -> Tensor:
    """(C or 1, 1, ...), which multiplies (B, C, ...)."""
    return torch.tensor(weights, dtype=like.dtype, device=like.device).view(-1, *[1] * (like.dim() - 2))
