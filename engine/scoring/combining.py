"""Combines the predictions of several models: a pure function of their probabilities.

Shapes: M members, C classes; the probabilities of a member are (B, C, ...).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

LEAST = 1e-12  # lower bound of a probability, so that its logarithm is finite


@dataclass(frozen=True)
class EarlyExit:
    """One member predicts an image alone where it is sure of it.

    Args:
        member: its number.
        certainty: the mean probability of its predicted classes from which on it is sure, 0..1.
    """

    member: int
    certainty: float

    def is_sure(self, certainty: Tensor) -> Tensor:
        """(B,) bool, from `Pieces.certainty` (B,)."""
        return certainty >= self.certainty


@dataclass(frozen=True)
class Combination:
    """A weighted mean over members, arithmetic ("probability") or geometric ("logit").

    The mean of logits is the geometric mean of probabilities: softmax does not depend on a constant added to
    all classes.

    Args:
        space: in which the mean is taken.
        weights: one row per member; a row has one number, or one per class. Rows add up to 1 in each column.
        temperatures: one per member; its logits are divided by it first (Guo et al. 2017, arXiv 1706.04599).
        early_exit: which images one member predicts alone; None: none.
    """

    space: Literal["probability", "logit"]
    weights: tuple[tuple[float, ...], ...]
    temperatures: tuple[float, ...]
    early_exit: EarlyExit | None = None

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
        used, early_exit = self.used, self.early_exit
        return Combination(
            self.space,
            tuple(self.weights[number] for number in used),
            tuple(self.temperatures[number] for number in used),
            early_exit and replace(early_exit, member=used.index(early_exit.member)),
        )

    def __call__(self, probabilities: Sequence[Tensor | None], sure: Tensor | None = None) -> Tensor:
        """(B, C, ...) of each of the M members -> (B, C, ...), which add up to 1 over the classes.

        Args:
            probabilities: None of members that are not needed.
            sure: (B,) bool, the images that the member of `early_exit` predicts alone; None: none.
        """
        assert len(probabilities) == len(self.weights), "one tensor of probabilities per member"
        if self.early_exit and sure is not None and sure.any():
            alone = _given(probabilities[self.early_exit.member])
            if sure.all():
                return alone
            return torch.where(sure.view(-1, *[1] * (alone.dim() - 1)), alone, self(probabilities))
        if len(self.used) == 1 and self.temperatures[self.used[0]] == 1.0:
            return _given(probabilities[self.used[0]])
        total = torch.zeros_like(_given(probabilities[self.used[0]]))
        for number in self.used:
            of_member = self._member(_given(probabilities[number]), number)
            total.addcmul_(of_member, _column(self.weights[number], total))
        if self.space == "logit":
            return total.softmax(dim=1)
        return total if self._columns == 1 else total.div_(total.sum(dim=1, keepdim=True))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Combination":
        """From what `to_dict` gives."""
        early_exit = values.get("early_exit")
        return cls(**values | {"early_exit": EarlyExit(**early_exit) if early_exit else None})

    def to_dict(self) -> dict[str, object]:
        """In a form that JSON can hold."""
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


def _given(probabilities: Tensor | None) -> Tensor:
    assert probabilities is not None, "the probabilities of a member that is needed"
    return probabilities


def _column(weights: tuple[float, ...], like: Tensor) -> Tensor:
    """(C or 1, 1, ...), which multiplies (B, C, ...)."""
    if len(weights) == 1:  # without a copy from the host, for which a training with a teacher would wait
        return like.new_full([1] * (like.dim() - 1), weights[0])
    return torch.tensor(weights, dtype=like.dtype, device=like.device).view(-1, *[1] * (like.dim() - 2))
