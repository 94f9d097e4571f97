"""Which samples make up update number `step`: a pure function of (seed, step), and of the weights if any.

Samples stand in an endless row of epochs, each a permutation of the set drawn from (seed, epoch). Update
`step` takes the positions step * batch .. (step + 1) * batch; process r of n takes every n-th of those. So
nothing has to be replayed to resume, and neither the number of processes nor the number of workers changes
what is trained on.
"""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class Draw:
    """One sample of one update: which one, and in which epoch, so that augmentation can depend on both.

    A WeightedOrder, which may draw a sample several times an epoch, gives the position in place of the epoch,
    or the repeats would be augmented alike.

    `host` is empty, or tells the sample that this one is laid over, and the layer.
    """

    index: int
    epoch: int
    host: str = ""


@dataclass(frozen=True)
class SampleOrder:
    """The order in which `num_samples` are seen, `batch` an update, over all processes."""

    num_samples: int
    batch: int
    seed: int

    def update(self, step: int, rank: int = 0, world_size: int = 1) -> list[Draw]:
        """The draws of process `rank` in update `step` (counted from 0)."""
        positions = range(step * self.batch + rank, (step + 1) * self.batch, world_size)
        return [self._draw(position) for position in positions]

    def _draw(self, position: int) -> Draw:
        epoch, place = divmod(position, self.num_samples)
        return Draw(int(_permutation(self.seed, epoch, self.num_samples)[place]), epoch)


@dataclass(frozen=True)
class WeightedOrder(SampleOrder):
    """An order in which some samples come more often than others.

    An epoch has `num_samples` draws still. Sample i comes num_samples * probability_i times in it, rounded up
    or down, and in the mean over epochs exactly so: its probability is a stretch of the line 0..num_samples,
    from which a comb of unit width, its offset drawn from (seed, epoch), takes one place a draw. The order
    within the epoch is that of SampleOrder.
    """

    ends: np.ndarray = field(repr=False, compare=False)  # (num_samples,): where each stretch ends

    @classmethod
    def of(cls, probabilities: np.ndarray, batch: int, seed: int) -> "WeightedOrder":
        """From (num_samples,) probabilities, not negative, 1 in sum."""
        cumulative = np.cumsum(probabilities)
        return cls(len(probabilities), batch, seed, len(probabilities) * (cumulative / cumulative[-1]))

    def _draw(self, position: int) -> Draw:
        epoch, place = divmod(position, self.num_samples)
        tooth = _permutation(self.seed, epoch, self.num_samples)[place] + _offset(self.seed, epoch)
        return Draw(int(np.searchsorted(self.ends, tooth, side="right")), position)


@lru_cache(maxsize=2)
def _offset(seed: int, epoch: int) -> float:
    """0 to below 1, in 24 bits, so that a whole number and it add up without rounding."""
    return float(np.random.default_rng([seed, epoch, 1]).random(dtype=np.float32))


@lru_cache(maxsize=2)  # a batch touches two epochs at the most where the set is larger than the batch
def _permutation(seed: int, epoch: int, num_samples: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(num_samples)
