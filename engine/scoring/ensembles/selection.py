"""The data from which a method of METHODS selects, and the ensemble that it selects.

Shapes: N images, M members, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.scoring.combining import Combination
from engine.scoring.ensembles.observations import Losses, PixelSamples
from engine.scoring.metrics import mean_iou_of_overlaps
from engine.scoring.statistics import Overlaps

Soup = tuple[int, ...]  # the members whose weights are averaged, by number


@dataclass(frozen=True)
class SelectionData:
    """The data from which a method selects an ensemble.

    names: of the M members, then of the latest states and averages of their runs, which only soups use.
    ids: of the N images.
    overlaps: (N, 2, C) of each member.
    samples: pixels of the same images, if a method needs them.
    averageable: members of one architecture and initialisation.
    overlaps_of_soup: (N, 2, C) of the mean of the weights of some members or states.
    losses_of_soup: (N, 2) of the same: the log-loss summed over the labelled pixels, and their number.
    tails: the latest states of each run that kept any, the oldest first.
    widths: the averages for ema_post_hoc, one for each width; a single one is a soup, too.
    """

    names: Sequence[str]
    ids: Sequence[str]
    overlaps: Sequence[Overlaps]
    samples: PixelSamples | None
    averageable: Soup
    overlaps_of_soup: Callable[[Soup], Overlaps]
    losses_of_soup: Callable[[Soup], Losses]
    tails: Sequence[Soup] = ()
    widths: Soup = ()

    @property
    def num_members(self) -> int:
        return len(self.overlaps)

    def of_images(self, rows: NDArray[np.bool_]) -> "SelectionData":
        """The same for the images that `rows` (N,) marks."""
        return replace(
            self,
            ids=[id for id, is_kept in zip(self.ids, rows, strict=True) if is_kept],
            overlaps=[of_member[rows] for of_member in self.overlaps],
            samples=self.samples.of_images(rows) if self.samples else None,
            overlaps_of_soup=lambda soup: self.overlaps_of_soup(soup)[rows],
            losses_of_soup=lambda soup: self.losses_of_soup(soup)[rows],
        )

    @property
    def pixels(self) -> PixelSamples:
        assert self.samples is not None, "this method is fitted on sampled pixels"
        return self.samples

    def mIoU(self, member: int) -> float:
        return _mIoU(self.overlaps[member])

    def mIoU_of_soup(self, soup: Soup) -> float:
        return _mIoU(self.overlaps_of_soup(soup))

    def loss_of_soup(self, soup: Soup) -> float:
        """The mean log-loss of the labelled pixels; a soup of one is that member or state itself."""
        total, num_pixels = self.losses_of_soup(soup).sum(axis=0)
        return float(total / num_pixels)

    @property
    def best_member(self) -> int:
        """The first of those with the highest mIoU."""
        return max(range(self.num_members), key=self.mIoU)


@dataclass(frozen=True)
class Ensemble:
    """What a method selected: a combination of the members' predictions, or a soup, the mean of weights.

    `accepted` is False if the soup is worse than the best member, which is then used instead.
    """

    combination: Combination
    soup: Soup = ()
    note: str = ""
    accepted: bool = True

    @property
    def cost(self) -> int:
        """Forward passes per image."""
        return 1 if self.soup else len(self.combination.used)

    @property
    def key(self) -> Combination | Soup:
        """Equal for ensembles that predict the same."""
        return self.soup or self.combination

    @property
    def single_member(self) -> int | None:
        """The number of the member, if the ensemble is one unchanged member; else None."""
        used = self.combination.used
        is_one = not self.soup and len(used) == 1 and self.combination.temperatures[used[0]] == 1.0
        return used[0] if is_one else None


def one_hot(member: int, num_members: int) -> Combination:
    """One member, as a combination of all."""
    return mean_of([member], num_members)


def mean_of(members: Sequence[int], num_members: int) -> Combination:
    """The mean probability of some of the members."""
    weights = tuple((float(number in members) / len(members),) for number in range(num_members))
    return Combination("probability", weights, (1.0,) * num_members)


def _mIoU(found: Overlaps) -> float:
    return mean_iou_of_overlaps(found.sum(axis=0))
