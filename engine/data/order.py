"""Which samples make up update number `step`: a pure function of (seed, step).

Samples stand in an endless row of epochs, each a permutation of the set drawn from (seed, epoch). Update
`step` takes the positions step * batch .. (step + 1) * batch; process r of n takes every n-th of those. So
nothing has to be replayed to resume, and neither the number of processes nor the number of workers changes
what is trained on.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class Draw:
    """One sample of one update: which one, and in which epoch, so that augmentation can depend on both.

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


@lru_cache(maxsize=2)  # a batch touches two epochs at the most where the set is larger than the batch
def _permutation(seed: int, epoch: int, num_samples: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(num_samples)
