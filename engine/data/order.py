"""Which samples make up update number `step`: a pure function of (seed, step) and the sampling weights.

The order is an endless sequence of epochs, each a permutation of the data set drawn from (seed, epoch).
Update `step` takes the positions step * batch .. (step + 1) * batch; process r of n takes every n-th of
those. So a resumed run replays nothing, and neither the number of processes nor that of workers changes
the samples that are trained on.
"""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class Draw:
    """One sample of one update: its index, and its epoch, so that augmentation can depend on both.

    A WeightedOrder may draw a sample several times per epoch, so it gives the position instead of the epoch:
    otherwise all repeats would be augmented in the same way.

    `host` is empty, or names the sample onto which this one is pasted, and the layer.
    """

    index: int
    epoch: int
    host: str = ""


@dataclass(frozen=True)
class SampleOrder:
    """The order in which `num_samples` samples are drawn, `batch` per update over all processes."""

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
    """An order in which some samples are drawn more often than others: systematic sampling.

    An epoch still has `num_samples` draws. Sample i is drawn num_samples * probability_i times in it, rounded
    up or down, and exactly that often on average over epochs: each sample has an interval of that length in
    0..num_samples, and the draws are one apart, starting at an offset drawn from (seed, epoch). The order
    within the epoch is that of SampleOrder.
    """

    ends: np.ndarray = field(repr=False, compare=False)  # (num_samples,): where each interval ends

    @classmethod
    def of(cls, probabilities: np.ndarray, batch: int, seed: int) -> "WeightedOrder":
        """From (num_samples,) probabilities: not negative, with sum 1."""
        cumulative = np.cumsum(probabilities)
        return cls(len(probabilities), batch, seed, len(probabilities) * (cumulative / cumulative[-1]))

    def _draw(self, position: int) -> Draw:
        epoch, place = divmod(position, self.num_samples)
        point = _permutation(self.seed, epoch, self.num_samples)[place] + _offset(self.seed, epoch)
        return Draw(int(np.searchsorted(self.ends, point, side="right")), position)


@lru_cache(maxsize=2)
def _offset(seed: int, epoch: int) -> float:
    """In [0, 1) with 24 bits, so that adding it to an integer does not round."""
    return float(np.random.default_rng([seed, epoch, 1]).random(dtype=np.float32))


@lru_cache(maxsize=2)  # a batch spans at most two epochs where the data set is larger than the batch
def _permutation(seed: int, epoch: int, num_samples: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(num_samples)
